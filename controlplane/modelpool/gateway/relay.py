"""The gateway: the OpenAI surface of every worker under one address, by model name.

Bytes in, bytes out. Of the body only ``model`` and ``stream`` are read, of the answer nothing; the
rest is checked by the worker, or here before one is started for it: nothing is loaded for what can
only be refused. A request is sent again only when its worker was gone or leaving before the first
byte.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from modelpool_client.errors import (
    CODE_HEADER,
    SOURCE_HEADER,
    InvalidRequest,
    ModelPoolError,
    NotSupported,
    WorkerDraining,
    WorkerFailed,
)
from modelpool_client.surfaces.body import MAX_BODY_BYTES, parse_object, too_large
from modelpool_client.surfaces.openai import Request, check_request
from modelpool_client.surfaces.routes import check_capabilities, check_route
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
    read_body,
    send_error,
)
from modelpool.gateway.connection import BadReply, BrokenOff, Headers, UpstreamError
from modelpool.gateway.models import Models
from modelpool.gateway.upstream import Upstream
from modelpool.pool.pool import Pool
from modelpool.pool.waiters import PRIORITIES, Grant

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
DRAINING = (CODE_HEADER.encode(), WorkerDraining.default_code.encode())
# With an error status: the worker has answered by itself, its engine was given nothing.
REFUSED = (SOURCE_HEADER.encode(), b"worker")


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
    """The raw ASGI application behind ``/v1``.

    ``prepare`` is awaited before a load, and raises why there can be none.
    """

    def __init__(
        self,
        catalog: Catalog,
        pool: Pool,
        prepare: Callable[[str], Awaitable[None]],
        upstream: Upstream,
        meter: Meter,
    ) -> None:
        self._catalog = catalog
        self._models = Models(catalog, pool)
        self._pool = pool
        self._prepare = prepare
        self._upstream = upstream
        self._meter = meter
        self.cut_by: ModelPoolError | None = None  # why requests are cancelled, if the pool does it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self._models.is_asked(scope["path"]):
                await self._models.answer(scope, send)
            else:
                check_route(scope["path"], scope["method"])
                await self._infer(scope, receive, send)
        except ClientGone:
            pass
        except asyncio.CancelledError:  # its body was still on the way
            if self.cut_by is None:
                raise
            await send_error(send, self.cut_by)
        except ModelPoolError as error:
            await send_error(send, error)

    async def _infer(self, scope: Scope, receive: Receive, send: Send) -> None:
        config = self._pool.config
        body = await read_body(receive, config.max_body_bytes, config.client_body_timeout_seconds)
        data = parse_object(body)
        model = self._named(data)
        check_capabilities(scope["path"], model.model_id, model.capabilities)
        wish = _Wish(_priority(scope), _affinity(scope, data))
        began = time.perf_counter()
        answer = Answer(send, model.model_id)
        try:
            async with Departure(receive):
                await self._try(model, wish, scope, body, data, answer)
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
        data: dict[str, Any],
        answer: Answer,
    ) -> None:
        last: ModelPoolError | None = None
        is_stream = data.get("stream") is True
        breaks, end = 0, time.perf_counter() + self._pool.config.load_wait_seconds
        for attempt in range(TRIES):
            grant = self._pool.try_acquire(model.model_id, wish.affinity)
            if grant is None:
                answer.headers = _check(scope["path"], body, data).headers
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
            await asyncio.sleep(RETRY_PAUSE_SECONDS)
        assert last is not None
        raise last

    async def _wait_for_grant(
        self, model_id: str, wish: _Wish, wait: float, is_stream: bool, answer: Answer
    ) -> Grant:
        """A stream that waits is silent for a while, then gets comments, so that nobody on the
        way takes it for dead."""
        acquiring = self._acquire(model_id, wish, wait)
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
                waiting.result().release(is_used=False)
            raise

    async def _acquire(self, model_id: str, wish: _Wish, wait: float) -> Grant:
        await self._prepare(model_id)
        return await self._pool.acquire(
            model_id,
            priority=wish.priority,
            affinity=wish.affinity,
            wait=wait,
            had_worker=wish.had_worker,
        )

    async def _relay(self, grant: Grant, scope: Scope, body: bytes, answer: Answer) -> None:
        """What the grant is for; afterwards it is given back. One whose client left before any
        answer is a use if the worker says so."""
        is_used = False
        try:
            host, target, headers = self._pool.config.host, _target(scope), _forwarded(scope, grant)
            with await self._upstream.post(host, grant.port, target, headers, body) as reply:
                if reply.status == 503 and DRAINING in reply.headers:
                    raise _Gone(
                        WorkerDraining(f"{grant.model_id} is being unloaded", retry_after=1)
                    )
                is_used = reply.status < 400 or REFUSED not in reply.headers
                await answer.pass_on(reply)
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
        finally:
            grant.release(is_used=is_used)

    def _why(self, grant: Grant, error: UpstreamError) -> str:
        diagnosis = self._pool.diagnosis(grant)
        return f"{error}; {diagnosis}" if diagnosis else str(error)


def _check(path: str, body: bytes, data: dict[str, Any]) -> Request:
    """Refuse what the worker of the model would refuse, in its words and in its name: what the
    client is told must not depend on whether the model is loaded.

    A worker checks everything that it is given, so that a request for a HOT model is not checked
    here: it costs 20 µs for two short messages, 0.8 ms for an agent's 90 kB with 40 tools.

    Raises:
        InvalidRequest, PayloadTooLarge: as the worker.
    """
    try:
        if len(body) > MAX_BODY_BYTES:
            raise too_large()
        request = check_request(path, data)
        request.upstream()
    except ModelPoolError as error:
        error.source = "worker"
        raise
    return request


def _target(scope: Scope) -> bytes:
    path: bytes = scope["path"].encode("ascii")  # one of SERVED, however it was written
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
