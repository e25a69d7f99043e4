"""The gateway: the OpenAI surface of every worker under one address, by model name.

Bytes in, bytes out. Of the body only ``model`` and ``stream`` are read; of the answer nothing. A
request is sent again only when its worker was gone or leaving before the first byte.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from modelpool_client.errors import (
    CODE_HEADER,
    InvalidRequest,
    MethodNotAllowed,
    ModelPoolError,
    NotFound,
    NotSupported,
    WorkerDraining,
    WorkerFailed,
)
from modelpool_client.wire import RESOLVED_HEADER

from modelpool.catalog.catalog import Catalog
from modelpool.catalog.model import Model
from modelpool.gateway.answer import HOP_HEADERS, Answer
from modelpool.gateway.asgi import (
    ClientGone,
    Departure,
    Receive,
    Scope,
    Send,
    parse_object,
    read_body,
    send_error,
    send_json,
)
from modelpool.gateway.connection import BadReply, BrokenOff, Headers, UpstreamError
from modelpool.gateway.upstream import Upstream
from modelpool.pool.pool import Pool
from modelpool.pool.waiters import PRIORITIES, Grant

# Surfaces live in the worker, which says 501 to those that its engine lacks.
RELAYED = frozenset(
    {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"}
    | {"/v1/rerank", "/v1/audio/transcriptions", "/v1/audio/speech", "/v1/images/generations"}
)
TRIES = 4
# It may be the request itself that ends workers.
BREAKS = 2
# A worker that is leaving tells the manager at the same time as it refuses us.
RETRY_PAUSE_SECONDS = 0.05
# Credentials for the pool are no business of a worker.
PRIVATE_HEADERS = frozenset({b"authorization", b"cookie", b"origin", b"referer"})
NOT_FORWARDED = HOP_HEADERS | PRIVATE_HEADERS | {RESOLVED_HEADER}
PRIORITY_HEADER = b"x-priority"
SESSION_HEADER = b"x-session-id"
JSON_TYPE = (b"content-type", b"application/json")
DRAINING = (CODE_HEADER.lower().encode(), WorkerDraining.default_code.encode())


class Meter(Protocol):
    """Counts what passes; must be quick."""

    def began(self, model_id: str, *, was_hot: bool) -> None: ...
    def ended(self, model_id: str, status: int, seconds: float) -> None: ...


class _Gone(Exception):
    """The worker was gone or leaving before the first byte: another try loses nothing."""

    def __init__(self, error: ModelPoolError, *, broke: bool = False) -> None:
        super().__init__(error.message)
        self.error = error
        self.broke = broke


@dataclass(frozen=True)
class _Wish:
    """How a request wants to be served: its class, and what it has in common with earlier ones."""

    priority: str
    affinity: str
    had_worker: bool = False


class Gateway:
    """The raw ASGI application behind ``/v1``."""

    def __init__(self, catalog: Catalog, pool: Pool, upstream: Upstream, meter: Meter) -> None:
        self._catalog = catalog
        self._pool = pool
        self._upstream = upstream
        self._meter = meter
        self.cut_by: ModelPoolError | None = None  # why requests are cancelled, if the pool does it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["path"].startswith("/v1/models"):
                await self._models(scope, send)
            elif scope["path"] not in RELAYED:
                raise NotFound(f"there is no route {scope['path']}; see /docs")
            elif scope["method"] != "POST":
                raise MethodNotAllowed(f"{scope['path']} takes POST, not {scope['method']}")
            else:
                await self._infer(scope, receive, send)
        except ClientGone:
            pass
        except ModelPoolError as error:
            await send_error(send, error)

    # -- what concerns the catalog is answered here ----------------------------------------------

    async def _models(self, scope: Scope, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{scope['path']} takes GET, not {scope['method']}")
        name = scope["path"].removeprefix("/v1/models")
        if name in ("", "/"):
            data = [self._openai_model(m) for m in self._catalog if self._pool.has(m.model_id)]
            await send_json(send, 200, {"object": "list", "data": data})
        elif name.startswith("/"):
            await send_json(send, 200, self._openai_model(self._catalog.get(name[1:])))
        else:
            raise NotFound(f"there is no route {scope['path']}")

    def _openai_model(self, model: Model) -> dict[str, Any]:
        status = self._pool.status(model.model_id)
        return {
            "id": model.model_id,
            "object": "model",
            "created": int(model.created_at),
            "owned_by": "modelpool",
            "state": status.state,
            "aliases": list(model.aliases),
            "context_length": model.context_length,
        }

    # -- the rest is relayed ---------------------------------------------------------------------

    async def _infer(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive, self._pool.config.max_body_bytes)
        data = parse_object(body)
        model = self._named(data)
        wish = _Wish(_priority(scope), _affinity(scope, data))
        began = time.perf_counter()
        answer = Answer(send)
        try:
            async with Departure(receive):
                await self._try(model, wish, scope, body, data.get("stream") is True, answer)
        except ModelPoolError as error:
            await answer.fail(error)
        except asyncio.CancelledError:
            if self.cut_by is None:
                raise
            await answer.fail(self.cut_by)
        finally:
            self._meter.ended(model.model_id, answer.status, time.perf_counter() - began)

    def _named(self, data: Mapping[str, Any]) -> Model:
        name = data.get("model")
        if name is None:
            text = "model is missing: say which; GET /v1/models lists them"
            raise InvalidRequest(text, param="model")
        if not isinstance(name, str):
            raise InvalidRequest("model must be a string", param="model")
        if name == "auto":
            text = "routing by 'auto' is not there yet; name a model, GET /v1/models lists them"
            raise NotSupported(text, param="model")
        return self._catalog.get(name)

    async def _try(
        self,
        model: Model,
        wish: _Wish,
        scope: Scope,
        body: bytes,
        is_stream: bool,
        answer: Answer,
    ) -> None:
        last: ModelPoolError | None = None
        breaks, end = 0, time.perf_counter() + self._pool.config.load_wait_seconds
        for attempt in range(TRIES):
            grant = self._pool.try_acquire(model.model_id, wish.affinity)
            if grant is None:
                left = end - time.perf_counter()  # however often it is sent, it waits once
                if last is not None and left <= 0:
                    raise last
                grant = await self._wait_for_grant(model.model_id, wish, left, is_stream, answer)
            if attempt == 0:  # one request is one hit or miss, however often it is sent
                self._meter.began(model.model_id, was_hot=grant.was_hot)
            try:
                await self._relay(grant, scope, body, answer)
                return
            except _Gone as gone:
                last, wish = gone.error, replace(wish, had_worker=True)
                self._upstream.drop(self._pool.config.host, grant.port)
                breaks += gone.broke
                if breaks >= BREAKS:
                    raise last from gone
            finally:
                grant.release()
            await asyncio.sleep(RETRY_PAUSE_SECONDS)
        assert last is not None
        raise last

    async def _wait_for_grant(
        self, model_id: str, wish: _Wish, wait: float, is_stream: bool, answer: Answer
    ) -> Grant:
        """A stream that waits is silent for a while, then gets comments, so that nobody on the
        way takes it for dead."""
        acquiring = self._pool.acquire(
            model_id,
            priority=wish.priority,
            affinity=wish.affinity,
            wait=wait,
            had_worker=wish.had_worker,
        )
        if not is_stream:
            return await acquiring
        waiting = asyncio.ensure_future(acquiring)
        try:
            ping = self._pool.config.stream_ping_seconds
            while not (await asyncio.wait({waiting}, timeout=ping))[0]:
                await answer.comment(self._pool.status(model_id).describe_wait())
            return waiting.result()
        except BaseException:
            if not waiting.cancel() and waiting.exception() is None:
                waiting.result().release()
            raise

    async def _relay(self, grant: Grant, scope: Scope, body: bytes, answer: Answer) -> None:
        host, target, headers = self._pool.config.host, _target(scope), _forwarded(scope, grant)
        try:
            with await self._upstream.post(host, grant.port, target, headers, body) as reply:
                if reply.status == 503 and DRAINING in reply.headers:
                    raise _Gone(
                        WorkerDraining(f"{grant.model_id} is being unloaded", retry_after=1)
                    )
                await answer.pass_on(reply, grant)
        except UpstreamError as e:
            who = f"the worker of {grant.model_id} on port {grant.port}"
            error = WorkerFailed(
                f"{who} failed: {self._why(grant, e)}",
                source="worker",
                retry_after=1,
            )
            if answer.has_content or isinstance(e, BadReply):
                raise error from e
            raise _Gone(error, broke=isinstance(e, BrokenOff)) from e

    def _why(self, grant: Grant, error: UpstreamError) -> str:
        diagnosis = self._pool.diagnosis(grant)
        return f"{error}; {diagnosis}" if diagnosis else str(error)


def _target(scope: Scope) -> bytes:
    path: bytes = scope["path"].encode("ascii")  # one of RELAYED, however it was written
    return path + b"?" + scope["query_string"] if scope["query_string"] else path


def _forwarded(scope: Scope, grant: Grant) -> Headers:
    headers = [pair for pair in scope["headers"] if pair[0] not in NOT_FORWARDED]
    # The guard has let a body pass that does not say what it is; the worker is told.
    if b"content-type" not in dict(headers):
        headers.append(JSON_TYPE)
    headers.append((RESOLVED_HEADER, grant.model_id.encode()))
    return headers


def _affinity(scope: Scope, data: Mapping[str, Any]) -> str:
    """What a conversation's requests have in common; empty where they do not say."""
    for key, value in scope["headers"]:
        if key == SESSION_HEADER:
            return str(value.decode("latin-1"))
    named = data.get("prompt_cache_key") or data.get("user")
    return named if isinstance(named, str) else ""


def _priority(scope: Scope) -> str:
    for key, value in scope["headers"]:
        if key == PRIORITY_HEADER:
            priority: str = value.decode("latin-1").lower()
            if priority in PRIORITIES:
                return priority
            raise InvalidRequest("X-Priority must be high, normal or low", param="X-Priority")
    return "normal"
