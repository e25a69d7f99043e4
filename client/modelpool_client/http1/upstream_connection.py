"""A connection to who answers in the end: no faster than its answers are taken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, TypeAlias, cast

import httptools

from .comments import is_comment
from .endpoint import Endpoint
from .exchange import BUFFER_BYTES, Source
from .message import Headers

Keep: TypeAlias = "Callable[[UpstreamConnection], None]"

HEAD_BYTES = 64 * 1024
TOO_LARGE = f"its headers are larger than {HEAD_BYTES:,} bytes"
# By any of which an answer says where it ends.
_LENGTHS = frozenset({b"content-length", b"transfer-encoding"})
# Of a request, what is handed over at once.
SLICE_BYTES = 64 * 1024


class UpstreamError(Exception):
    """No whole answer came; the text says why."""


class NotReached(UpstreamError):
    """There was no connection: it was refused, or not made in time."""


class BrokenOff(UpstreamError):
    """The connection was lost before the end of the answer."""


class BadReply(UpstreamError):
    """What came cannot be passed on: no HTTP, or headers larger than ``HEAD_BYTES``."""


class Sink(Protocol):
    """Takes the pieces of an answer; while ``is_full`` it would rather not.

    Attributes:
        source: is told when that changes.
    """

    source: Source | None

    @property
    def is_full(self) -> bool: ...
    def write(self, data: bytes, /) -> None: ...


class Taker(Protocol):
    """Takes an answer as it comes, by callbacks; those of a ``Sink`` as well, if it says so by
    ``flow_to``."""

    def take(self, data: bytes) -> bool:
        """The first bytes of an answer: True if it was all of it, and needs no reading."""
        ...

    def changed(self) -> None:
        """Something came, or nothing will, that was not written to it."""


class UpstreamConnection(asyncio.Protocol):
    """What comes over it is the answer to the request at hand.

    As a context it is kept for the next request if the answer was read to its end; else it is
    aborted, which tells the other side to stop. Only one task may use it.

    Attributes:
        status: of the answer; 0 until its head is there.
        headers: of the answer, names in lower case; no trailers.
        has_heard: something has come since the request.
        has_written: something of the request was handed over.
        answered_at: when the first of the body came, but for the comments of a stream that is
            silent, in seconds of ``perf_counter``; None: nothing has.
        was_kept: it may have been closed by the other side since.
        idle_since: when it was kept, in the loop's seconds.
    """

    _transport: asyncio.Transport

    def __init__(self, endpoint: Endpoint, keep: Keep, *, until_close: bool = False) -> None:
        """
        Args:
            until_close: an answer that says nothing of its length ends where the other side closes
                the connection, which cannot be told from one that breaks off.
        """
        self.endpoint = endpoint
        self._until_close = until_close
        self.was_kept = False
        self.idle_since = 0.0
        self._keep = keep
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._is_full = False
        self._is_paused = False
        self._sink: Sink | None = None
        self._taker: Taker | None = None
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append  # not a method: it is called for every chunk
        self._parser = httptools.HttpResponseParser(self)
        self._reset()
        self._is_complete = True  # nothing is asked yet

    def _reset(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self.has_heard = self.has_written = False
        self.answered_at: float | None = None
        self._buffered = 0
        self._is_sent = False
        self._is_complete = False
        self._is_kept_alive = False
        self._error: Exception | None = None

    @property
    def is_open(self) -> bool:
        """Neither side has closed it, as far as is known."""
        return not self._transport.is_closing()

    def close(self) -> None:
        """End it while it is idle."""
        self._transport.close()

    # -- for who asks ----------------------------------------------------------------------------

    async def ask(self, head: bytes, body: bytes) -> None:
        """Send a request and wait for the head of its answer.

        Raises:
            UpstreamError: there is none; the connection is of no more use.
        """
        self._reset()
        if not self.is_open:  # lost since it was chosen: its taker had to wait for his turn
            raise BrokenOff(self._how_far())
        self.has_written = True
        try:
            await self._send(head, body)
        except BaseException:
            self._transport.abort()
            raise
        await self.answer()

    async def answer(self) -> None:
        """Wait for the head of the answer.

        Raises:
            UpstreamError: there is none; the connection is of no more use.
        """
        try:
            while not self.status:
                if self._error is not None:
                    raise self._error
                await self._change()
        except BaseException:
            self._transport.abort()
            raise

    async def piece(self) -> bytes:
        """What of the body has come since the last call, after waiting for some; b"" at its end.

        Raises:
            UpstreamError: it breaks off here.
        """
        while not self._pieces:
            if self._is_complete:
                return b""
            if self._error is not None:
                raise self._error
            await self._change()
        return self._take()

    async def read(self) -> bytes:
        """All that is left of the body.

        Raises:
            UpstreamError: it breaks off.
        """
        pieces = []
        while piece := await self.piece():
            pieces.append(piece)
        return b"".join(pieces)

    def __enter__(self) -> UpstreamConnection:
        return self

    async def pipe(self, sink: Sink) -> None:
        """Hand all that is left of the body to ``sink`` as it comes, without a step of this task.
        What ``sink`` raises is raised here, too.

        Raises:
            UpstreamError: it breaks off.
        """
        if self._pieces:
            sink.write(self._take())
        self._sink, sink.source = sink, self
        try:
            if sink.is_full:
                self.pause()
            while not self._is_complete:
                if self._error is not None:
                    raise self._error
                await self._change()
        finally:
            self._sink = sink.source = None
            self.resume()

    def pause(self) -> None:
        """Take nothing for now."""
        if not self._is_paused and self.is_open:
            self._is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Take more."""
        if self._is_paused:
            self._is_paused = False
            if self.is_open:
                self._transport.resume_reading()

    # -- for a taker -------------------------------------------------------------------------------

    def ask_for(self, taker: Taker, request: bytes) -> None:
        """Send a whole request whose answer ``taker`` gets. Before the taker is done it says so:
        by ``release``, ``leave`` or ``let_go``."""
        self._reset()
        self._taker = taker
        self.has_written = self._is_sent = True
        self._transport.write(request)

    @property
    def is_complete(self) -> bool:
        """All of the answer has come."""
        return self._is_complete

    @property
    def is_broken(self) -> bool:
        """No more of the answer will come."""
        return self._error is not None

    def is_read(self) -> None:
        """What came was all of the answer, from a server that keeps the connection."""
        self.answered_at = time.perf_counter()
        self._is_complete = self._is_kept_alive = True

    def flow_to(self, sink: Sink) -> bytes:
        """What of the body is there; what still comes is written to ``sink``."""
        if sink.is_full:
            self.pause()
        self._sink = sink
        return self._take() if self._pieces else b""

    def release(self) -> None:
        """The whole answer was taken: another request may follow."""
        self.let_go()
        if self._is_kept_alive and self.is_open:
            self._keep(self)
        else:
            self._transport.abort()

    def refuse(self, error: Exception) -> None:
        """What came makes no sense to who took it: whoever awaits the rest hears of ``error``, at
        the end of the answer, too."""
        self._is_complete = False
        self._fail(error)

    def leave(self) -> None:
        """Nobody wants the rest of the answer."""
        self.let_go()
        self._transport.abort()

    def let_go(self) -> None:
        """The rest of the answer is for who awaits it."""
        self._taker = self._sink = None
        self.resume()

    @property
    def length(self) -> int | None:
        """Bytes of the body, if its head says them."""
        for key, value in self.headers:
            if key == b"content-length":
                return int(value)
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        is_read = self._is_complete and not self._pieces
        if is_read and self._is_sent and self._is_kept_alive and self.is_open:
            self._keep(self)
        else:
            self._transport.abort()

    async def _send(self, head: bytes, body: bytes) -> None:
        """Hand it over no faster than it is taken; stop where the answer comes before the end."""
        if len(body) <= SLICE_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            view = memoryview(body)
            for start in range(0, len(body), SLICE_BYTES):
                self._transport.write(view[start : start + SLICE_BYTES])
                while self._is_full and not self._is_answered:
                    await self._change()
                if self._is_answered:
                    return
        self._is_sent = True

    @property
    def _is_answered(self) -> bool:
        return self.status > 0 or self._error is not None

    def _take(self) -> bytes:
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._buffered = 0
        if self._sink is None:
            self.resume()
        return data

    async def _change(self) -> None:
        """Wait until something has happened."""
        self._waiter = self._loop.create_future()
        await self._waiter

    # -- for the loop ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an isinstance check: uvloop's transports are no subclasses.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._is_complete:  # an answer to what?
            self._transport.abort()
            return
        if self._taker is not None and not self.has_heard:
            self.has_heard = True
            if self._taker.take(data):
                return
        self.has_heard = True
        self._buffered += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as e:
            self._fail(BadReply(f"it does not speak HTTP/1.1 as it should: {e.__context__ or e}"))
            return
        if self.answered_at is None and self._pieces and not all(map(is_comment, self._pieces)):
            self.answered_at = time.perf_counter()
        if self._buffered > HEAD_BYTES and not self.status:
            self._fail(BadReply(TOO_LARGE))
        elif self._sink is not None:
            if self._pieces:
                try:
                    self._sink.write(self._take())
                except Exception as e:
                    self.refuse(e)
                    return
            if self._is_complete:
                self._wake()
            return
        elif self._buffered > BUFFER_BYTES:
            self.pause()
        self._wake()

    def eof_received(self) -> None:
        if self._until_close and self.status and not _LENGTHS & {name for name, _ in self.headers}:
            self._is_complete = True
        self._fail(BrokenOff(self._how_far()))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(BrokenOff(f"{self._how_far()}: {exc}" if exc else self._how_far()))

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._wake()

    def _fail(self, error: Exception) -> None:
        if not self._is_complete and self._error is None:
            self._error = error
        self._transport.abort()
        self._wake()

    def _how_far(self) -> str:
        where = "in the middle of its answer" if self.has_heard else "before it answered"
        return f"the connection was lost {where}"

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        elif self._taker is not None:
            self._taker.changed()

    # -- for the parser --------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._is_complete:  # its body must not become part of this one's
            raise BadReply("it sent more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # an interim answer; the real one follows
            self.headers.clear()
            return
        if (
            self._buffered > HEAD_BYTES
            and sum(len(k) + len(v) for k, v in self.headers) > HEAD_BYTES
        ):
            raise BadReply(TOO_LARGE)
        self.status = status

    def on_message_complete(self) -> None:
        self._is_complete = self.status > 0
        self._is_kept_alive = self._parser.should_keep_alive()
