"""A request and its answer passed on by callbacks: from the client's connection to a server's and
back, without a task.

It is for what goes as it nearly always does: the request is there, a kept connection is free, and
the answer comes whole or as a stream. Where anything is otherwise, in the answer or its end or in
what the client does, it is handed over to an exchange, whose task goes on from there: what was sent
is not sent again.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from modelpool_client.errors import ModelPoolError, RequestTimeout
from modelpool_client.surfaces.dialect import OPENAI

from .exchange import Exchange, Source
from .known_heads import cut
from .message import Headers

if TYPE_CHECKING:
    from .connection import Connection
    from .upstream_connection import UpstreamConnection

# A longer request is handed over no faster than it is taken, which is a task's work.
MOST_BYTES = 64 * 1024
# So many pieces of a stream are its end, and of long ones about so many bytes.
_TAIL = 8
_TAIL_BYTES = 16 * 1024
_LAST_CHUNK = b"0\r\n\r\n"


class Errand(Protocol):
    """What a passage is for. Its request came over a connection that goes on, in HTTP/1.1."""

    def answer(self, head: bytes, request_id: bytes, body: bytes) -> bytes | None:
        """All that a client is told for a whole answer, of which ``head`` and ``request_id`` are
        what ``known_heads.cut`` gives. None: it is not passed on like that."""
        ...

    def stream_head(self, headers: Headers) -> bytes | None:
        """The whole head for an answer in chunks with a status of 200. None: that is not passed on
        like that."""
        ...

    def ended(
        self,
        status: int,
        answered_at: float | None,
        sent_bytes: int,
        tail: bytes,
        *,
        has_left: bool,
    ) -> None:
        """It was answered, or its client has left, ``status`` being 0 if that was before an answer
        had begun. ``answered_at``: see ``UpstreamConnection``. ``sent_bytes``: of a stream.
        ``tail``: of a stream, its last pieces or their ends, after a line's end where these are
        all; else empty."""
        ...

    def hand_over(self, client: Connection, reply: UpstreamConnection) -> Exchange:
        """The request as an exchange at work, whose answer, what is left of it, ``reply`` gives."""
        ...


class Passage:
    """One of them. To the connection of the client it is what an ``Exchange`` is, to that of the
    server a taker of its answer."""

    __slots__ = (
        *("_client", "_reply", "_errand", "_has_begun", "_is_between_parts", "_last_write"),
        *("_is_over", "_pieces", "_sent_bytes", "source"),
    )

    is_kept_alive = is_received = True
    is_waiting = has_too_much = False

    def __init__(self, client: Connection, reply: UpstreamConnection, errand: Errand) -> None:
        self.source: Source | None = None
        self._client = client
        self._reply = reply
        self._errand = errand
        self._has_begun = self._is_over = False
        self._sent_bytes = 0
        self._is_between_parts = True
        self._last_write = client.since
        self._pieces: deque[bytes] | None = None

    def begin(self, request: bytes) -> None:
        """Send the request, all of it."""
        self._client.begin_passage(self)
        self._reply.ask_for(self, request)

    # -- for the connection of the server ----------------------------------------------------------

    def take(self, data: bytes) -> bool:
        """The first bytes of an answer: True if they are all of it and were passed on."""
        parts = cut(data)
        if parts is None or len(parts.body) != parts.length:
            return False
        answer = self._errand.answer(parts.head, parts.request_id, parts.body)
        if answer is None:
            return False
        self._reply.is_read()
        self._finish(answer)
        return True

    def changed(self) -> None:
        """More of an answer is there than was taken, or there will be none."""
        reply = self._reply
        if reply.is_broken:
            self._hand_over()
        elif self._has_begun:
            if reply.is_complete:
                self._finish(_LAST_CHUNK)
        elif reply.status:
            if reply.status == 200 and reply.length is None:
                self._begin_stream()
            else:
                self._hand_over()

    def write(self, data: bytes) -> None:
        """Pieces of a stream."""
        self._is_between_parts = data.endswith(OPENAI.part_end)
        self._sent_bytes += len(data)
        if self._pieces is not None:
            self._pieces.append(data[-_TAIL_BYTES:])  # not looked at: that would be work for each
        chunk = b"%x\r\n%b\r\n" % (len(data), data)
        if self._reply.is_complete:
            self._finish(chunk + _LAST_CHUNK)
        else:
            self._last_write = self._client.now()
            self._client.send(chunk)

    @property
    def is_full(self) -> bool:
        """The client does not take what it is sent."""
        return self._client.is_full

    # -- for the connection of the client ----------------------------------------------------------

    def on_gone(self) -> None:
        """The client has left; who was told so once may hear of it again."""
        if self._is_over:
            return
        self._is_over = True
        answered_at = self._reply.answered_at
        self._reply.leave()
        status = 200 if self._has_begun else 0
        self._errand.ended(status, answered_at, self._sent_bytes, self._tail(), has_left=True)

    def on_full(self, is_full: bool) -> None:
        """The client takes nothing now, or again."""
        if is_full:
            self._reply.pause()
        else:
            self._reply.resume()

    def on_timeout(self, error: RequestTimeout) -> None:
        """Never: nothing of it is waited for."""

    def on_look(self, now: float, ping_seconds: float) -> None:
        """Time has passed: somebody should say why there is no answer."""
        if now - self._last_write >= ping_seconds:
            self._hand_over()

    def stop(self, error: ModelPoolError) -> None:
        """End it, with ``error`` for its client, unless that has left."""
        if not self._is_over:
            self._hand_over().stop(error)

    # -- its course --------------------------------------------------------------------------------

    def _begin_stream(self) -> None:
        head = self._errand.stream_head(self._reply.headers)
        if head is None:
            self._hand_over()
            return
        self._has_begun = True
        self._last_write = self._client.now()
        self._pieces = deque(maxlen=_TAIL)
        data = self._reply.flow_to(self)
        if data:
            self._is_between_parts = data.endswith(OPENAI.part_end)
            self._sent_bytes = len(data)
            self._pieces.append(data[-_TAIL_BYTES:])
            head += b"%x\r\n%b\r\n" % (len(data), data)
        if self._reply.is_complete:
            self._finish(head + _LAST_CHUNK)
        else:
            self._client.send(head)

    def _finish(self, last: bytes) -> None:
        reply, client = self._reply, self._client
        answered_at = reply.answered_at
        # First: a client that is full by then pauses the connection that is read for it.
        client.send(last)
        reply.release()
        self._errand.ended(200, answered_at, self._sent_bytes, self._tail(), has_left=False)
        client.answered(self)

    def _tail(self) -> bytes:
        pieces = self._pieces
        if not pieces:
            return b""
        is_all, size = len(pieces) < _TAIL, sum(map(len, pieces))
        while size - len(pieces[0]) >= _TAIL_BYTES:
            is_all, size = False, size - len(pieces.popleft())
        said = b"".join(pieces)
        return b"\n" + said if is_all else said

    def _hand_over(self) -> Exchange:
        reply = self._reply
        reply.let_go()
        exchange = self._errand.hand_over(self._client, reply)
        exchange.take_over(
            reply.headers if self._has_begun else None,
            is_between_parts=self._is_between_parts,
            last_write=self._last_write,
            sent_bytes=self._sent_bytes,
        )
        return exchange
