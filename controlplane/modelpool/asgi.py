"""Runs an ASGI application for what is asked on the manager's port: the management API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from modelpool_client.errors import ModelPoolError
from modelpool_client.http1.exchange import JSON_TYPE, Exchange
from modelpool_client.http1.message import Headers

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Not 2.4, where an application is to learn from an OSError of its next send that its client has
# left: a stream without news sends nothing, and would stay for ever.
SPOKEN = {"version": "3.0", "spec_version": "2.3"}
_MADE_ANEW = frozenset({b"content-length", b"transfer-encoding", b"connection"})


class AsgiApp:
    """Exchanges in, ASGI out (https://asgi.readthedocs.io, HTTP 2.3).

    An application is told that its client left and may go on: what it has begun to change is
    changed to the end.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, exchange: Exchange, path: str, headers: Headers, body: bytes) -> None:
        """``path``, ``headers`` and ``body`` are what the application is to see of the request."""
        call = _Call(exchange, body)
        exchange.on_left = call.left.set
        request = exchange.request
        scope: Scope = {
            "type": "http",
            "asgi": SPOKEN,
            "http_version": "1.0" if request.is_1_0 else "1.1",
            "scheme": "http",
            "method": request.method,
            "path": path,
            "raw_path": request.raw_path,
            "query_string": request.query,
            "root_path": "",
            "headers": headers,
            "client": None,
            "server": None,
            "state": {},
        }
        try:
            await self._app(scope, call.receive, call.send)
        except asyncio.CancelledError:
            if exchange.stopped_by is None:
                raise
            _end(exchange, exchange.stopped_by)


def _end(exchange: Exchange, error: ModelPoolError) -> None:
    """Who has the begin of an answer sees it break off: it need not be of a kind to tell errors."""
    if exchange.status:
        exchange.abort()
    else:
        exchange.fail(error)


class _Call:
    """One request's two callables."""

    def __init__(self, exchange: Exchange, body: bytes) -> None:
        self.left = asyncio.Event()
        self._exchange = exchange
        self._body: bytes | None = body
        self._start: Message | None = None

    async def receive(self) -> Message:
        """The whole body, then nothing until the client leaves."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        if not self._exchange.has_ended:
            await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """A whole answer in one piece where it comes as one."""
        exchange = self._exchange
        if message["type"] == "http.response.start":
            self._start = message
            if _length(message) is None:
                self._begin()
            return
        body, has_more = bytes(message.get("body", b"")), message.get("more_body", False)
        if self._start is not None and not has_more:
            start, self._start = self._start, None
            exchange.send(start["status"], _kept(start), body)
            return
        self._begin()
        exchange.write(body)
        if has_more:
            await exchange.drain()
        else:
            exchange.end()

    def _begin(self) -> None:
        if self._start is not None:
            start, self._start = self._start, None
            self._exchange.begin(start["status"], _kept(start), _length(start))


def _kept(start: Message) -> Headers:
    return [(k.lower(), v) for k, v in start.get("headers", ()) if k.lower() not in _MADE_ANEW]


def _length(start: Message) -> int | None:
    for key, value in start.get("headers", ()):
        if key.lower() == b"content-length":
            return int(value)
    return None


def say_json(headers: Headers) -> Headers:
    """For who reads a body only when it is called JSON; the guard has let curl's default pass."""
    return [*((k, v) for k, v in headers if k != b"content-type"), JSON_TYPE]
