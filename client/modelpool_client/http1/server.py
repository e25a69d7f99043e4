"""Listening sockets and their connections: accepted, looked after, closed gently."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

from modelpool_client.errors import ModelPoolError, Source

from .connection import Connection, Handler, ServerConnection, Shortcut
from .exchange import Exchange
from .timeouts import Timeouts

log = logging.getLogger(__name__)

BACKLOG = 2048
# In one turn of the loop. uvloop's own servers take one, so that of 200 clients that come while
# the first of them are served the last waits for seconds.
ACCEPTED_AT_ONCE = 64
# Descriptors or memory have run out: as asyncio waits (its ACCEPT_RETRY_DELAY).
SHORT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
RETRY_SECONDS = 1.0
# A request may be on its way on a connection just made, or just used: to close under it would be a
# reset for its client instead of an answer.
NEW_SECONDS = 0.5
USED_SECONDS = 0.2
_LOOK_SECONDS = 0.01
NEVER = float("inf")


class HttpServer:
    """Serves a handler on listening sockets.

    Attributes:
        connections: all that are open.
        is_closing: answers say that theirs was the last on its connection.
        is_restarting: who closes it says that another will serve there in a moment.
    """

    def __init__(
        self,
        handler: Handler,
        *socks: socket.socket,
        source: Source,
        timeouts: Timeouts,
        keep_alive_seconds: float,
        shortcut: Shortcut | None = None,
        on_ended: Callable[[Exchange], None] | None = None,
    ) -> None:
        """``on_ended`` hears of every request that went by no shortcut, once it is over."""
        self.handler = handler
        self.on_ended = on_ended
        self.shortcut = shortcut
        self.source: Source = source
        self.timeouts = timeouts
        self.keep_alive_seconds = keep_alive_seconds
        self.connections: set[ServerConnection] = set()
        self.is_closing = self.is_restarting = False
        self._socks = socks
        self._is_accepting = False
        self._opening: set[asyncio.Task[object]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at = NEVER

    async def start(self) -> None:
        """Take connections."""
        for sock in self._socks:
            sock.setblocking(False)
            sock.listen(BACKLOG)
        self._listen()

    def opened(self, connection: ServerConnection) -> None:
        """One more."""
        self.connections.add(connection)
        self.look_by(connection.next_look)

    def look_by(self, when: float) -> None:
        """A connection has something due then."""
        if when < self._looks_at:
            if self._timer is not None:
                self._timer.cancel()
            self._looks_at = when
            self._timer = asyncio.get_running_loop().call_at(when, self._look)

    def closed(self, connection: ServerConnection) -> None:
        """One less."""
        self.connections.discard(connection)
        if not self.connections and self._timer is not None:
            self._timer.cancel()
            self._timer, self._looks_at = None, NEVER

    def stop_accepting(self) -> None:
        """Take no more connections; whoever comes waits in a socket's queue."""
        self.is_closing = True
        if self._retry is not None:
            self._retry.cancel()
        self._stop_listening()

    async def take_queued(self) -> None:
        """Accept who waits in a socket's queue already: nobody else will."""
        while True:
            for sock in self._socks:
                while self._accept(sock):
                    pass
            if not self._opening:  # nobody can have come since: there was no await
                return
            await asyncio.wait(self._opening)

    async def close(self, seconds: float, *, is_restarting: bool = False) -> None:
        """End idle connections at once and the others with their answers; after so many seconds
        the rest is cut. ``is_restarting``: another will serve there in a moment."""
        self.is_restarting = is_restarting
        self.stop_accepting()
        end = asyncio.get_running_loop().time() + seconds
        while (self.connections or self._opening) and (
            now := asyncio.get_running_loop().time()
        ) < end:
            for connection in list(self.connections):
                grace = NEW_SECONDS if connection.is_new else USED_SECONDS
                if connection.is_idle and now - connection.since >= grace:
                    connection.close()
            await asyncio.sleep(_LOOK_SECONDS)
        for connection in list(self.connections):
            connection.abort()
        if self._timer is not None:
            self._timer.cancel()

    def cut(self, error: ModelPoolError) -> int:
        """End every request under way with that error; how many there were."""
        cut = [c.exchange for c in self.connections if c.exchange is not None]
        for exchange in cut:
            exchange.stop(error)
        return len(cut)

    def _listen(self) -> None:
        self._is_accepting = True
        for sock in self._socks:
            asyncio.get_running_loop().add_reader(sock, self._accept, sock)

    def _stop_listening(self) -> None:
        if self._is_accepting:
            self._is_accepting = False
            for sock in self._socks:
                asyncio.get_running_loop().remove_reader(sock)

    def _accept(self, listening: socket.socket) -> bool:
        """Take those that wait; whether there may be more."""
        loop = asyncio.get_running_loop()
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                sock, _ = listening.accept()
            except (InterruptedError, ConnectionAbortedError):
                continue
            except OSError as e:
                if e.errno in SHORT_OF:
                    self._pause(e)
                return False
            task = loop.create_task(self._open(sock))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        return True

    async def _open(self, sock: socket.socket) -> None:
        try:
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                # Python's own loop does so only where the socket says that it is TCP's.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(lambda: Connection(self), sock)
        except OSError as e:
            sock.close()
            log.warning("a connection was lost as it came: %s", e)

    def _pause(self, error: OSError) -> None:
        log.error("no connection can be accepted for a second: %s", error)
        if self._is_accepting:
            self._stop_listening()
            loop = asyncio.get_running_loop()
            self._retry = loop.call_later(RETRY_SECONDS, self._listen)

    def _look(self) -> None:
        self._timer, self._looks_at = None, NEVER
        now = asyncio.get_running_loop().time()
        for connection in tuple(self.connections):
            connection.look(now)
        if self.connections:
            self.look_by(min(connection.next_look for connection in self.connections))
