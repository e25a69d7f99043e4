"""Answers of servers of Ollama as a front's ``link.Reply``: told anew as they come, or whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import TracebackType

from modelpool_client.http1.exchange import Source
from modelpool_client.http1.message import Headers
from modelpool_client.http1.upstream_connection import BadReply, BrokenOff, Sink, UpstreamConnection

from modelpool_worker.json_lines import JsonLines

from .answers import Telling, failed

# The end of an answer comes with its last line, or the connection is not kept.
END_SECONDS = 0.5


class LineReply:
    """A stream of lines, each told anew. ``first`` has come already; ``done`` is called once, when
    nobody wants more of it; ``silence_seconds``: longer than that none may take."""

    status = 200
    length: int | None = None

    def __init__(
        self,
        connection: UpstreamConnection,
        first: bytes,
        telling: Telling,
        silence_seconds: float,
        done: Callable[[], object],
    ) -> None:
        self.headers: Headers = [(b"content-type", telling.kind)]
        self._connection = connection
        self._first = first
        self._telling = telling
        self._lines = JsonLines(failed)
        self._silence_seconds = silence_seconds
        self._done = done
        self._trouble: BadReply | None = None
        self._may_go_on = asyncio.Event()
        self._may_go_on.set()

    async def piece(self) -> bytes:
        """See ``Reply``.

        Raises:
            UpstreamError: it breaks off, or its last line says nothing of an end.
        """
        while not self._telling.is_done:
            if self._trouble is not None:
                raise self._trouble
            data = await self._next()
            if told := b"".join(self._told(data)):
                return told
            if not data and not self._telling.is_done and self._trouble is None:
                raise BrokenOff("Ollama ended its answer without saying that it is done")
        await self._end()
        return b""

    def _told(self, data: bytes) -> Iterator[bytes]:
        """Up to the last line: what follows it is nothing to anybody. What comes before one that
        is none is told first."""
        try:
            for line in self._lines.feed(data) if data else self._lines.end():
                if not self._telling.is_done:
                    yield self._telling.line(line)
        except BadReply as e:
            self._trouble = e

    async def _next(self) -> bytes:
        if self._first:
            data, self._first = self._first, b""
            return data
        try:
            async with asyncio.timeout(self._silence_seconds):
                return await self._connection.piece()
        except TimeoutError:
            text = (
                f"Ollama said nothing for {self._silence_seconds:g} s in the middle of its answer"
            )
            raise BrokenOff(text) from None

    async def _end(self) -> None:
        """Let the connection be kept: what is left is the mark of the end."""
        try:
            async with asyncio.timeout(END_SECONDS):
                while await self._connection.piece():
                    pass
        except Exception:  # all that was wanted is there
            return

    async def read(self) -> bytes:
        """See ``Reply``."""
        pieces = []
        while piece := await self.piece():
            pieces.append(piece)
        return b"".join(pieces)

    async def pipe(self, sink: Sink) -> None:
        """See ``Reply``."""
        source: Source = self
        sink.source = source
        try:
            while piece := await self.piece():
                sink.write(piece)
                if sink.is_full:
                    self.pause()
                await self._may_go_on.wait()
        finally:
            sink.source = None

    def pause(self) -> None:
        """See ``Source``."""
        self._may_go_on.clear()

    def resume(self) -> None:
        """See ``Source``."""
        self._may_go_on.set()

    def __enter__(self) -> LineReply:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            self._connection.__exit__(kind, error, at)
        finally:
            self._done()
