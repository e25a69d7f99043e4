"""A client whose connections are kept: to workers, to an engine, to the manager."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable
from functools import cached_property

from .endpoint import Endpoint, LocalEndpoint, host_of
from .message import Headers, request_head
from .upstream_connection import BrokenOff, NotReached, UpstreamConnection

CONNECT_SECONDS = 5.0
# Workers keep a connection for 75 s and more: it is we who end it, never they as we write.
IDLE_SECONDS = 30.0


class Upstream:
    """Sends requests, and keeps the connections whose answers were read to their ends. Who waits
    for a new one takes a kept one if that is free first: the other side may be slow to accept.

    ``tls`` is for servers that are not on this machine. ``until_close``: see
    ``UpstreamConnection``.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, *, until_close: bool = False) -> None:
        self._tls = tls
        self._until_close = until_close
        self._idle: dict[Endpoint, deque[UpstreamConnection]] = {}
        self._waiting: dict[Endpoint, deque[asyncio.Future[UpstreamConnection]]] = {}
        self._connecting: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        # Kept: to ask for it is a system call each time, up to Python 3.11 (getpid).
        return asyncio.get_running_loop()

    async def request(
        self,
        endpoint: Endpoint,
        method: str,
        target: bytes,
        headers: Headers,
        body: bytes = b"",
        *,
        once: bool = False,
        begun: UpstreamConnection | None = None,
    ) -> UpstreamConnection:
        """Send a request and wait for the head of its answer; to be used as a context.

        ``target``, a path and its query, and ``headers`` are written as they are; host and length
        are added.

        A kept connection may have been closed by the other side as we wrote. If nothing has come
        over it, the request is sent again, once, over a new one; with ``once`` only if nothing of
        it was written, for a server that bills may have read it. Where there is no new one it was
        broken off, if anything of it was written: it may have been read. ``begun``: over which it
        was sent already.

        Raises:
            UpstreamError: there is no answer.
        """
        head = request_head(method, target, host_of(endpoint), headers, len(body))
        connection = begun or self.take(endpoint) or await self._obtain(endpoint)
        if begun is not None and not begun.was_kept:
            await begun.answer()
            return begun
        if connection.was_kept:
            try:
                await (connection.ask(head, body) if begun is None else connection.answer())
                return connection
            except BrokenOff as broken:
                if connection.has_heard or (once and connection.has_written):
                    raise
                has_written = connection.has_written
                try:
                    connection = await self._connect(endpoint)
                except NotReached:
                    if has_written:  # it may be the request that has ended who listened there
                        raise broken from None
                    raise
        await connection.ask(head, body)
        return connection

    async def prepare(self, endpoint: Endpoint) -> None:
        """Make a connection before there is a request for it.

        Raises:
            NotReached: there is none.
        """
        self._keep(await self._connect(endpoint))

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
        for task in self._connecting:
            task.cancel()

    def take(self, endpoint: Endpoint) -> UpstreamConnection | None:
        """An idle connection, if there is one, for who sends a request over it at once: the one
        that was used last, so that the others may grow old and go."""
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

    def open(self, endpoint: Endpoint, then: Callable[[bool], None]) -> None:
        """See to a connection for ``take``: a new one, or one that becomes free meanwhile. It is
        idle as ``then`` is called with True; with False there is none. If that does not take it,
        it is for whoever else waits."""

        def tell(waiter: asyncio.Future[UpstreamConnection]) -> None:
            self._end_wait(endpoint, waiter)
            # Of who accepts and closes at once another would be made, and another.
            if waiter.exception() is not None or not waiter.result().is_open:
                then(False)
                return
            connection = waiter.result()
            self._add_idle(connection)
            then(True)
            idle = self._idle.get(endpoint)
            if idle and idle[-1] is connection:
                idle.pop()
                self._keep(connection)

        self._begin_wait(endpoint).add_done_callback(tell)

    def _keep(self, connection: UpstreamConnection) -> None:
        """It can carry another request."""
        connection.was_kept = True
        waiting = self._waiting.get(connection.endpoint)
        while waiting and not self._is_closed:
            waiter = waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        self._add_idle(connection)

    def _add_idle(self, connection: UpstreamConnection) -> None:
        if self._is_closed:
            connection.close()
            return
        connection.idle_since = self._loop.time()
        idle = self._idle.get(connection.endpoint)
        if idle is None:
            idle = self._idle[connection.endpoint] = deque()
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

    async def _obtain(self, endpoint: Endpoint) -> UpstreamConnection:
        """A new connection, or one that became free meanwhile."""
        waiter = self._begin_wait(endpoint)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._keep(waiter.result())
            raise
        finally:
            self._end_wait(endpoint, waiter)

    def _begin_wait(self, endpoint: Endpoint) -> asyncio.Future[UpstreamConnection]:
        waiter: asyncio.Future[UpstreamConnection] = self._loop.create_future()
        self._waiting.setdefault(endpoint, deque()).append(waiter)
        connecting = self._loop.create_task(self._connect_for(waiter, endpoint))
        self._connecting.add(connecting)
        connecting.add_done_callback(self._connecting.discard)
        return waiter

    def _end_wait(self, endpoint: Endpoint, waiter: asyncio.Future[UpstreamConnection]) -> None:
        waiting = self._waiting.get(endpoint)
        if waiting is None:
            return
        with contextlib.suppress(ValueError):
            waiting.remove(waiter)
        if not waiting:
            del self._waiting[endpoint]

    async def _connect_for(
        self, waiter: asyncio.Future[UpstreamConnection], endpoint: Endpoint
    ) -> None:
        try:
            connection = await self._connect(endpoint)
        except asyncio.CancelledError:
            if not waiter.done():  # nobody else would tell who waits
                waiter.set_exception(NotReached("the connections were closed before there was one"))
            raise
        except Exception as e:
            if not waiter.done():
                waiter.set_exception(e)
        else:
            if waiter.done():
                self._keep(connection)
            else:
                waiter.set_result(connection)

    async def _connect(self, endpoint: Endpoint) -> UpstreamConnection:
        def make() -> UpstreamConnection:
            return UpstreamConnection(endpoint, self._keep, until_close=self._until_close)

        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await self._reach(endpoint, make)
        except TimeoutError:
            raise NotReached(f"no connection within {CONNECT_SECONDS:g} s") from None
        except OSError as e:
            raise NotReached(str(e) or type(e).__name__) from e

    async def _reach(
        self, endpoint: Endpoint, make: Callable[[], UpstreamConnection]
    ) -> UpstreamConnection:
        loop = self._loop
        if isinstance(endpoint, str):
            _, connection = await loop.create_unix_connection(make, endpoint)
            return connection
        if isinstance(endpoint, LocalEndpoint) and endpoint.path:
            # It may be of an earlier version, without one, or its queue be full.
            with contextlib.suppress(OSError):
                _, connection = await loop.create_unix_connection(make, endpoint.path)
                return connection
        host, port = endpoint[0], endpoint[1]
        _, connection = await loop.create_connection(make, host, port, ssl=self._tls)
        return connection
