"""A client's connection to a server: requests in, each answered in its turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Protocol, TypeAlias, cast

import httptools

from modelpool_client.errors import (
    HeadersTooLarge,
    InvalidRequest,
    ModelPoolError,
    RequestTimeout,
    Source,
)

from .exchange import Exchange
from .message import Headers, Request, split_target
from .send_watch import SendWatch
from .timeouts import Timeouts

Handler: TypeAlias = Callable[[Exchange], Awaitable[None]]

HEAD_BYTES = 64 * 1024
# Who still sends what nobody wants is listened to for so long, lest a reset takes the answer away;
# as nginx's lingering_timeout and lingering_time.
LINGER_IDLE_SECONDS = 5.0
LINGER_SECONDS = 30.0
# What a timer may be early by.
TIMER_SECONDS = 0.001
_TLS = b"\x16\x03"


class Turn(Protocol):
    """A request on its way to its answer, as far as its connection needs it: an ``Exchange``, which
    see, or a ``Passage``."""

    @property
    def is_kept_alive(self) -> bool: ...
    @property
    def is_received(self) -> bool: ...
    @property
    def is_waiting(self) -> bool: ...
    @property
    def is_full(self) -> bool: ...
    def on_gone(self) -> None: ...
    def on_full(self, is_full: bool, /) -> None: ...
    def on_look(self, now: float, ping_seconds: float, /) -> None: ...
    def on_timeout(self, error: RequestTimeout, /) -> None: ...
    def stop(self, error: ModelPoolError, /) -> None: ...


class ServerConnection(Protocol):
    """A connection, as far as its server needs it.

    Attributes:
        exchange: whose turn it is; None between two.
        is_new: no request has come over it.
        since: the last change of what is waited for, in the loop's seconds.
    """

    is_new: bool
    since: float

    @property
    def exchange(self) -> Turn | None: ...
    @property
    def is_idle(self) -> bool:
        """No request is under way, as far as is known."""
        ...

    @property
    def next_look(self) -> float:
        """When it should be looked at if nothing comes from its client."""
        ...

    def look(self, now: float) -> None:
        """Time has passed: see what has taken too long."""

    def close(self) -> None:
        """End it once everything is written."""

    def abort(self) -> None:
        """End it now."""


class Server(Protocol):
    """The server, as far as its connections need it."""

    handler: Handler
    shortcut: Shortcut | None
    source: Source
    timeouts: Timeouts
    keep_alive_seconds: float
    is_closing: bool
    is_restarting: bool
    on_ended: Callable[[Exchange], None] | None

    def opened(self, connection: ServerConnection) -> None: ...
    def look_by(self, when: float) -> None: ...
    def closed(self, connection: ServerConnection) -> None: ...


# Is given a connection between two requests and what came over it. True: that was a whole request,
# which is on its way now. None: it wants to see it again, with more of its body or by ``go_on``.
# False: nothing has happened.
Shortcut: TypeAlias = "Callable[[Connection, bytes], bool | None]"
# Makes what speaks another protocol over a connection, an ``asyncio.Protocol``, of the server, the
# transport, and whether that is to be written to only after its ``resume_writing``.
Succeed: TypeAlias = Callable[[Server, asyncio.Transport, bool], ServerConnection]


class Connection(asyncio.Protocol):
    """Runs the server's handler for one request after the other, in tasks of their own. Attributes
    as of a ``ServerConnection``, and these.

    Attributes:
        is_full: its client does not take what it is sent.
        held_since: when the first of a request came that a shortcut let wait, in the loop's
            seconds; None: it did not wait.
    """

    framing = None  # it sends what it is given
    _transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.exchange: Turn | None = None
        self.is_full = False
        self.is_new = True
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time
        self.since = self.now()
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Exchange] = deque()
        self._incoming: Exchange | None = None
        self._held = b""  # of a request that may take a shortcut once all that it needs is there
        self.held_since: float | None = None
        self._is_in_head = False
        self._head_since = self.since
        self._head_bytes = self._fed = 0
        self._has_completed = False
        self._is_paused = False
        self._is_last = False  # what still comes is thrown away
        self._lingers_since: float | None = None
        self._period = server.timeouts.period

    @property
    def is_idle(self) -> bool:
        """No request is under way, as far as is known."""
        is_between = self.exchange is None and self._incoming is None and not self._is_in_head
        return is_between and not self._held

    @cached_property
    def peer(self) -> str:
        """The address of its client, if somebody has asked for it before that had left."""
        return peer_of(self._transport)

    def close(self) -> None:
        """End it once everything is written."""
        self._transport.close()

    def abort(self) -> None:
        """End it now."""
        self._transport.abort()

    # -- for the loop ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an isinstance check: uvloop's transports are no subclasses.
        self._transport = cast("asyncio.Transport", transport)
        self._send_watch = SendWatch(self._transport)
        self._server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._held = b""
        self._server.closed(self)
        self._waiting.clear()
        if self.exchange is not None:
            self.exchange.on_gone()

    def data_received(self, data: bytes) -> None:
        self.since = self.now()
        if self._is_last:
            return
        if self._held:
            data, self._held = self._held + data, b""
        else:
            self.held_since = None
        server = self._server
        shortcut = server.shortcut
        is_between = self.exchange is None and self._incoming is None and not self._is_in_head
        is_held_up = self.is_full or self._is_paused or server.is_closing
        if shortcut is not None and is_between and not is_held_up:
            is_taken = shortcut(self, data)
            if is_taken is None:
                self._held = data
                if self.held_since is None:
                    self.held_since = self.since
                server.look_by(self.since + self._period)
            if is_taken is not False:
                return
        self._read(data)

    def _read_held(self) -> None:
        data, self._held = self._held, b""
        self._read(data)

    def _read(self, data: bytes) -> None:
        self._fed, self._has_completed = len(data), False
        try:
            self._feed(data)
        except httptools.HttpParserError as e:
            self._refuse(_as_error(e, data))
        else:
            if self._is_in_head and not self._has_completed:
                self._head_bytes += len(data)
            if self._is_in_head and self._head_bytes > HEAD_BYTES:
                self._refuse(_too_large())
            elif self._is_flooded and not self._is_paused:
                self._is_paused = True
                self._transport.pause_reading()

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as e:
            # Whoever answers says whether that is spoken; until then, this is HTTP. The parser has
            # stopped after the head, for what follows would be in the other language.
            head = self._head_again()
            self._parser = httptools.HttpRequestParser(self)
            self._feed(head + data[e.args[0] :])

    def _head_again(self) -> bytes:
        version = self._parser.get_http_version().encode("ascii")
        head = b"%b %b HTTP/%b\r\n" % (self._method, self._url, version)
        # Without ``Connection`` its ``Upgrade`` is a word only, for whoever does speak that.
        kept = [pair for pair in self._headers if pair[0] != b"connection"]
        return head + b"".join([b"%b: %b\r\n" % pair for pair in kept]) + b"\r\n"

    def eof_received(self) -> None:
        # Who sends no more is taken for gone, as by nginx. To return None closes the connection.
        if self.exchange is not None:
            self.exchange.on_gone()

    def pause_writing(self) -> None:
        self.is_full = True
        if self.exchange is not None:
            self.exchange.on_full(True)

    def resume_writing(self) -> None:
        self.is_full = False
        if self.exchange is not None:
            self.exchange.on_full(False)

    # -- for the parser --------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._is_in_head = True
        self._server.look_by(self.since + self._period)
        self._head_since = self.since
        self._head_bytes = 0
        self._url = b""
        self._headers: Headers = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_head:  # else it is a trailer
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._is_in_head = self.is_new = False
        self._method = self._parser.get_method()
        if self._method == b"CONNECT":
            raise InvalidRequest("CONNECT is for proxies, and this is none")
        if self._is_last or self._parser.should_upgrade():
            return
        if self._head_bytes + self._fed > HEAD_BYTES < _size(self._url, self._headers):
            raise _too_large()
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise InvalidRequest(f"HTTP/{version} is not spoken here; speak HTTP/1.1")
        raw_path, query = split_target(self._url)
        method = self._method.decode("ascii")
        request = Request(method, raw_path, query, self._headers, is_1_0=version == "1.0")
        _check_coding(request)
        is_kept_alive = self._parser.should_keep_alive() and not self._server.is_closing
        exchange = Exchange(self, request, self._server.source, is_kept_alive=is_kept_alive)
        if self.held_since is not None:
            exchange.began_at = self.held_since
        self._incoming = exchange
        self._put(exchange)

    def on_body(self, data: bytes) -> None:
        if self._incoming is not None:
            self._incoming.on_body(data)

    def on_message_complete(self) -> None:
        exchange, self._incoming = self._incoming, None
        self._has_completed = True
        if exchange is not None:
            exchange.on_complete()
            self._is_last = not exchange.is_kept_alive

    # -- for the exchange ------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Write to the client."""
        self._transport.write(data)

    def read_on(self) -> None:
        """More of the body is wanted."""
        if self._is_paused and not self._is_flooded:
            self._is_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def begin_passage(self, turn: Turn) -> None:
        """A request came that needs no task."""
        self.exchange = turn
        self.is_new = False
        self._server.look_by(self.since + self._period)

    def go_on(self, is_there: bool) -> None:
        """What the shortcut waits for is there, or will not be."""
        if self._held and is_there:
            self.data_received(b"")
        elif self._held:
            self._read_held()

    def hand_over_passage(self, request: Request, body: bytes, handler: Handler) -> Exchange:
        """It does need one: ``handler`` goes on with it."""
        exchange = Exchange(self, request, self._server.source, is_kept_alive=True)
        exchange.on_body(body)
        exchange.on_complete()
        self._begin(exchange, handler)
        return exchange

    def answered(self, exchange: Turn) -> None:
        """On to the next request, or to the connection's end."""
        self.since = self.now()
        self.exchange = None
        if not exchange.is_kept_alive:
            self._finish(exchange.is_received)
        elif self._waiting:
            self._begin(self._waiting.popleft())
        self.read_on()

    def hand_over(self, head: bytes, succeed: Succeed) -> None:
        """Send the ``head`` of a 101; whatever comes from now on is for what ``succeed`` makes.

        Raises:
            InvalidRequest: its client did not wait for the answer.
        """
        if self._waiting or self._is_in_head or self._is_last:
            raise InvalidRequest("something was sent before the handshake was answered")
        self.exchange = None
        self._server.closed(self)
        self._transport.write(head)
        successor = succeed(self._server, self._transport, self.is_full)
        self._transport.set_protocol(cast("asyncio.Protocol", successor))
        self._server.opened(successor)

    # -- its course ------------------------------------------------------------------------------

    def _put(self, exchange: Exchange) -> None:
        if self.exchange is None:
            self._begin(exchange)
        else:
            self._waiting.append(exchange)

    def _begin(self, exchange: Exchange, handler: Handler | None = None) -> None:
        self.exchange = exchange
        exchange.is_full = self.is_full
        exchange.task = self.loop.create_task(exchange.run(handler or self._server.handler))
        tell_end(self._server, exchange, self._transport)

    @property
    def _is_flooded(self) -> bool:
        return bool(self._waiting) or (self._incoming is not None and self._incoming.has_too_much)

    def _refuse(self, error: ModelPoolError) -> None:
        """What came is no request: its client is told so after the answers to those before."""
        self._is_last = True
        incoming, self._incoming = self._incoming, None
        exchange = incoming
        if exchange is None:
            request = Request("GET", b"", b"", [])
            exchange = Exchange(self, request, self._server.source, is_kept_alive=False)
            self._put(exchange)
        exchange.is_kept_alive = False
        self._server.look_by(self.since + self._period)
        if exchange.has_ended:
            self._transport.close()
        elif exchange.has_begun:
            exchange.stop(error)
        else:
            exchange.refusal = error

    def _finish(self, is_received: bool) -> None:
        """No more requests are taken; what is written is still sent."""
        self._is_last = True
        if is_received or self._transport.is_closing():
            self._transport.close()
            return
        self._lingers_since = self.now()
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    # -- time ------------------------------------------------------------------------------------

    @property
    def next_look(self) -> float:
        """When it should be looked at if nothing comes from its client: one that only waits for
        the next request needs no looks in between."""
        transport = self._transport
        is_ending = self._is_last or transport.is_closing()
        if is_ending or not self.is_idle or transport.get_write_buffer_size():
            return self.now() + self._period
        patience = self._server.keep_alive_seconds
        if self.is_new:
            patience = self._server.timeouts.client_header
        # Just after it is due, lest it is found to be due a moment later.
        return self.since + patience + TIMER_SECONDS

    def look(self, now: float) -> None:
        """Time has passed: see what has taken too long."""
        if self._held:  # what is waited for takes its time
            self._read_held()
        timeouts, exchange = self._server.timeouts, self.exchange
        if self._send_watch.is_stuck(now, timeouts.send, is_pressed=self._is_pressed):
            self._transport.abort()
        elif self._transport.is_closing():
            return
        elif self._lingers_since is not None:
            if now - self.since > LINGER_IDLE_SECONDS or now - self._lingers_since > LINGER_SECONDS:
                self._transport.abort()
        elif exchange is not None:
            if exchange.is_waiting and now - self.since >= timeouts.client_body:
                exchange.on_timeout(_late("more of the request's body", timeouts.client_body))
            exchange.on_look(now, timeouts.stream_ping)
        elif self._incoming is not None:  # it is answered, and the rest of it is waited for
            if now - self.since >= timeouts.client_body:
                self._transport.close()
        elif self.is_new or self._is_in_head:
            if now - self._head_since >= timeouts.client_header:
                self._refuse(_late("the head of the request", timeouts.client_header))
        elif now - self.since >= self._server.keep_alive_seconds:
            self._transport.close()

    @property
    def _is_pressed(self) -> bool:
        exchange = self.exchange
        return exchange is None or exchange.is_full


