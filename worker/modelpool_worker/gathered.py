"""A request whose answer is wanted in one piece, of an engine that is asked for a stream: put
together by callbacks, without a task.

As with a ``Passage`` only what goes as it nearly always does ends here. Everything else is handed
over to an exchange, with what was put together so far.
"""

from __future__ import annotations

from typing import Protocol

from modelpool_client.errors import ModelPoolError, RequestTimeout
from modelpool_client.http1.connection import Connection
from modelpool_client.http1.exchange import Exchange, Source
from modelpool_client.http1.upstream_connection import UpstreamConnection


class Gathering(Protocol):
    """What the pieces are put together by; see ``engine_client.Gathering``."""

    def write(self, data: bytes, /) -> None: ...
    def is_whole(self) -> bool: ...


class Errand(Protocol):
    """What it is for. Its request came over a connection that goes on, in HTTP/1.1."""

    def whole(self) -> bytes:
        """All that the client is told, once everything is put together."""
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
        """See ``passage.Errand``."""
        ...

    def hand_over(self, client: Connection, reply: UpstreamConnection) -> Exchange:
        """See ``passage.Errand``."""
        ...


class Gathered:
    """One of them. To the connection of the client it is what an ``Exchange`` is, to that of the
    engine a taker of its answer."""

    __slots__ = ("_client", "_errand", "_gathering", "_has_begun", "_is_over", "_reply", "source")

    is_kept_alive = is_received = True
    is_waiting = False
    is_full = False  # a client that takes nothing is told nothing yet

    _gathering: Gathering

    def __init__(self, client: Connection, reply: UpstreamConnection, errand: Errand) -> None:
        self.source: Source | None = None
        self._client = client
        self._reply = reply
        self._errand = errand
        self._has_begun = self._is_over = False

    def begin(self, request: bytes, gathering: Gathering) -> None:
        """Send the request, all of it."""
        self._gathering = gathering
        self._client.begin_passage(self)
        self._reply.ask_for(self, request)

    # -- for the connection of the engine ----------------------------------------------------------

    def take(self, data: bytes) -> bool:
        """Never: the head of a stream is to be read."""
        return False

    def changed(self) -> None:
        """More of an answer is there than was taken, or there will be none."""
        reply = self._reply
        if reply.is_broken:
            self._hand_over()
        elif self._has_begun:
            if reply.is_complete:
                self._finish()
        elif reply.status:
            if reply.status == 200 and reply.length is None:
                self._begin_stream()
            else:
                self._hand_over()

    def write(self, data: bytes) -> None:
        """Pieces of a stream.

        Raises:
            ModelPoolError, BrokenOffError: what they say is no part of an answer.
        """
        self._gathering.write(data)

    # -- for the connection of the client ----------------------------------------------------------

    def on_gone(self) -> None:
        """The client has left; who was told so once may hear of it again."""
        if not self._is_over:
            self._is_over = True
            self._reply.leave()
            self._errand.ended(0, None, 0, b"", has_left=True)

    def on_full(self, is_full: bool) -> None:
        """What the client does not take is the answer before this one."""

    def on_timeout(self, error: RequestTimeout) -> None:
        """Never: nothing of it is waited for."""

    def on_look(self, now: float, ping_seconds: float) -> None:
        """Time has passed, which is told on streams only."""

    def stop(self, error: ModelPoolError) -> None:
        """End it, with ``error`` for its client, unless that has left."""
        if not self._is_over:
            self._hand_over().stop(error)

    # -- its course --------------------------------------------------------------------------------

    def _begin_stream(self) -> None:
        self._has_begun = True
        data = self._reply.flow_to(self)
        if data:
            try:
                self.write(data)
            except Exception as e:
                self._reply.refuse(e)  # which comes back here, as with later pieces
                return
        if self._reply.is_complete:
            self._finish()

    def _finish(self) -> None:
        try:
            is_whole = self._gathering.is_whole()
        except Exception as e:
            self._reply.refuse(e)  # as with pieces that are read as they come
            return
        if not is_whole:
            self._hand_over()
            return
        try:
            answer = self._errand.whole()
        except Exception:  # an engine's odd words, or a bug: the exchange meets it again, and tells
            self._hand_over()
            return
        client, reply = self._client, self._reply
        answered_at = reply.answered_at
        client.send(answer)
        reply.release()
        self._errand.ended(200, answered_at, 0, b"", has_left=False)
        client.answered(self)

    def _hand_over(self) -> Exchange:
        self._reply.let_go()
        return self._errand.hand_over(self._client, self._reply)
