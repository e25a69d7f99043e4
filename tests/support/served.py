"""The kit in this process: a loop in a thread, on a unix socket."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvloop
from modelpool_client.http1.server import HttpServer
from modelpool_worker.engine import EngineJob
from modelpool_worker.hosting.contract import Hosted
from modelpool_worker.hosting.server import TIMEOUTS, App


@contextmanager
def served(hosted: Hosted, path: str, **options: Any) -> Iterator[None]:
    """Serve it on a unix socket."""
    is_up, loop = threading.Event(), uvloop.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        app = App(EngineJob("toy", "m", "none", path, options), hosted)
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        server = HttpServer(app, sock, source="engine", timeouts=TIMEOUTS, keep_alive_seconds=60)
        await server.start()
        is_up.set()
        await stop.wait()
        await server.close(0)
        sock.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    assert is_up.wait(60)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