def tell_end(server: Server, exchange: Exchange, transport: asyncio.Transport) -> None:
    """Whoever wants to hear of answers is told of that of an exchange once its task is done."""
    on_ended = server.on_ended
    if on_ended is not None and exchange.task is not None:
        exchange.peer = peer_of(transport)  # it is not known any more at the end
        exchange.task.add_done_callback(lambda _: on_ended(exchange))


def peer_of(transport: asyncio.Transport) -> str:
    """The address of whoever is at the other end; empty where that has none."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""


def _size(url: bytes, headers: Headers) -> int:
    return len(url) + sum(len(k) + len(v) for k, v in headers)


def _check_coding(request: Request) -> None:
    """Refuse what the next server might understand in another way."""
    coding = request.fields.get(b"transfer-encoding")
    if coding is None:
        return
    if request.is_1_0:
        raise InvalidRequest("HTTP/1.0 knows no Transfer-Encoding")
    if coding.strip().lower() != b"chunked":
        raise InvalidRequest("of all transfer codings only chunked is understood here")


def _too_large() -> HeadersTooLarge:
    return HeadersTooLarge(f"the head of the request is larger than {HEAD_BYTES:,} bytes")


def _late(what: str, seconds: float) -> RequestTimeout:
    return RequestTimeout(f"{what} did not come within {seconds:g} s; send it without a pause")


def _as_error(error: httptools.HttpParserError, data: bytes) -> ModelPoolError:
    cause = error.__context__
    if isinstance(cause, ModelPoolError):  # raised in a callback
        return cause
    if data.startswith(_TLS):
        return InvalidRequest("TLS is not spoken here; use http:// instead of https://")
    why = str(cause or error) or type(error).__name__
    return InvalidRequest(f"this is no HTTP/1.1 as it should be: {why}")
