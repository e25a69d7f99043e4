"""A stream of the engine's, passed on to a client as it comes, by callbacks, without a task.

As with a ``Passage`` only what goes as it nearly always does ends here. Everything else, silence
and a stream that is not whole among it, is handed over to an exchange, which goes on from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from modelpool_client.errors import ModelPoolError, RequestTimeout
from modelpool_client.http1.connection import Connection
from modelpool_client.http1.exchange import Exchange, Source
from modelpool_client.http1.upstream_connection import UpstreamConnection
from modelpool_client.surfaces import sse
from modelpool_client.surfaces.dialect import OPENAI

if TYPE_CHECKING:
    from .engine_client import Seen

_LAST_CHUNK = b"0\r\n\r\n"


class Errand(Protocol):
    """What it is for. Its request came over a connection that goes on, in HTTP/1.1."""

    def head(self) -> bytes:
        """That of an answer in chunks."""
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


class Streamed:
    """One of them. To the connection of the client it is what an ``Exchange`` is, to that of the
    engine a taker of its answer."""

    __slots__ = (
        *("_client", "_errand", "_flows", "_has_begun", "_is_over", "_last_write"),
        *("_reply", "_seen", "_sent_bytes", "source"),
    )

    is_kept_alive = is_received = True
    is_waiting = False

    _seen: Seen

    def __init__(self, client: Connection, reply: UpstreamConnection, errand: Errand) -> None:
        self.source: Source | None = None
        self._client = client
        self._reply = reply
        self._errand = errand
        self._flows = False  # what comes of the answer's body is written here
        self._has_begun = False  # the client was told something
        self._is_over = False
        self._last_write = client.since
        self._sent_bytes = 0

    def begin(self, request: bytes, seen: Seen) -> None:
        """Send the request, all of it."""
        self._seen = seen
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
        elif self._flows:
            if reply.is_complete:
                self._finish()
        elif reply.status:
            if reply.status == 200 and reply.length is None:
                self._begin_stream()
            else:
                self._hand_over()

    def write(self, data: bytes) -> None:
        """Pieces of the stream.

        Raises:
            BrokenOffError: it is none.
        """
        data = self._seen.read(data)
        if data:
            self._sent_bytes += len(data)
            data = b"%x\r\n%b\r\n" % (len(data), data)
            if not self._has_begun:
                self._has_begun = True
                data = self._errand.head() + data
        if self._reply.is_complete:
            self._finish(data)
        elif data:
            self._last_write = self._client.now()
            self._client.send(data)
            if self._client.is_full:
                self._seen.rests()

    @property
    def is_full(self) -> bool:
        """The client does not take what it is sent."""
        return self._client.is_full

    # -- for the connection of the client ----------------------------------------------------------

    def on_gone(self) -> None:
        """The client has left; who was told so once may hear of it again."""
        if not self._is_over:
            self._is_over = True
            self._reply.leave()
            self._errand.ended(
                200 if self._has_begun else 0, None, self._sent_bytes, b"", has_left=True
            )

    def on_full(self, is_full: bool) -> None:
        """The client takes nothing now, or again."""
        if is_full:
            self._seen.rests()
            self._reply.pause()
        else:
            self._seen.asks()
            self._reply.resume()

    def on_timeout(self, error: RequestTimeout) -> None:
        """Never: nothing of it is waited for."""

    def on_look(self, now: float, ping_seconds: float) -> None:
        """Time has passed: somebody should say why nothing comes."""
        if now - self._last_write >= ping_seconds:
            self._hand_over()

    def stop(self, error: ModelPoolError) -> None:
        """End it, with ``error`` for its client, unless that has left."""
        if not self._is_over:
            self._hand_over().stop(error)

    # -- its course --------------------------------------------------------------------------------

    def _begin_stream(self) -> None:
        self._flows = True
        data = self._reply.flow_to(self)
        if data:
            try:
                self.write(data)
            except Exception as e:
                self._reply.refuse(e)  # which comes back here, as with later pieces
        elif self._reply.is_complete:
            self._finish()

    def _finish(self, last: bytes = b"") -> None:
        client, reply = self._client, self._reply
        if not self._seen.is_whole:
            if last:
                client.send(last)
            self._hand_over()
            return
        answered_at = reply.answered_at
        # First: a client that is full by then pauses the connection that is read for it.
        client.send(last + _LAST_CHUNK)
        reply.release()
        self._errand.ended(200, answered_at, self._sent_bytes, b"", has_left=False)
        client.answered(self)

    def _hand_over(self) -> Exchange:
        self._reply.let_go()
        exchange = self._errand.hand_over(self._client, self._reply)
        exchange.take_over(
            list(sse.HEADERS) if self._has_begun else None,
            is_between_parts=self._seen.tail.endswith(OPENAI.part_end),
            last_write=self._last_write,
            sent_bytes=self._sent_bytes,
        )
        return exchange
