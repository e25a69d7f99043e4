"""The gateway: what workers answer, all of them under one address, by model name.

Bytes in, bytes out. Of the body only ``model`` and ``stream`` are read, of the answer nothing; the
rest is checked by the worker, or here before one is started for it: nothing is loaded for what can
only be refused. A request is sent again only when its worker was gone or leaving before the first
byte.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Protocol, TypeAlias
from urllib.parse import parse_qs, quote

from modelpool_client.errors import (
    CODE_HEADER,
    SOURCE_HEADER,
    Conflict,
    InvalidRequest,
    MethodNotAllowed,
    ModelPoolError,
    NotSupported,
    WorkerDraining,
    WorkerFailed,
)
from modelpool_client.http1.exchange import JSON_TYPE, Exchange
from modelpool_client.http1.message import HOP_HEADERS, Headers, Request, end_to_end
from modelpool_client.http1.relay import pass_on
from modelpool_client.http1.upgrade import upgrade
from modelpool_client.http1.upstream import Upstream
from modelpool_client.http1.upstream_connection import (
    BadReply,
    BrokenOff,
    UpstreamConnection,
    UpstreamError,
)
from modelpool_client.response_store import ResponseStore
from modelpool_client.stored_responses import StoredResponses
from modelpool_client.surfaces.body import MAX_BODY_BYTES, too_large
from modelpool_client.surfaces.codecs import CODECS
from modelpool_client.surfaces.families import FAMILIES, NOTHING_KNOWN, Translate, read
from modelpool_client.surfaces.names import answers_to
from modelpool_client.surfaces.openai import Completion
from modelpool_client.surfaces.routes import (
    BASIC,
    CHAT_PATH,
    INFER_PATH,
    WEBSOCKET_PATH,
    Surface,
    check_capabilities,
    check_engine,
    names_in,
    surface_of,
)
from modelpool_client.surfaces.translation import Known, Translation
from modelpool_client.wire import IGNORED_HEADER, MODEL_HEADER, RESOLVED_HEADER

from modelpool.catalog.catalog import Catalog
from modelpool.catalog.model import Model
from modelpool.gateway.coalesce import Coalescer, SharedAnswer, may_share
from modelpool.gateway.errors import as_error
from modelpool.gateway.keep_alive import REASON, KeepAlive
from modelpool.gateway.models import Models
from modelpool.pool.pool import Pool
from modelpool.pool.waiters import PRIORITIES, Grant, Use

# Of workers that were not there; those that are unloaded under a request cost it nothing but time.
TRIES = 4
# To decode tensors takes milliseconds for each megabyte: not in the loop's time.
LONG_BYTES = 1 << 18
# It may be the request itself that ends workers.
BREAKS = 2
# A worker that is leaving tells the manager at the same time as it refuses us. Each pause is twice
# the one before.
RETRY_PAUSE_SECONDS, LONGEST_RETRY_PAUSE_SECONDS = 0.05, 1.0
# Credentials for the pool are no business of a worker.
PRIVATE_HEADERS = frozenset({b"authorization", b"x-api-key", b"cookie", b"origin", b"referer"})
# Which page asks was looked at here. Without its Origin the rest would tell a worker of a link.
PAGE_HEADERS = frozenset(
    {b"sec-fetch-dest", b"sec-fetch-mode", b"sec-fetch-site", b"sec-fetch-user"}
)
NOT_FORWARDED = HOP_HEADERS | PRIVATE_HEADERS | PAGE_HEADERS | {RESOLVED_HEADER}
PRIORITY_HEADER = b"x-priority"
SESSION_HEADER = b"x-session-id"
CLIENT_LEFT = 499  # nginx's code for one that left before any answer
MODEL = MODEL_HEADER.encode()
IGNORED = IGNORED_HEADER.encode()
DRAINING = (CODE_HEADER.encode(), WorkerDraining.default_code.encode())
TOO_MANY = (429, 503)
OUT_OF_MEMORY = (CODE_HEADER.encode(), b"oom")
# With an error status: the worker has answered by itself, its engine was given nothing.
REFUSED = (SOURCE_HEADER.encode(), b"worker")


Surfaces: TypeAlias = Callable[[str], Awaitable[Sequence[str] | None]]


class Meter(Protocol):
    """Counts what passes; must be quick."""

    def began(self, model_id: str, *, was_hot: bool) -> None: ...
    def ended(self, model_id: str, status: int, seconds: float) -> None: ...
    def joined(self, model_id: str) -> None: ...


class _Gone(Exception):
    """The worker was gone or leaving before the first byte: another try loses nothing."""

    def __init__(self, error: ModelPoolError, *, broke: bool = False) -> None:
        super().__init__(error.message)
        self.error = error
        self.broke = broke

    @property
    def is_unloaded(self) -> bool:
        """It was there, and refused."""
        return isinstance(self.error, WorkerDraining)


@dataclass(eq=False, slots=True)
class _Wish:
    """How a request wants to be served: its class, and what it has in common with earlier ones."""

    priority: str
    affinity: str
    had_worker: bool = False


@dataclass(eq=False, slots=True)
class _Asked:
    """A request for a model: what it says, and where its answer goes; ``data`` is what was read of
    that."""

    request: Request
    answer: Exchange | SharedAnswer
    surface: Surface
    model: Model
    body: bytes
    data: dict[str, Any]
    path: str
    _said: dict[str, Any] | None = None

    def when_silent(self, reason: Callable[[], str]) -> None:
        """What the comments of a stream say from now on."""
        if self.is_stream:
            self.answer.wait_reason = reason

    def said(self) -> dict[str, Any]:
        """What its body says.

        Raises:
            InvalidRequest: it cannot be read.
        """
        surface = self.surface
        if not surface.has_names:
            return self.data
        if self._said is None:
            self._said = CODECS[surface.codec].decode(surface.path, self.request, self.body)
        return self._said

    @property
    def is_stream(self) -> bool:
        return FAMILIES[self.surface.family].is_stream(self.path, self.data)


class Gateway:
    """Answers whatever is asked under ``/v1``.

    ``prepare`` is awaited before a load, and raises why there can be none; ``surfaces`` gives the
    paths that an engine answers, None where that cannot be known.
    """

    def __init__(
        self,
        catalog: Catalog,
        pool: Pool,
        prepare: Callable[[str], Awaitable[None]],
        upstream: Upstream,
        meter: Meter,
        surfaces: Surfaces,
        responses: ResponseStore,
    ) -> None:
        self._catalog = catalog
        self._models = Models(catalog, pool)
        self._pool = pool
        self._prepare = prepare
        self._upstream = upstream
        self._meter = meter
        self._surfaces = surfaces
        self._responses = responses
        self._stored = StoredResponses(responses, "pool")
        self._coalescer = Coalescer(self._joined)
        self._leases = KeepAlive(pool)

    async def __call__(self, exchange: Exchange, path: str) -> None:
        """``path`` is the request's, tidied.

        Raises:
            ModelPoolError: for the client.
        """
        if self._models.is_asked(path):
            self._models.answer(exchange, path)
            return
        if self._stored.is_asked(path):
            await self._stored.answer(exchange, path)
            return
        if path == WEBSOCKET_PATH:
            self._open_websocket(exchange)
            return
        surface = surface_of(path, exchange.request.method)
        family = FAMILIES[surface.family]
        exchange.dialect = family.dialect
        if not surface.is_work:
            await self._look(exchange, surface)
            return
        body = await exchange.read_body(self._pool.config.max_body_bytes, "max_body_mb")
        # Where the path says which model it is, the body is the worker's business.
        names = dict(names_in(path)) if surface.has_names else None
        data = names or CODECS[surface.codec].decode(surface.path, exchange.request, body)
        model = self._named(data)
        if surface.codec == "json" and not (names or answers_to(model.names, data["model"])):
            # A name that is the pool's own affair, as ``current`` is: its worker does not know it.
            data = {**data, "model": model.model_id}
            body = json.dumps(data).encode()
        check_capabilities(surface, model.model_id, model.known_capabilities)
        if surface.path not in BASIC:
            serves = await self._surfaces(model.engine)
            if serves is not None:
                check_engine(surface, model.model_id, model.engine, serves)
        keep_alive = family.keep_alive(data)
        exchange.headers += self._leases.told(keep_alive)
        if family.load_answer is not None:
            loaded = family.load_answer(surface.path, data)
            if loaded is not None:
                await self._load_only(model, keep_alive)
                exchange.send_json(200, loaded)
                return
        priority = _priority(exchange.request, data) or model.priority
        wish = _Wish(priority, _affinity(exchange.request, data))
        began = time.perf_counter()
        exchange.headers.append((MODEL, model.model_id.encode("ascii", "replace")))
        asked = _Asked(exchange.request, exchange, surface, model, body, data, surface.at(path))
        if family.translate is not None:
            exchange.dialect = family.of(cache(partial(_translated, family.translate, asked)))
        try:
            with exchange:
                if _is_shareable(surface) and may_share(
                    model.coalesce, body, family.sampling(data), model.options
                ):
                    await self._share(exchange, asked, wish)
                else:
                    await self._try(asked, wish)
        finally:
            self._leases.keep(model.model_id, keep_alive)
            seconds = time.perf_counter() - began
            self._meter.ended(model.model_id, exchange.status or CLIENT_LEFT, seconds)

    def _open_websocket(self, exchange: Exchange) -> None:
        method = exchange.request.method
        if method != "GET":
            raise MethodNotAllowed.of(WEBSOCKET_PATH, method, ("GET",))
        upgrade(exchange, CHAT_PATH, lambda: self._pool.config.max_body_bytes, "max_body_mb")

    async def _load_only(self, model: Model, keep_alive: float | None) -> None:
        model_id = model.model_id
        if keep_alive == 0:
            await self._pool.unload(model_id, REASON)
            return
        await self._prepare(model_id)
        await self._pool.load(model_id, "", self._pool.config.load_wait_seconds)
        self._leases.keep(model_id, keep_alive)

    async def _look(self, exchange: Exchange, surface: Surface) -> None:
        """What a worker says of itself, its model named in the query. It loads nothing."""
        named = parse_qs(exchange.request.query.decode("ascii", "replace")).get("model", [None])
        model = self._named({"model": named[0]})
        grant = self._pool.try_acquire(model.model_id)
        if grant is None:
            name = model.model_id
            text = f"{name} is not loaded, and {surface.path} loads nothing; load it first"
            raise Conflict(text, code="model_not_loaded", param="model")
        exchange.headers.append((MODEL, model.model_id.encode("ascii", "replace")))
        try:
            asked = _Asked(exchange.request, exchange, surface, model, b"", {}, surface.path)
            await self._relay(grant, asked)
        except _Gone as gone:
            raise gone.error from gone

    async def _share(self, exchange: Exchange, asked: _Asked, wish: _Wish) -> None:
        """It may be at work for somebody else already."""

        async def compute(answer: SharedAnswer) -> None:
            await self._try(replace(asked, answer=answer), wish)

        # Not of another class: it would wait as long as that.
        path, query = asked.surface.path, asked.request.query
        key = (asked.model.model_id, path, query, wish.priority, asked.body)
        await self._coalescer.answer(key, exchange, compute, is_stream=asked.is_stream)

    def _joined(self, model_id: str) -> None:
        self._meter.began(model_id, was_hot=self._pool.status(model_id).state.is_serving)
        self._meter.joined(model_id)

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

    async def _try(self, asked: _Asked, wish: _Wish) -> None:
        model_id = asked.model.model_id
        last: ModelPoolError | None = None
        is_checked = False
        tries, breaks, end = 0, 0, time.perf_counter() + self._pool.config.load_wait_seconds
        for attempt in itertools.count():
            grant = self._pool.try_acquire(model_id, wish.affinity)
            if grant is None:
                if not is_checked:
                    known = await self._known(asked)
                    check = partial(_check, asked, known)
                    is_long = asked.surface.has_names and len(asked.body) > LONG_BYTES
                    checked = await asyncio.to_thread(check) if is_long else check()
                    asked.answer.headers += checked.headers
                    is_checked = True
                left = end - time.perf_counter()  # however often it is sent, it waits once
                if last is not None and left <= 0:
                    raise last
                asked.when_silent(lambda: self._pool.status(model_id).describe_wait())
                grant = await self._acquire(model_id, wish, left)
            asked.when_silent(lambda: f"{model_id} is at work on it")
            if attempt == 0:  # one request is one hit or miss, however often it is sent
                self._meter.began(model_id, was_hot=grant.was_hot)
            try:
                await self._relay(grant, asked)
                return
            except _Gone as gone:
                last, wish = gone.error, replace(wish, had_worker=True)
                self._upstream.drop((self._pool.config.host, grant.port))
                tries, breaks = tries + (not gone.is_unloaded), breaks + gone.broke
                if tries >= TRIES or breaks >= BREAKS or time.perf_counter() >= end:
                    raise last from gone
            await asyncio.sleep(min(RETRY_PAUSE_SECONDS * 2**attempt, LONGEST_RETRY_PAUSE_SECONDS))

    async def _known(self, asked: _Asked) -> Known:
        """What a worker knows beside the request."""
        family = FAMILIES[asked.surface.family]
        if family.translate is None:
            return NOTHING_KNOWN
        earlier, earlier_id = None, family.earlier_id(asked.data)
        if earlier_id is not None:
            earlier = await self._responses.find(earlier_id)
        model = asked.model
        serves = await self._surfaces(model.engine) or ()
        own = (INFER_PATH,) if "tensor_inference" in model.capabilities else ()
        return Known(earlier, (*serves, *own), model.capabilities)

    async def _acquire(self, model_id: str, wish: _Wish, wait: float) -> Grant:
        await self._prepare(model_id)
        return await self._pool.acquire(
            model_id,
            priority=wish.priority,
            affinity=wish.affinity,
            wait=wait,
            had_worker=wish.had_worker,
        )

    async def _relay(self, grant: Grant, asked: _Asked) -> None:
        """What the grant is for; afterwards it is given back. One whose client left before any
        answer is a use if the worker says so."""
        is_used = has_content = is_overload = False
        answer, granted_at, reply = asked.answer, time.perf_counter(), None
        try:
            endpoint = (self._pool.config.host, grant.port)
            target, headers = _target(asked), _forwarded(asked.request, grant)
            method = asked.surface.methods[0]
            sent = self._upstream.request(endpoint, method, target, headers, asked.body)
            with await sent as reply:
                if reply.status == 503 and DRAINING in reply.headers:
                    raise _Gone(
                        WorkerDraining(f"{grant.model_id} is being unloaded", retry_after=1)
                    )
                was_worked = reply.status < 400 or REFUSED not in reply.headers
                is_used = asked.surface.is_work and was_worked
                is_overload = is_used and _is_overload(reply)
                if answer.status and reply.status != 200:
                    raise as_error(reply.status, reply.headers, await reply.read())
                if not answer.status:  # the worker says it, too
                    answer.headers = [pair for pair in answer.headers if pair[0] != IGNORED]
                has_content = True  # it was answered: another try would compute it twice
                await pass_on(reply, answer, [])
        except UpstreamError as e:
            who = f"the worker of {grant.model_id} on port {grant.port}"
            error = WorkerFailed(
                f"{who} failed: {self._why(grant, e)}",
                source="worker",
                retry_after=1,
            )
            if has_content or isinstance(e, BadReply):
                raise error from e
            raise _Gone(error, broke=isinstance(e, BrokenOff)) from e
        finally:
            seconds = _first_token_seconds(reply, granted_at)
            grant.release(Use(is_used, seconds, is_overload))

    def _why(self, grant: Grant, error: UpstreamError) -> str:
        diagnosis = self._pool.diagnosis(grant)
        return f"{error}; {diagnosis}" if diagnosis else str(error)


def _is_shareable(surface: Surface) -> bool:
    """What is kept is its client's own, to go on from or to delete; where a path has names, the
    body does not say all."""
    return not FAMILIES[surface.family].is_kept and not surface.has_names


def _translated(translate: Translate, asked: _Asked) -> Translation:
    return translate(asked.path, asked.said(), NOTHING_KNOWN)


def _check(asked: _Asked, known: Known) -> Completion:
    """Refuse what the worker of the model would refuse, in its words and in its name: what the
    client is told must not depend on whether the model is loaded.

    A worker checks everything that it is given, so that a request for a HOT model is not checked
    here: it costs 20 µs for two short messages, 0.8 ms for an agent's 90 kB with 40 tools.

    Raises:
        InvalidRequest, PayloadTooLarge: as the worker.
    """
    try:
        if len(asked.body) > MAX_BODY_BYTES:
            raise too_large()
        # What an engine takes as it comes is for the engine to refuse.
        is_native = asked.surface.has_names and asked.surface.path in known.serves
        said = {} if is_native else asked.said()
        raw = asked.body if is_native else None
        request = read(asked.surface, said, raw, known=known, path=asked.path).completion
        request.upstream()
    except ModelPoolError as error:
        error.source = "worker"
        raise
    return request


def _target(asked: _Asked) -> bytes:
    # However it was written, unless names are written in it.
    path = quote(asked.path).encode() if asked.surface.has_names else asked.path.encode("ascii")
    query = asked.request.query
    return path + b"?" + query if query else path


def _forwarded(request: Request, grant: Grant) -> Headers:
    headers = end_to_end(request.headers, NOT_FORWARDED)
    # The guard has let a body pass that does not say what it is; the worker is told.
    if b"content-type" not in request.fields:
        headers.append(JSON_TYPE)
    headers.append((RESOLVED_HEADER, grant.model_id.encode()))
    return headers


def _affinity(request: Request, data: Mapping[str, Any]) -> str:
    """What a conversation's requests have in common; empty where they do not say."""
    session = request.fields.get(SESSION_HEADER)
    if session is not None:
        return session.decode("latin-1")
    named = data.get("prompt_cache_key") or data.get("user")
    return named if isinstance(named, str) else ""


def _priority(request: Request, data: Mapping[str, Any]) -> str | None:
    """What the header says, else the body; None where neither does."""
    header = request.fields.get(PRIORITY_HEADER)
    name, value = "priority", data.get("priority")
    if header is not None:
        name, value = "X-Priority", header.decode("latin-1").lower()
    if value is None:
        return None
    if not isinstance(value, str) or value not in PRIORITIES:
        raise InvalidRequest(f"{name} must be high, normal or low", param=name)
    return value


def _is_overload(reply: UpstreamConnection) -> bool:
    """Its engine has too much to do, or too little memory for it."""
    return reply.status in TOO_MANY or (reply.status >= 500 and OUT_OF_MEMORY in reply.headers)


def _first_token_seconds(reply: UpstreamConnection | None, granted_at: float) -> float | None:
    """Of an answer without an error."""
    if reply is None or reply.answered_at is None or reply.status >= 400:
        return None
    return reply.answered_at - granted_at
