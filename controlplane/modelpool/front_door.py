"""The outermost ASGI callable: who may come in, and which of the two halves answers.

``/v1`` goes to the gateway, a raw callable; the rest to FastAPI. Nothing stands between a client
and its tokens but this.
"""

from __future__ import annotations

from modelpool_client.errors import ModelPoolError
from modelpool_client.guard import check_headers, check_json

from modelpool.gateway.asgi import App, Receive, Scope, Send, send_error

BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
JSON_TYPE = (b"content-type", b"application/json")


class FrontDoor:
    """Checks Host, Origin and Content-Type before anything is read."""

    def __init__(self, api: App, gateway: App, hosts: frozenset[str]) -> None:
        self._api = api
        self._gateway = gateway
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._api(scope, receive, send)
            return
        try:
            check_headers(scope["headers"], self._hosts)
            if scope["method"] in BODY_METHODS:
                check_json(scope["headers"])
        except ModelPoolError as error:
            await send_error(send, error)
            return
        if scope["path"].startswith("/v1/"):
            await self._gateway(scope, receive, send)
        else:
            if scope["method"] in BODY_METHODS:
                _say_json(scope)
            await self._api(scope, receive, send)


def _say_json(scope: Scope) -> None:
    """FastAPI reads a body only when it is called JSON; the guard has let curl's default pass."""
    others = [(k, v) for k, v in scope["headers"] if k != b"content-type"]
    scope["headers"] = [*others, JSON_TYPE]
