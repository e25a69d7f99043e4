"""Where requests to ``/mcp`` come in, and what they need is made with the first of them."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from modelpool_client.errors import MethodNotAllowed
from modelpool_client.http1.exchange import Exchange

from modelpool.asgi import AsgiApp, say_json
from modelpool.mcp_server.sessions import SESSION_HEADER, opens_session

log = logging.getLogger(__name__)

PATH = "/mcp"
# Not GET: there is nothing that clients would have to be told of unasked, so no stream is open that
# waits for it. Not DELETE: a session is an id, of which nothing is kept.
METHODS = ("POST",)


class McpEndpoint:
    """Answers ``PATH`` of the pool at ``url``. A session has an id, by which its client can take
    calls back."""

    def __init__(self, url: str, max_body_bytes: int) -> None:
        self._url = url
        self._max_body_bytes = max_body_bytes
        self._serving: asyncio.Task[None] | None = None
        self._app: asyncio.Future[AsgiApp] | None = None
        self._closing = asyncio.Event()

    @staticmethod
    def is_asked(path: str) -> bool:
        """Is it ``PATH``?"""
        return path == PATH

    async def __call__(self, exchange: Exchange, path: str) -> None:
        """Answer a request.

        Raises:
            MethodNotAllowed: it is none of ``METHODS``.
        """
        method = exchange.request.method
        if method not in METHODS:
            raise MethodNotAllowed.of(path, method, METHODS)
        body = await exchange.read_body(self._max_body_bytes, "max_body_mb")
        if self._app is None or (self._app.done() and self._app.exception() is not None):
            self._app = asyncio.get_running_loop().create_future()
            self._serving = asyncio.create_task(self._serve(self._app))
        app = await asyncio.shield(self._app)
        if opens_session(body):
            exchange.headers.append((SESSION_HEADER.encode(), secrets.token_hex(16).encode()))
        await app(exchange, path, say_json(exchange.request.headers), body)

    async def close(self) -> None:
        """End what is under way."""
        self._closing.set()
        if self._serving is not None:
            await self._serving

    async def _serve(self, app: asyncio.Future[AsgiApp]) -> None:
        """In a task of its own: what answers has a beginning and an end, in one task."""
        try:
            # Half a second of other requests' time, if it were done here.
            serving = await asyncio.to_thread(_import_serving)
            async with serving(self._url, self._max_body_bytes) as ready:
                app.set_result(ready)
                await self._closing.wait()
        except Exception as e:
            if app.done():
                log.exception("%s ended badly", PATH)
            else:
                app.set_exception(e)
                app.exception()  # whoever waits for it may have left


def _import_serving() -> Callable[[str, int], AbstractAsyncContextManager[AsgiApp]]:
    from modelpool.mcp_server.server import serving

    return serving
