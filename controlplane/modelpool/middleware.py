"""The outermost ASGI callable: who may come in, and which of the two halves answers.

``/v1`` goes to the gateway, a raw callable; the rest to FastAPI. Nothing stands between a client
and its tokens but this.
"""

from __future__ import annotations

import asyncio

from modelpool_client.errors import ModelPoolError
from modelpool_client.guard import check_headers, check_json
from modelpool_client.surfaces.body import parse_object
from modelpool_client.surfaces.connections import DEFAULT_TIMEOUT_SECONDS
from modelpool_client.surfaces.paths import route_path
from modelpool_client.surfaces.routes import NOT_SERVED

from modelpool.catalog.model import RESERVED_VERBS
from modelpool.gateway.asgi import (
    App,
    ClientGone,
    Message,
    Receive,
    Scope,
    Send,
    read_body,
    send_error,
)

PAGES = frozenset({"/", "/docs"})
BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
JSON_TYPE = (b"content-type", b"application/json")


class GuardMiddleware:
    """Checks Host, Origin and Content-Type before anything is read."""

    def __init__(
        self,
        api: App,
        gateway: App,
        hosts: frozenset[str],
        max_body_bytes: int,
        body_timeout: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> None:
        self._api = api
        self._gateway = gateway
        self._hosts = hosts
        self._max_body_bytes = max_body_bytes
        self._body_timeout = body_timeout
        self._under_way: set[asyncio.Task[object]] = set()
        self._cut_by: ModelPoolError | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            await self._answer(scope, receive, send)
        except asyncio.CancelledError:
            if self._cut_by is None:  # else whoever could be told has been
                raise
        finally:
            self._under_way.discard(task)

    def cut(self, error: ModelPoolError) -> int:
        """End every request that is under way; how many. Those of the management API that have no
        answer yet get ``error``; to the others the gateway tells it."""
        self._cut_by = error
        for task in self._under_way:
            task.cancel()
        return len(self._under_way)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._api(scope, receive, send)
            return
        path = route_path(scope["path"], scope.get("raw_path"), RESERVED_VERBS)
        if path != scope["path"]:
            scope = {**scope, "path": path}
        is_inference = scope["path"].startswith("/v1/")
        try:
            check_headers(scope["headers"], self._hosts, is_page=scope["path"] in PAGES)
            # What is refused unread may be of any type: uploads are, where audio is concerned.
            has_body = scope["method"] in BODY_METHODS and scope["path"] not in NOT_SERVED
            if has_body:
                check_json(scope["headers"])
            if is_inference:
                await self._gateway(scope, receive, send)
            else:
                await self._manage(scope, receive, send, has_body=has_body)
        except ModelPoolError as error:
            await send_error(send, error)
        except ClientGone:
            pass

    async def _manage(self, scope: Scope, receive: Receive, send: Send, *, has_body: bool) -> None:
        has_begun = False

        async def note(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            if has_body:
                receive = await self._checked_body(receive)
                _say_json(scope)
            await self._api(scope, receive, note)
        except asyncio.CancelledError:
            if self._cut_by is None or has_begun:
                raise
            await send_error(send, self._cut_by)

    async def _checked_body(self, receive: Receive) -> Receive:
        """The same with the body read and known to be JSON: FastAPI knows no limit, and of what it
        cannot parse it says only that it could not."""
        body = await read_body(receive, self._max_body_bytes, self._body_timeout)
        if body.strip() not in (b"", b"null"):
            parse_object(body)
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        return replay


def _say_json(scope: Scope) -> None:
    """FastAPI reads a body only when it is called JSON; the guard has let curl's default pass."""
    others = [(k, v) for k, v in scope["headers"] if k != b"content-type"]
    scope["headers"] = [*others, JSON_TYPE]
