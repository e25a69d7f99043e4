"""The gateway's client: POSTs to workers on this machine, over connections that are kept.

It exists for its price: with it the manager spends half the CPU time that it spent with aiohttp in
its place, on a request as on a stream of 200 chunks (``scripts/bench``, a canned worker). It does
only what a relay needs: raw pairs of headers, and the body in pieces as they come.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from functools import lru_cache

from modelpool.gateway.connection import BrokenOff, Connection, Endpoint, NotReached
from modelpool.pool.worker_client import base_url

CONNECT_SECONDS = 5.0
# Workers keep a connection for 75 s and more: it is we who end it, never they as we write.
IDLE_SECONDS = 30.0


class Upstream:
    """Sends requests, and keeps the connections whose answers were read to their ends."""

    def __init__(self) -> None:
        self._idle: dict[Endpoint, deque[Connection]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def post(
        self,
        host: str,
        port: int,
        target: bytes,
        headers: Iterable[tuple[bytes, bytes]],
        body: bytes,
    ) -> Connection:
        """Send a request and wait for the head of its answer; to be used as a context.

        ``target``, a path and its query, and ``headers`` are written as they are; host and length
        are added.

        A kept connection may have been closed by the worker as we wrote. If nothing has come over
        it, the request is sent again, once, over a new one.

        Raises:
            UpstreamError: there is no answer.
        """
        head = _head(host, port, target, headers, len(body))
        kept = self._take((host, port))
        if kept is not None:
            try:
                await kept.ask(head, body)
                return kept
            except BrokenOff:
                if kept.has_heard:
                    raise
        fresh = await self._connect((host, port))
        await fresh.ask(head, body)
        return fresh

    def drop(self, host: str, port: int) -> None:
        """End the idle connections to a worker that has left, or is about to."""
        for connection in self._idle.pop((host, port), ()):
            connection.close()

    def close(self) -> None:
        """End every idle connection; those in use end with their answers."""
        self._is_closed = True
        for endpoint in list(self._idle):
            self.drop(*endpoint)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _take(self, endpoint: Endpoint) -> Connection | None:
        """The connection that was used last: the others may then grow old and go."""
        idle = self._idle.get(endpoint)
        if not idle:
            return None
        too_old = asyncio.get_running_loop().time() - IDLE_SECONDS
        while idle:
            connection = idle.pop()
            if connection.is_open and connection.idle_since > too_old:
                return connection
            connection.close()
        return None

    def _keep(self, connection: Connection) -> None:
        """It can carry another request."""
        if self._is_closed:
            connection.close()
            return
        idle = self._idle.get(connection.endpoint)
        if idle is None:
            idle = self._idle[connection.endpoint] = deque()
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        idle.append(connection)
        if self._timer is None:
            self._timer = loop.call_later(IDLE_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Close what has been idle for too long; come back when the next one will be."""
        loop = asyncio.get_running_loop()
        too_old = loop.time() - IDLE_SECONDS
        for endpoint, idle in list(self._idle.items()):
            while idle and (idle[0].idle_since <= too_old or not idle[0].is_open):
                idle.popleft().close()
            if not idle:
                del self._idle[endpoint]
        oldest = min((idle[0].idle_since for idle in self._idle.values()), default=None)
        self._timer = None
        if oldest is not None:
            self._timer = loop.call_at(oldest + IDLE_SECONDS, self._sweep)

    async def _connect(self, endpoint: Endpoint) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await loop.create_connection(
                    lambda: Connection(endpoint, self._keep), *endpoint
                )
        except TimeoutError:
            raise NotReached(f"no connection within {CONNECT_SECONDS:g} s") from None
        except OSError as e:
            raise NotReached(str(e) or type(e).__name__) from e
        return connection


@lru_cache(maxsize=1024)
def _host(host: str, port: int) -> bytes:
    return base_url(host, port).removeprefix("http://").encode("ascii")


def _head(
    host: str, port: int, target: bytes, headers: Iterable[tuple[bytes, bytes]], length: int
) -> bytes:
    return b"POST %b HTTP/1.1\r\nhost: %b\r\n%bcontent-length: %d\r\n\r\n" % (
        target,
        _host(host, port),
        b"".join([b"%b: %b\r\n" % pair for pair in headers]),
        length,
    )
