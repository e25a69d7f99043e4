"""One request and its answer, as whoever answers it sees them."""

from __future__ import annotations

import asyncio
import json
import logging
import weakref
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Protocol

from modelpool_client.errors import (
    CODE_HEADER,
    InternalError,
    ModelPoolError,
    PayloadTooLarge,
    RequestTimeout,
)
from modelpool_client.errors import Source as Speaker
from modelpool_client.surfaces.dialect import OPENAI, Dialect

from . import content_coding
from .comments import is_comment
from .message import BODILESS, Headers, Request, status_line
from .request_ids import REQUEST_ID, id_of

log = logging.getLogger(__name__)

JSON_TYPE = (b"content-type", b"application/json")
# Of a body that nobody reads yet, and of an answer that its reader does not take.
BUFFER_BYTES = 256 * 1024
# A compressed body of this size is decoded in place: at most a thousand times as much, in 10 ms.
DECODED_IN_PLACE_BYTES = 16 * 1024
SWITCHED = 101
CODE = CODE_HEADER.encode()
# After these the rest of the request may still come, unwanted.
LAST_ONES = (PayloadTooLarge, RequestTimeout)
# Which is at work, for whoever writes a log line. What a request has begun may outlive it.
_current: ContextVar[Callable[[], Exchange | None] | None] = ContextVar("exchange", default=None)


def current() -> Exchange | None:
    """The one whose task this is, or that has begun this task; None where there is none, or its
    answer has ended."""
    exchange = begun_by()
    return None if exchange is None or exchange.has_ended else exchange


def begun_by() -> Exchange | None:
    """As ``current``, its answer having ended or not."""
    find = _current.get()
    return None if find is None else find()


def not_about_a_request() -> None:
    """Whose log lines follow in this task are about something else."""
    _current.set(None)


class Source(Protocol):
    """Where what is written comes from; told to stop while the client does not take it."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Answer(Protocol):
    """Where an answer is written to: an exchange, or what stands for several.

    Attributes:
        status: of the answer; 0 until it has begun.
        is_full: who writes should wait.
        source: is paused and resumed as ``is_full`` changes.
    """

    source: Source | None

    @property
    def status(self) -> int: ...
    @property
    def is_full(self) -> bool: ...
    def send(self, status: int, headers: Headers, body: bytes) -> None: ...
    def begin(self, status: int, headers: Headers, length: int | None = None) -> None: ...
    def write(self, data: bytes) -> None: ...
    def end(self) -> None: ...


class Tap(Protocol):
    """Hears all that is said in an exchange, decoded; must be quick."""

    def asked(self, body: bytes) -> None:
        """The whole body of the request."""

    def begun(self, status: int, headers: Headers) -> None:
        """The head of the answer."""

    def answered(self, data: bytes) -> None:
        """A piece of the answer's body."""


class Framing(Protocol):
    """What a channel makes of answers that marks their begins and ends otherwise than HTTP/1.1."""

    def begin(self, status: int, headers: Headers, *, is_stream: bool) -> None:
        """The head of an answer. ``is_stream``: its body is made of the dialect's parts."""


class Channel(Protocol):
    """The connection, as far as one exchange needs it.

    Attributes:
        framing: is told the heads of answers, of which only the bodies are sent then; None: what is
            sent is HTTP/1.1.
    """

    @property
    def framing(self) -> Framing | None: ...

    def send(self, data: bytes) -> None: ...
    def read_on(self) -> None:
        """More of the body is wanted."""

    def answered(self, exchange: Exchange) -> None:
        """The answer is complete."""

    def abort(self) -> None: ...
    def now(self) -> float: ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...


