"""Answers of a server elsewhere as the front reads them, with a limit to its silence."""

from __future__ import annotations

import asyncio
from types import TracebackType

from modelpool_client.errors import ModelPoolError, UpstreamTimeout
from modelpool_client.http1.exchange import Source
from modelpool_client.http1.message import Headers
from modelpool_client.http1.upstream_connection import Sink, UpstreamConnection, UpstreamError

from .errors import Provider
from .streams import Counted, Decoder


class StreamReply:
    """An answer as it comes, by way of a decoder. Every error says who failed.

    Raises ``ModelPoolError`` wherever it breaks off.
    """

    status = 200

    def __init__(
        self,
        connection: UpstreamConnection,
        headers: Headers,
        provider: Provider,
        decoder: Decoder,
        seconds: float,
    ) -> None:
        """
        Args:
            seconds: how long it may be silent.
        """
        self.headers = headers
        self.decoder = decoder
        self._connection = connection
        self._provider = provider
        self._seconds = seconds
        self._has_ended = False

    @property
    def length(self) -> int | None:
        """See ``Reply``."""
        return None

    @property
    def tokens(self) -> int:
        """Generated, where its decoder counts them, at the end."""
        return self.decoder.tokens if isinstance(self.decoder, Counted) else 0

    @property
    def usage(self) -> bytes:
        """What it told of its tokens, whether or not that is passed on."""
        return getattr(self.decoder, "usage", b"")

    async def piece(self) -> bytes:
        """See ``Reply``."""
        while not self._has_ended:
            data = await self._next()
            if not data:
                self._has_ended = True
                return self.decoder.end()
            if told := self.decoder.feed(data):
                return told
        return b""

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(self._seconds):
                return await self._connection.piece()
        except TimeoutError:
            raise self.silent() from None
        except UpstreamError as e:
            raise self.broken(e) from e

    async def read(self) -> bytes:
        """See ``Reply``."""
        pieces = []
        while not self._has_ended:
            pieces.append(await self.piece())
        return b"".join(pieces)

    async def pipe(self, sink: Sink) -> None:
        """See ``Reply``."""
        if self._has_ended:
            return
        passage = _Passage(self, sink, self._connection, self._seconds)
        try:
            await self._connection.pipe(passage)
        except UpstreamError as e:
            raise passage.error or self.broken(e) from e
        finally:
            passage.close()
        if passage.error is not None:
            raise passage.error
        self._has_ended = True
        if last := self.decoder.end():
            sink.write(last)

    def silent(self) -> UpstreamTimeout:
        """The error for a server that sends nothing any more."""
        return self._provider.timed_out(f"sent nothing for {self._seconds:g} s of its answer")

    def broken(self, error: UpstreamError) -> ModelPoolError:
        """The error for an answer that has no end."""
        return self._provider.failed(f"broke off its answer: {error}")

    def __enter__(self) -> StreamReply:
        self._connection.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._connection.__exit__(kind, error, at)


class _Passage:
    """What comes over a connection, on its way through the decoder to a sink. The first error ends
    the connection, for it happens where nobody could catch it."""

    def __init__(
        self, reply: StreamReply, sink: Sink, connection: UpstreamConnection, seconds: float
    ) -> None:
        self.error: ModelPoolError | None = None
        self._reply = reply
        self._sink = sink
        self._connection = connection
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._timer = self._loop.call_later(seconds, self._look)

    @property
    def source(self) -> Source | None:
        """See ``Sink``."""
        return self._sink.source

    @source.setter
    def source(self, source: Source | None) -> None:
        self._sink.source = source

    @property
    def is_full(self) -> bool:
        """See ``Sink``."""
        return self._sink.is_full

    def write(self, data: bytes) -> None:
        """See ``Sink``."""
        self._heard_at = self._loop.time()
        if self.error is not None:
            return
        try:
            told = self._reply.decoder.feed(data)
        except ModelPoolError as e:
            self._fail(e)
        else:
            if told:
                self._sink.write(told)

    def close(self) -> None:
        """Nothing more comes."""
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        if self._sink.is_full:  # it is the client who keeps it waiting
            self._heard_at = now
        if now - self._heard_at >= self._seconds:
            self._fail(self._reply.silent())
        else:
            self._timer = self._loop.call_at(self._heard_at + self._seconds, self._look)

    def _fail(self, error: ModelPoolError) -> None:
        self.error = error
        self._connection.close()
