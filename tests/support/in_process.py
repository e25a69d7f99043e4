"""A server in the test's own process, and a client of it."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from modelpool_client.http1.connection import Handler
from modelpool_client.http1.server import HttpServer
from modelpool_client.http1.timeouts import Timeouts


@asynccontextmanager
async def client_of(handler: Handler) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks real HTTP, over a unix socket."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as sock:
        path = str(Path(folder) / "http.sock")
        sock.bind(path)
        sock.listen()
        server = HttpServer(
            handler, sock, source="pool", timeouts=Timeouts(), keep_alive_seconds=75
        )
        await server.start()
        transport = httpx.AsyncHTTPTransport(uds=path, verify=False)
        url = "http://127.0.0.1:8050"
        async with httpx.AsyncClient(transport=transport, base_url=url, timeout=60) as http:
            yield http
        await server.close(0)
