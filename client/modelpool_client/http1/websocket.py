"""A client's connection that has become a WebSocket (RFC 6455): each message is a request, and the
answer to it comes as messages. Frames are wsproto's."""

from __future__ import annotations

import asyncio
from collections import deque

from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.frame_protocol import MAX_PAYLOAD_NORMAL, CloseReason
from wsproto.utilities import generate_accept_token

from modelpool_client.errors import Cancelled

from .connection import (
    LINGER_IDLE_SECONDS,
    LINGER_SECONDS,
    TIMER_SECONDS,
    Server,
    tell_end,
)
from .exchange import Exchange
from .message import Headers
from .send_watch import SendWatch
from .websocket_messages import AnswerParts, Carried, Part, body_of

# Messages that wait for the answers before them; their bytes may be as many as those of one.
MOST_WAITING = 64
PAYLOAD_TOO_LARGE = 413
# In which a client answers the close of a server that ends; a restart waits for nobody longer.
STOP_SECONDS = 0.5


def handshake_head(key: bytes) -> bytes:
    """The answer that opens a WebSocket. No extension is spoken, and no subprotocol."""
    headers: Headers = [
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-accept", generate_accept_token(key)),
    ]
    lines = [b"%b: %b\r\n" % pair for pair in headers]
    return b"HTTP/1.1 101 Switching Protocols\r\n" + b"".join(lines) + b"\r\n"


