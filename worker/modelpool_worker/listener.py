"""The public port: bound before anything heavy, served by uvicorn's protocol, closed gently."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, cast

import uvicorn
from modelpool_client.surfaces.connections import Timeouts, close_stalled
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

KEEP_ALIVE_SECONDS = 90
CLOSE_SECONDS = 0.5
LINGER_SECONDS = 0.2


class HttpListener:
    """Serves an ASGI app on a listening socket.

    Not ``uvicorn.Server``: that one wakes ten times a second, takes the signals, and closes its
    socket with connections still in the backlog, which resets them.
    """

    def __init__(self, app: Any, sock: socket.socket, timeouts: Timeouts) -> None:
        self._sock = sock
        self._timeouts = timeouts
        self._config = uvicorn.Config(
            app,
            http=HttpToolsProtocol,
            ws="none",
            loop="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        self._config.load()
        self._state = ServerState()
        self._connections = cast("set[HttpToolsProtocol]", self._state.connections)

    async def start(self) -> None:
        """Take connections."""
        self._loop = asyncio.get_running_loop()
        # A duplicate, so that the backlog survives the server's closing.
        self._server = await self._loop.create_server(self._protocol, sock=self._sock.dup())
        closing = close_stalled(self._connections, self._timeouts, "worker")
        self._closing = asyncio.ensure_future(closing)

    async def close(self) -> None:
        """Answer what the kernel has accepted already, close idle connections, close the port."""
        self._server.close()
        await self._take_backlog()
        self._sock.close()
        await self._finish(CLOSE_SECONDS)
        self._closing.cancel()
        for connection in list(self._connections):
            connection.transport.abort()

    def _protocol(self) -> HttpToolsProtocol:
        return HttpToolsProtocol(self._config, self._state, {}, self._loop)

    async def _take_backlog(self) -> None:
        self._sock.setblocking(False)
        with contextlib.suppress(BlockingIOError, OSError):
            while True:
                connection, _ = self._sock.accept()
                await self._loop.connect_accepted_socket(self._protocol, connection)

    async def _finish(self, seconds: float) -> None:
        end = self._loop.time() + seconds
        while self._connections and self._loop.time() < end:
            for connection in list(self._connections):
                if not self._may_ask(connection):
                    connection.shutdown()
            await asyncio.sleep(0.01)

    def _may_ask(self, connection: HttpToolsProtocol) -> bool:
        """Whether a request may be on its way: on a new connection, or on one just used.

        To close under it would be a reset for the client instead of an answer.
        """
        if connection.cycle is None:
            return True
        timer = connection.timeout_keep_alive_task
        if timer is None:
            return False
        idle = self._loop.time() - (timer.when() - KEEP_ALIVE_SECONDS)
        return idle < LINGER_SECONDS
