"""Where every request on the manager's port comes in: who may, and who answers.

What models answer goes to the gateway, what workers report to the pool, the rest to the management
API. Nothing else stands between a client and its tokens.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from modelpool_client.errors import Forbidden, ModelPoolError
from modelpool_client.guard import Guard
from modelpool_client.http1.cors import (
    ALL_METHODS,
    MODEL_METHODS,
    answer_page,
    answer_stranger,
)
from modelpool_client.http1.exchange import Exchange
from modelpool_client.http1.message import Headers, Request
from modelpool_client.surfaces import engine_metrics
from modelpool_client.surfaces.body import parse_object
from modelpool_client.surfaces.codecs import CODECS
from modelpool_client.surfaces.families import dialect_of
from modelpool_client.surfaces.paths import route_path
from modelpool_client.surfaces.routes import NOT_SERVED, codec_of, is_surface

from modelpool.asgi import say_json
from modelpool.catalog.model import RESERVED_VERBS
from modelpool.gateway.open_inference import is_spoken
from modelpool.worker_reports import reporter

# Under which older clients ask for what the gateway answers without ``/api``.
SPELLINGS = frozenset({"/api/v1/chat/completions"})
PAGES = frozenset({"/", "/docs"})
BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})

Gateway = Callable[[Exchange, str], Awaitable[None]]
Reports = Callable[[Exchange, str, str], Awaitable[None]]
ManagementApi = Callable[[Exchange, str, Headers, bytes], Awaitable[None]]


class Api(Protocol):
    """One that answers what it is asked for itself."""

    def is_asked(self, path: str) -> bool: ...
    async def __call__(self, exchange: Exchange, path: str) -> None: ...


class Entry:
    """Checks Host, Origin and Content-Type before anything is read; answers preflights."""

    def __init__(
        self,
        api: ManagementApi,
        gateway: Gateway,
        guard: Guard,
        max_body_bytes: int,
        reports: Reports | None = None,
        others: Sequence[Api] = (),
    ) -> None:
        self._api = api
        self._gateway = gateway
        self._reports = reports
        self._others = others
        self._guard = guard
        self._max_body_bytes = max_body_bytes

    async def __call__(self, exchange: Exchange) -> None:
        """Answer a request.

        Raises:
            ModelPoolError: for its client.
        """
        request = exchange.request
        path = _path_of(request)
        exchange.dialect = dialect_of(path)
        try:
            origin = self._guard.check(request, is_page=path in PAGES)
        except Forbidden as refusal:
            if not answer_stranger(exchange, refusal):
                raise
            return
        methods = MODEL_METHODS if is_surface(path) else ALL_METHODS
        if origin is not None and answer_page(exchange, origin, methods):
            return
        # What is refused unread may be of any type: uploads are, where audio is concerned.
        has_body = request.method in BODY_METHODS and path not in NOT_SERVED
        if has_body:
            is_about_models = is_spoken(path) and not is_surface(path)
            codec = "tensors" if is_about_models else codec_of(path)
            CODECS[codec].check(request.headers, "pool")
        if is_surface(path) or engine_metrics.is_asked(request.method, path, request.query):
            await self._gateway(exchange, path)
        elif (other := next((o for o in self._others if o.is_asked(path)), None)) is not None:
            await other(exchange, path)
        elif self._reports is not None and (worker_id := reporter(path)) is not None:
            await self._reports(exchange, path, worker_id)
        elif has_body:
            await self._api(exchange, path, say_json(request.headers), await self._body(exchange))
        else:
            await self._api(exchange, path, request.headers, b"")

    def admits(self, request: Request) -> str | None:
        """PURE, while the guard's allowlist is the same. The path that a request with a JSON body
        asks for; None: it is refused, or of a web page."""
        path = _path_of(request)
        try:
            if self._guard.check(request) is not None:
                return None
            CODECS["json"].check(request.headers, "pool")
        except ModelPoolError:
            return None
        return path

    async def _body(self, exchange: Exchange) -> bytes:
        """Known to be JSON: of what FastAPI cannot parse it says only that it could not."""
        body = await exchange.read_body(self._max_body_bytes, "max_body_mb")
        if body.strip() not in (b"", b"null"):
            parse_object(body)
        return body


def _path_of(request: Request) -> str:
    path = route_path(request.path, request.raw_path, RESERVED_VERBS)
    return path.removeprefix("/api") if path in SPELLINGS else path