class WebSocket(asyncio.Protocol):
    """Runs the server's handler for one message after the other, in tasks of their own. Attributes
    as of a ``ServerConnection``."""

    def __init__(
        self, server: Server, transport: asyncio.Transport, carried: Carried, *, is_full: bool
    ) -> None:
        self.exchange: Exchange | None = None
        self.is_new = False  # it was opened by a request
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time
        self.since = self._heard_at = self._sent_at = self.now()
        self.framing = AnswerParts()
        self._server = server
        self._transport = transport
        self._carried = carried
        self._frames = Frames(ConnectionType.SERVER)
        self._send_watch = SendWatch(transport)
        self._message = bytearray()
        self._is_in_message = False
        self._waiting: deque[tuple[Exchange, int]] = deque()
        self._waiting_bytes = 0
        self._is_paused, self._is_full = False, is_full
        self._pinged_at: float | None = None  # and nothing came since
        self._closing_since: float | None = None
        self._is_deaf = False  # what still comes is thrown away
        self._period = server.timeouts.period

    def __repr__(self) -> str:
        state = "closing" if self._closing_since is not None else "open"
        return f"<WebSocket, {state}, {len(self._waiting)} waiting behind {self.exchange!r}>"

    @property
    def is_idle(self) -> bool:
        """See ``ServerConnection``: a message that has come in part only is no request yet."""
        return self.exchange is None

    def close(self) -> None:
        """Tell its client that this server ends."""
        if self._server.is_restarting:
            self._close(CloseReason.SERVICE_RESTART, "restarting; connect again")
        else:
            self._close(CloseReason.GOING_AWAY, "the server stops")

    def abort(self) -> None:
        """End it now."""
        self._transport.abort()

    # -- for the loop ----------------------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.closed(self)
        self._leave()

    def data_received(self, data: bytes) -> None:
        self._heard_at, self._pinged_at = self.now(), None
        if not self._is_deaf:
            self._frames.receive_data(data)
            self._read()

    def eof_received(self) -> None:
        # To return None closes the connection.
        self._leave()

    def pause_writing(self) -> None:
        self._is_full = True
        if self.exchange is not None:
            self.exchange.on_full(True)

    def resume_writing(self) -> None:
        self._is_full = False
        if self.exchange is not None:
            self.exchange.on_full(False)

    # -- what comes ------------------------------------------------------------------------------

    def _read(self) -> None:
        """Take what is there, unless too much of it waits for its turn."""
        for event in self._frames.events():
            self._on_event(event)
            if self._is_flooded or self._is_deaf:
                break
        if self._is_flooded != self._is_paused and not self._transport.is_closing():
            self._is_paused = self._is_flooded
            if self._is_paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    @property
    def _is_flooded(self) -> bool:
        if self._closing_since is not None:
            return False
        return len(self._waiting) >= MOST_WAITING or self._waiting_bytes > self._carried.max_bytes()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, CloseConnection):
            self._on_close(event)
        elif self._frames.state is not ConnectionState.OPEN:
            return
        elif isinstance(event, TextMessage):
            self._on_part(event.data.encode(), is_last=event.message_finished)
        elif isinstance(event, BytesMessage):  # some clients send whatever their JSON library gives
            self._on_part(event.data, is_last=event.message_finished)
        elif isinstance(event, Ping) and not self._is_full:
            self._send(event.response())

    def _on_part(self, data: bytes | bytearray, *, is_last: bool) -> None:
        self._is_in_message = not is_last
        self._message += data
        limit = self._carried.max_bytes()
        if len(self._message) > limit:
            key = f" ({self._carried.limit_key})" if self._carried.limit_key else ""
            self._fail(
                CloseReason.MESSAGE_TOO_BIG, f"a message is larger than {limit:,} bytes{key}"
            )
        elif is_last:
            message, self._message = bytes(self._message), bytearray()
            self._take(message)
        else:
            self._server.look_by(self._heard_at + self._period)

    def _take(self, message: bytes) -> None:
        self.since = self._heard_at
        body = body_of(message)
        if body is None:
            self._cancel()
            return
        request = self._carried.request()
        exchange = Exchange(self, request, self._server.source, is_kept_alive=True)
        exchange.on_body(body)
        exchange.on_complete()
        if self.exchange is None:
            self._begin(exchange)
        else:
            self._waiting.append((exchange, len(body)))
            self._waiting_bytes += len(body)

    def _begin(self, exchange: Exchange) -> None:
        self._server.look_by(self.now() + self._period)
        self.exchange = exchange
        exchange.is_full = self._is_full
        exchange.task = self.loop.create_task(exchange.run(self._server.handler))
        tell_end(self._server, exchange, self._transport)

    def _cancel(self) -> None:
        """End what was asked for so far, so that it does not matter how far it has come."""
        error = Cancelled("cancelled by its client", source="client")
        for exchange, _ in self._waiting:
            exchange.refusal = error
        if self.exchange is not None:
            self.exchange.stop(error)

    def _on_close(self, event: CloseConnection) -> None:
        state = self._frames.state
        if state in (ConnectionState.REMOTE_CLOSING, ConnectionState.CLOSED):
            self._is_deaf = True
            self._leave()
            if state is ConnectionState.REMOTE_CLOSING:
                self._transport.write(self._frames.send(event.response()))
            self._transport.close()
        else:  # what came is no frame
            self._fail(event.code, event.reason or "")

    # -- for the exchange ------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """A piece of the answer's body."""
        self._tell(self.framing.feed(data))

    def read_on(self) -> None:
        """A request begins when all of it is there."""

    def answered(self, exchange: Exchange) -> None:
        """On to the next message, or to the connection's end."""
        self._tell(self.framing.end())
        self.exchange = None
        self.since = self.now()
        if self._server.is_closing:
            self.close()
        elif not exchange.is_kept_alive and exchange.status != PAYLOAD_TOO_LARGE:
            self._close(CloseReason.GOING_AWAY, "the server stops")
        elif self._waiting:
            waiting, size = self._waiting.popleft()
            self._waiting_bytes -= size
            self._begin(waiting)
        if self._is_paused:
            self._read()

    def _tell(self, parts: list[Part]) -> None:
        for part in parts:
            if part.is_comment:
                self._ping(part.text)
            else:
                self._send(TextMessage(part.text))

    def _ping(self, text: str = "") -> None:
        payload = text.encode()[:MAX_PAYLOAD_NORMAL].decode(errors="ignore")
        self._send(Ping(payload.encode()))
        if self._pinged_at is None:
            self._pinged_at = self._sent_at

    def _send(self, event: Event) -> None:
        if self._frames.state is ConnectionState.OPEN:
            self._sent_at = self.now()
            self._transport.write(self._frames.send(event))

    # -- its end ---------------------------------------------------------------------------------

    def _close(self, code: int, reason: str) -> None:
        """Begin to close: its client answers that, or is cut off in a while."""
        if self._closing_since is None and self._frames.state is ConnectionState.OPEN:
            self._send(CloseConnection(code, reason))
            self._closing_since = self._heard_at = self.now()
            self._server.look_by(self._heard_at + self._period)
            self._leave()

    def _fail(self, code: int, reason: str) -> None:
        """What comes cannot be understood, or is not wanted, from here on."""
        self._close(code, reason)
        self._is_deaf = True
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _leave(self) -> None:
        """Nothing is answered any more."""
        self._waiting.clear()
        self._message.clear()
        self._waiting_bytes, self._is_in_message = 0, False
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.on_gone()

    # -- time ------------------------------------------------------------------------------------

    @property
    def next_look(self) -> float:
        """See ``ServerConnection``: one that only waits for the next message is pinged."""
        is_waiting = self.exchange is None and not self._is_in_message
        if not is_waiting or self._is_ending or self._transport.get_write_buffer_size():
            return self.now() + self._period
        return self._silent_since + self._server.timeouts.stream_ping + TIMER_SECONDS

    @property
    def _is_ending(self) -> bool:
        return self._closing_since is not None or self._transport.is_closing()

    @property
    def _silent_since(self) -> float:
        return max(self._heard_at, self._sent_at)

    def look(self, now: float) -> None:
        """Time has passed: see what has taken too long."""
        timeouts, exchange = self._server.timeouts, self.exchange
        is_pressed = exchange is None or exchange.is_full
        if self._send_watch.is_stuck(now, timeouts.send, is_pressed=is_pressed):
            self._transport.abort()
        elif self._closing_since is not None:
            idle = STOP_SECONDS if self._server.is_closing else LINGER_IDLE_SECONDS
            is_over = now - self._closing_since > LINGER_SECONDS
            if is_over or now - max(self._heard_at, self._closing_since) > idle:
                self._transport.abort()
        elif not self._transport.is_closing():
            if exchange is not None:
                exchange.on_look(now, timeouts.stream_ping)
            self._look_at_client(now)

    def _look_at_client(self, now: float) -> None:
        timeouts = self._server.timeouts
        is_heard = not self._is_paused  # else its answer to a ping would not be
        if self._is_in_message and now - self._heard_at >= timeouts.client_body:
            why = f"more of the message did not come within {timeouts.client_body:g} s"
            self._fail(CloseReason.POLICY_VIOLATION, why)
        elif is_heard and self._pinged_at is not None and now - self._pinged_at >= timeouts.send:
            self._transport.abort()
        elif now - self._silent_since >= timeouts.stream_ping and not self._is_full:
            self._ping()
