"""A client whose connections are kept: to workers, to an engine, to the manager."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from functools import cached_property

from .message import Headers, host_header, request_head
from .upstream_connection import BrokenOff, Endpoint, NotReached, UpstreamConnection

CONNECT_SECONDS = 5.0
# Workers keep a connection for 75 s and more: it is we who end it, never they as we write.
IDLE_SECONDS = 30.0


class Upstream:
    """Sends requests, and keeps the connections whose answers were read to their ends.

    ``tls`` is for servers that are not on this machine.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._idle: dict[Endpoint, deque[UpstreamConnection]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        # Kept: to ask for it is a system call each time, up to Python 3.11 (getpid).
        return asyncio.get_running_loop()

    async def request(
        self, endpoint: Endpoint, method: str, target: bytes, headers: Headers, body: bytes = b""
    ) -> UpstreamConnection:
        """Send a request and wait for the head of its answer; to be used as a context.

        ``target``, a path and its query, and ``headers`` are written as they are; host and length
        are added.

        A kept connection may have been closed by the other side as we wrote. If nothing has come
        over it, the request is sent again, once, over a new one.

        Raises:
            UpstreamError: there is no answer.
        """
        head = request_head(method, target, _host(endpoint), headers, len(body))
        kept = self._take(endpoint)
        if kept is not None:
            try:
                await kept.ask(head, body)
                return kept
            except BrokenOff:
                if kept.has_heard:
                    raise
        fresh = await self._connect(endpoint)
        await fresh.ask(head, body)
        return fresh

    def drop(self, endpoint: Endpoint) -> None:
        """End the idle connections to one that has left, or is about to."""
        for connection in self._idle.pop(endpoint, ()):
            connection.close()

    def close(self) -> None:
        """End every idle connection; those in use end with their answers."""
        self._is_closed = True
        for endpoint in list(self._idle):
            self.drop(endpoint)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _take(self, endpoint: Endpoint) -> UpstreamConnection | None:
        """The connection that was used last: the others may then grow old and go."""
        idle = self._idle.get(endpoint)
        if not idle:
            return None
        too_old = self._loop.time() - IDLE_SECONDS
        while idle:
            connection = idle.pop()
            if connection.is_open and connection.idle_since > too_old:
                return connection
            connection.close()
        return None

    def _keep(self, connection: UpstreamConnection) -> None:
        """It can carry another request."""
        if self._is_closed:
            connection.close()
            return
        idle = self._idle.get(connection.endpoint)
        if idle is None:
            idle = self._idle[connection.endpoint] = deque()
        connection.idle_since = self._loop.time()
        idle.append(connection)
        if self._timer is None:
            self._timer = self._loop.call_later(IDLE_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Close what has been idle for too long; come back when the next one will be."""
        too_old = self._loop.time() - IDLE_SECONDS
        for endpoint, idle in list(self._idle.items()):
            while idle and (idle[0].idle_since <= too_old or not idle[0].is_open):
                idle.popleft().close()
            if not idle:
                del self._idle[endpoint]
        oldest = min((idle[0].idle_since for idle in self._idle.values()), default=None)
        self._timer = None
        if oldest is not None:
            self._timer = self._loop.call_at(oldest + IDLE_SECONDS, self._sweep)

    async def _connect(self, endpoint: Endpoint) -> UpstreamConnection:
        loop = self._loop

        def make() -> UpstreamConnection:
            return UpstreamConnection(endpoint, self._keep)

        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                if isinstance(endpoint, str):
                    _, connection = await loop.create_unix_connection(make, endpoint)
                else:
                    _, connection = await loop.create_connection(make, *endpoint, ssl=self._tls)
        except TimeoutError:
            raise NotReached(f"no connection within {CONNECT_SECONDS:g} s") from None
        except OSError as e:
            raise NotReached(str(e) or type(e).__name__) from e
        return connection


def _host(endpoint: Endpoint) -> bytes:
    return b"engine" if isinstance(endpoint, str) else host_header(*endpoint)