class Exchange:
    """What was sent so far decides in which form an error can still be told.

    As a context it tells its client whatever goes wrong within, and nothing leaves it but the
    cancellation that a client's leaving is. Only one task answers. It is cancelled when the client
    leaves, unless ``on_left`` is set to something else, and when somebody calls ``stop``.

    Attributes:
        speaker: who answers, for errors that say nobody.
        status: of the answer; 0 until it has begun. Once a stream has broken off, the error's.
        headers: go with whatever answer comes.
        is_kept_alive: the connection may carry another request afterwards.
        has_begun: its task runs.
        refusal: why it is no request that could be handled.
        stopped_by: what its client is told because it was stopped.
        has_left: the client is gone.
        is_full: the client does not take what it was sent; who writes should wait.
        source: is paused and resumed as ``is_full`` changes.
        dialect: in which its client is told of errors and silence.
        wait_reason: makes the text of the comments that a silent stream gets; None for no comments.
        code: of the error that it ended with; empty where there was none.
        model: that is asked for, as far as the request was read; for logs.
        sent_bytes: of the answer's body.
        began_at, first_at: when it came, and when the first piece of its answer was written that is
            no comment; seconds of the loop's clock.
        rows_due: workers that will tell of this request once it is over; for logs.
        tap: hears all that is said from now on.
        peer: the address of its client, where somebody hears of its end.
    """

    def __init__(
        self, channel: Channel, request: Request, speaker: Speaker, *, is_kept_alive: bool
    ) -> None:
        self.request = request
        self.speaker: Speaker = speaker
        self.status = 0
        self.headers: Headers = []
        self.is_kept_alive = is_kept_alive
        self.has_left = False
        self.is_full = False
        self.has_ended = False
        self.has_begun = False
        self.stopped_by: ModelPoolError | None = None
        self.refusal: ModelPoolError | None = None
        self.source: Source | None = None
        self.on_left: Callable[[], None] = self.cancel
        self.dialect: Dialect = OPENAI
        self.wait_reason: Callable[[], str] | None = None
        self.tap: Tap | None = None
        self.task: asyncio.Task[None] | None = None
        self._channel = channel
        self._waiter: asyncio.Future[None] | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._limit: int | None = None
        self._is_received = self._is_reading = False
        self._has_body = request.method != "HEAD"
        self._is_chunked = self._is_stream = False
        self._is_between_parts = True
        self._error: ModelPoolError | None = None
        self.code = self.model = self.peer = ""
        self.sent_bytes = self.rows_due = 0
        self.first_at: float | None = None
        self.began_at = self._last_write = channel.now()

    def __repr__(self) -> str:
        return f"<Exchange {self.request.method} {self.request.raw_path!r}: {self.status}>"

    @property
    def channel(self) -> Channel:
        """The connection."""
        return self._channel

    @property
    def is_stream(self) -> bool:
        """Its answer is a stream of the dialect's parts, as far as it has begun."""
        return self._is_stream

    async def run(self, handler: Callable[[Exchange], Awaitable[None]]) -> None:
        """Have it answered."""
        self.has_begun = True
        _current.set(weakref.ref(self))
        try:
            with self:
                if self.refusal is not None:
                    raise self.refusal
                await handler(self)
        finally:
            self.abort()  # where there is no answer to its end

    def hand_over(self) -> None:
        """Its connection is another's from now on, who was given the answer."""
        self.status, self.has_ended = SWITCHED, True

    def take_over(
        self,
        headers: Headers | None,
        *,
        is_between_parts: bool,
        last_write: float,
        sent_bytes: int,
    ) -> None:
        """Go on with what was answered without it: nothing yet, or the begin of an answer in chunks
        that has those ``headers`` and ``sent_bytes`` of a body, written last at ``last_write``."""
        self._last_write = last_write
        self.sent_bytes = sent_bytes
        if headers is not None:
            self.status, self._is_chunked = 200, True
            self._is_stream = is_stream(headers, self.dialect)
            self._is_between_parts = is_between_parts

    # -- the request -----------------------------------------------------------------------------

    async def read_body(self, limit: int, key: str = "") -> bytes:
        """The whole body, decompressed: the request reads then as if it had come so. Names of keys
        are told to whoever sends too much.

        Raises:
            PayloadTooLarge: more than ``limit`` bytes, as it came or decompressed.
            RequestTimeout: nothing more of it came in time.
            UnsupportedMediaType: it is compressed in a way that is not understood.
            InvalidRequest: it is not what its Content-Encoding says.
        """
        decode = content_coding.decoder(self.request.fields.get(content_coding.HEADER))
        self._limit = limit
        self._is_reading = True
        self._check_size(self._declared_length(), key)
        if not self._is_received:
            if b"expect" in self.request.fields:
                self._channel.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._channel.read_on()
        try:
            while not self._is_received:
                if self._error is not None:
                    raise self._error
                self._check_size(self._size, key)
                await self._change()
        finally:
            self._is_reading = False
        self._check_size(self._size, key)
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        if decode is not None:
            body = await _decoded(decode, body, limit)
            self.request.drop(content_coding.HEADER)
        if self.tap is not None:
            self.tap.asked(body)
        return body

    def _declared_length(self) -> int:
        value = self.request.fields.get(b"content-length")
        return int(value) if value is not None else 0

    def _is_rest_short(self) -> bool:
        """What still comes of the body is worth waiting for, to throw it away: a few bytes, and
        sure to be sent."""
        length = self.request.fields.get(b"content-length")
        if length is None or b"expect" in self.request.fields:
            return False
        return int(length) <= BUFFER_BYTES

    def _check_size(self, size: int, key: str = "") -> None:
        if self._limit is not None and size > self._limit:
            self._parts.clear()
            hint = f" ({key})" if key else ""
            raise PayloadTooLarge(f"the body is larger than {self._limit:,} bytes{hint}")

    # -- the answer ------------------------------------------------------------------------------

    def send(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer."""
        if self.has_ended:
            return
        if self.status:
            raise RuntimeError("an answer that has begun cannot begin again")
        head = self._head(status, headers, len(body))
        self.sent_bytes = len(body)
        if self.tap is not None:
            self.tap.answered(body)
        self._channel.send(head + body if self._has_body and body else head)
        self._end()

    def send_json(self, status: int, value: object, *headers: tuple[bytes, bytes]) -> None:
        """A whole answer with a JSON body."""
        self.send(status, [JSON_TYPE, *headers], json.dumps(value).encode())

    def begin(self, status: int, headers: Headers, length: int | None = None) -> None:
        """An answer that comes in pieces, of ``length`` bytes if that is known."""
        if not self.has_ended:
            self._channel.send(self._head(status, headers, length))

    def write(self, data: bytes) -> None:
        """The next piece; nothing after the client has left."""
        if self.has_ended or not data:
            return
        if self.tap is not None:
            self.tap.answered(data)
        self._last_write = self._channel.now()
        self.sent_bytes += len(data)
        if self.first_at is None and not (self._is_stream and is_comment(data)):
            self.first_at = self._last_write
        if self._is_stream:
            self._is_between_parts = data.endswith(self.dialect.part_end)
        if self._has_body:
            self._channel.send(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    def end(self) -> None:
        """The answer that was begun is complete."""
        if self.has_ended:
            return
        if self._is_chunked and self._has_body:
            self._channel.send(b"0\r\n\r\n")
        self._end()

    async def drain(self) -> None:
        """Return when the client takes what it is sent."""
        while self.is_full and not self.has_ended:
            await self._change()

    def fail(self, error: ModelPoolError) -> None:
        """Tell an error in whichever way is still open: as the answer, within a stream of events,
        or by an answer that has no end."""
        if self.has_ended:
            return
        self.code = error.code
        if not self.status:
            if isinstance(error, LAST_ONES):
                self.is_kept_alive = False
            self.send_json(error.status, self.dialect.error(error), *error.raw_headers())
            return
        self.status = error.status
        if self._is_stream:
            self.write(self.dialect.broken(error))
            self.end()
        else:
            self.abort()

    def abort(self) -> None:
        """Break off: whoever reads finds no end."""
        if not self.has_ended:
            self._end(is_aborted=True)
            self._channel.abort()

    def pass_comments(self, headers: Headers, data: bytes) -> None:
        """Parts of a stream that its readers ignore, as they came from somebody else; they begin
        the stream where nothing has. Those of one that has lost a race may come while the
        winner is in the middle of a part, and go nowhere."""
        if not self.status:
            self.begin(200, headers)
        if self._is_between_parts:
            self.write(data)

    def comment(self, text: str) -> None:
        """A line that clients of a stream ignore; begins the stream where nothing has."""
        if not self.status:
            self.begin(200, list(self.dialect.stream_headers))
        self.write(self.dialect.comment(text.replace("\n", " ")))

    def _head(self, status: int, headers: Headers, length: int | None) -> bytes:
        self.status = status
        if self.tap is not None:
            self.tap.begun(status, [*headers, *self.headers])
        self._last_write = self._channel.now()
        if length is None:
            self._is_stream = is_stream(headers, self.dialect)
        told = [*headers, *self.headers]
        if status >= 400 and not self.code:
            self.code = dict(told).get(CODE, b"").decode("latin-1")
        if all(name != REQUEST_ID for name, _ in told):
            told.append((REQUEST_ID, id_of(self.request)))
        framing = self._channel.framing
        if framing is not None:
            framing.begin(status, told, is_stream=self._is_stream)
            return b""
        lines = [status_line(status), *[b"%b: %b\r\n" % pair for pair in told]]
        if status in BODILESS:
            self._has_body = False
        elif length is not None:
            lines.append(b"content-length: %d\r\n" % length)
        elif self.request.is_1_0:
            self.is_kept_alive = False
        else:
            self._is_chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        if not self._is_received and not self._is_rest_short():
            self.is_kept_alive = False
        if not self.is_kept_alive:
            lines.append(b"connection: close\r\n")
        elif self.request.is_1_0:
            lines.append(b"connection: keep-alive\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def _end(self, *, is_aborted: bool = False) -> None:
        self.has_ended = True
        self._wake()
        if not is_aborted:
            self._channel.answered(self)

    def __enter__(self) -> Exchange:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> bool:
        if isinstance(error, asyncio.CancelledError):
            if self.stopped_by is None:
                return False
            if self.task is not None:
                self.task.uncancel()
            error = self.stopped_by
        if isinstance(error, ModelPoolError):
            # Shared checks do not know who runs them, and speak for the pool.
            error.source = self.speaker if error.source == "pool" else error.source
            self.fail(error)
        elif isinstance(error, Exception):
            log.exception("%s %s", self.request.method, self.request.path, exc_info=error)
            self.fail(
                InternalError(f"a bug in the {self.speaker}, see its log", source=self.speaker)
            )
        return isinstance(error, Exception)

    # -- its end from outside --------------------------------------------------------------------

    def stop(self, error: ModelPoolError) -> None:
        """End it, with ``error`` for its client. A second stop changes nothing."""
        if self.stopped_by is None and not self.has_ended:
            self.stopped_by = error
            self.cancel()

    def cancel(self) -> None:
        """End the task that answers."""
        if self.task is None:
            return
        if self.has_begun:
            self.task.cancel()
        else:  # it would end without a word; its first step is due before this
            self._channel.loop.call_soon(self.task.cancel)

    # -- for the connection ----------------------------------------------------------------------

    @property
    def is_received(self) -> bool:
        """The whole request is there."""
        return self._is_received

    @property
    def is_waiting(self) -> bool:
        """More of the body has to come before there is an answer."""
        return self._is_reading and not self._is_received

    @property
    def has_too_much(self) -> bool:
        """More of the body is there than anybody asked for yet."""
        return not self._is_reading and self._size > BUFFER_BYTES

    def on_body(self, data: bytes) -> None:
        """A part of the body came."""
        self._size += len(data)
        if not self.has_ended and (self._limit is None or self._size <= self._limit):
            self._parts.append(data)
        self._wake()

    def on_complete(self) -> None:
        """That was all of it."""
        self._is_received = True
        self._wake()

    def on_timeout(self, error: RequestTimeout) -> None:
        """The rest does not come."""
        self._error = error
        self._wake()

    def on_gone(self) -> None:
        """The client has left."""
        if self.has_ended:
            return
        self.has_left = self.has_ended = True
        self._wake()
        self.on_left()

    def on_full(self, is_full: bool) -> None:
        """The client takes nothing now, or again."""
        self.is_full = is_full
        if self.source is not None:
            if is_full:
                self.source.pause()
            else:
                self.source.resume()
        self._wake()

    def on_look(self, now: float, ping_seconds: float) -> None:
        """Time has passed: a silent stream gets a comment."""
        if (
            self.wait_reason is not None
            and now - self._last_write >= ping_seconds
            and (not self.status or (self._is_stream and self._is_between_parts))
            and not self.is_full
        ):
            self.comment(self.wait_reason())

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _change(self) -> None:
        self._waiter = self._channel.loop.create_future()
        await self._waiter


def is_stream(headers: Headers, dialect: Dialect) -> bool:
    """A stream of the dialect's parts, as far as the type without its parameters tells."""
    kinds = [dict(pairs).get(b"content-type", b"") for pairs in (headers, dialect.stream_headers)]
    mine, its = (kind.split(b";")[0].strip() for kind in kinds)
    return mine == its


async def _decoded(decode: content_coding.Decode, body: bytes, limit: int) -> bytes:
    if len(body) <= DECODED_IN_PLACE_BYTES:
        return decode(body, limit)
    return await asyncio.to_thread(decode, body, limit)
