"""The gateway: what workers answer, all of them under one address, by model name.

Bytes in, bytes out. Of the body only ``model`` and ``stream`` are read, of the answer nothing; the
rest is checked by the worker, or here before one is started for it: nothing is loaded for what can
only be refused. A request is sent again only before the first byte of an answer: when its worker
was gone, leaving or has failed, within a budget; what may be billed only if it was not begun.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, Protocol, TypeAlias
from urllib.parse import parse_qs, parse_qsl, quote, urlencode

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
from modelpool_client.http1.exchange import JSON_TYPE, Exchange, begun_by
from modelpool_client.http1.message import HOP_HEADERS, Headers, Request, end_to_end
from modelpool_client.http1.relay import pass_on, passed_on
from modelpool_client.http1.request_ids import REQUEST_ID, id_of
from modelpool_client.http1.upgrade import upgrade
from modelpool_client.http1.upstream import Upstream
from modelpool_client.http1.upstream_connection import (
    BadReply,
    BrokenOff,
    UpstreamConnection,
    UpstreamError,
)
from modelpool_client.owners import owner_of
from modelpool_client.response_store import ResponseStore
from modelpool_client.stored_responses import StoredResponses
from modelpool_client.surfaces import engine_metrics
from modelpool_client.surfaces.body import MAX_BODY_BYTES, too_large
from modelpool_client.surfaces.chat_template import FAULT, no_chat
from modelpool_client.surfaces.codecs import CODECS
from modelpool_client.surfaces.content import denied_need, needs_of, refusal
from modelpool_client.surfaces.dialect import Dialect
from modelpool_client.surfaces.families import FAMILIES, NOTHING_KNOWN, Family, Translate, read
from modelpool_client.surfaces.names import answers_to
from modelpool_client.surfaces.openai import Completion
from modelpool_client.surfaces.parameters import Support
from modelpool_client.surfaces.routes import (
    BASIC,
    CHAT_PATH,
    INFER_PATH,
    WEBSOCKET_PATH,
    Surface,
    check_capabilities,
    check_engine,
    names_in,
    of_one_worker,
    surface_of,
    told_surface,
    with_model,
)
from modelpool_client.surfaces.translation import Known, Translation
from modelpool_client.tracing.context import TRACEPARENT
from modelpool_client.wire import (
    CHANGED_HEADER,
    IGNORED_HEADER,
    MODEL_HEADER,
    OWNER_HEADER,
    RESOLVED_HEADER,
    RETRIED_HEADER,
    VIRTUAL_HEADER,
)

from modelpool.catalog.catalog import Catalog
from modelpool.catalog.model import Model
from modelpool.catalog.request_rules import read_rules
from modelpool.gateway.alternatives import Alternatives
from modelpool.gateway.attempt import Attempt
from modelpool.gateway.breaker import CODE, Rules, Verdict, verdict_of
from modelpool.gateway.breakers import UNWATCHED, Breakers, Passed
from modelpool.gateway.coalesce import Coalescer, SharedAnswer, may_share
from modelpool.gateway.errors import as_error
from modelpool.gateway.keep_alive import REASON, KeepAlive
from modelpool.gateway.models import NO_NAMES, NO_PROBLEMS, Models, Problems, VirtualNames
from modelpool.gateway.retry_budget import RetryBudget, pause_seconds
from modelpool.gateway.stream_watch import NoAnswer, StreamWatch, kind_of
from modelpool.gateway.virtual import NO_VIRTUAL, Virtual
from modelpool.observe.span_names import (
    ADDRESS,
    PORT,
    REPLICA,
    RESENT,
    STATUS,
    VIRTUAL_MODEL,
    WORKER,
)
from modelpool.observe.span_names import MODEL as MODEL_ATTRIBUTE
from modelpool.observe.spans import NO_SPAN, Span, current
from modelpool.observe.tracer import Tracer
from modelpool.pool.pool import Pool
from modelpool.pool.waiters import PRIORITIES, UNUSED, Grant, Use
from modelpool.routing.apply_rules import applied, header_value, is_changed

# Of workers that were not there; those that are unloaded under a request cost it nothing but time.
TRIES = 4
# To decode tensors takes milliseconds for each megabyte: not in the loop's time.
LONG_BYTES = 1 << 18
# It may be the request itself that ends workers, or their engines: these answer so for it.
BREAKS = 2
ENDED_BY_IT, ENGINE_DIED = 502, b"engine_died"
# Of a prompt, what is looked at for ``balance: prefix``: about 250 tokens.
PREFIX_BYTES = 1024
# Credentials for the pool are no business of a worker.
PRIVATE_HEADERS = frozenset({b"authorization", b"x-api-key", b"cookie", b"origin", b"referer"})
# Which page asks was looked at here. Without its Origin the rest would tell a worker of a link.
PAGE_HEADERS = frozenset(
    {b"sec-fetch-dest", b"sec-fetch-mode", b"sec-fetch-site", b"sec-fetch-user"}
)
VIRTUAL = VIRTUAL_HEADER.encode()
NOT_FORWARDED = (
    HOP_HEADERS | PRIVATE_HEADERS | PAGE_HEADERS | {RESOLVED_HEADER, VIRTUAL, OWNER_HEADER}
)
PRIORITY_HEADER = b"x-priority"
SESSION_HEADER = b"x-session-id"
CLIENT_LEFT = 499  # nginx's code for one that left before any answer
MODEL, RETRIED = MODEL_HEADER.encode(), RETRIED_HEADER.encode()
# A server elsewhere that says so has not begun.
OVERLOADED = b"upstream_overloaded"
IGNORED, CHANGED = IGNORED_HEADER.encode(), CHANGED_HEADER.encode()
DRAINING = (CODE_HEADER.encode(), WorkerDraining.default_code.encode())
TOO_MANY = (429, 503)
OUT_OF_MEMORY = (CODE_HEADER.encode(), b"oom")
# With an error status: the worker has answered by itself, its engine was given nothing.
REFUSED = (SOURCE_HEADER.encode(), b"worker")


Surfaces: TypeAlias = Callable[[str], Awaitable[Sequence[str] | None]]
Supports: TypeAlias = Callable[[str], Awaitable[Support]]
AskedOnce: TypeAlias = Callable[[str], Awaitable[bool]]


class Refused(Protocol):
    """Hears of a request that ended before a worker had it; must be quick. ``name``: of its model,
    as it was asked for. ``error`` None: its client has left. ``via``: the virtual model that it
    was for."""

    def __call__(
        self,
        request: Request,
        path: str,
        name: object,
        error: ModelPoolError | None,
        seconds: float,
        *,
        is_stream: bool = False,
        via: bytes = b"",
    ) -> None: ...


def unheard(
    request: Request,
    path: str,
    name: object,
    error: ModelPoolError | None,
    seconds: float,
    *,
    is_stream: bool = False,
    via: bytes = b"",
) -> None:
    """Nobody keeps a log."""


async def never_once(engine: str) -> bool:
    """No engine bills anything."""
    return False


class Meter(Protocol):
    """Counts what passes; must be quick."""

    def began(self, model_id: str, *, was_hot: bool) -> None: ...
    def ended(self, model_id: str, status: int, seconds: float) -> None: ...
    def joined(self, model_id: str) -> None: ...
    def waited(self, model_id: str, seconds: float) -> None: ...


class _Gone(Exception):
    """The worker was gone or leaving before the first byte, or answered with a failure: another try
    loses nothing. ``is_answer``: it was that, and another try is granted."""

    def __init__(
        self, error: ModelPoolError, *, broke: bool = False, is_answer: bool = False
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.broke = broke
        self.is_answer = is_answer

    @property
    def is_unloaded(self) -> bool:
        """It was there, and refused."""
        return isinstance(self.error, WorkerDraining)


@dataclass(eq=False, slots=True)
class Wish:
    """How a request wants to be served: its class, and what it has in common with earlier ones."""

    priority: str
    affinity: str
    had_worker: bool = False


@dataclass(eq=False, slots=True)
class Begun:
    """A request that was sent to a worker.

    Attributes:
        at: when it was granted, in seconds of ``perf_counter``.
        reply: the connection that it was sent over.
        is_taken: somebody sees to the grant and the connection.
    """

    grant: Grant
    reply: UpstreamConnection
    at: float
    is_taken: bool = False


@dataclass(eq=False, slots=True)
class Tries:
    """What was tried for one request.

    Attributes:
        once: it may be billed when it was begun.
        end: until when it may be sent, in seconds of ``perf_counter``.
        left: how often it may be sent again after a failure.
        failed: keys of replicas that did not answer it.
        told: who failed, for the client.
    """

    once: bool
    end: float
    left: int
    gone: int = 0
    breaks: int = 0
    failed: set[str] = field(default_factory=set)
    told: list[str] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Asked:
    """A request for a model: what it says, and where its answer goes; ``data`` is what was read of
    that.

    Attributes:
        via: the virtual model, and its version, that it was sent to before.
        is_at_worker: one has it, or has had it, and tells of it; else ``refusal`` is why not.
        broken: what its stream has said went wrong.
    """

    request: Request
    answer: Exchange | Attempt | SharedAnswer
    surface: Surface
    model: Model
    body: bytes
    data: dict[str, Any]
    path: str
    query: bytes
    via: bytes = b""
    is_at_worker: bool = False
    refusal: ModelPoolError | None = None
    broken: ModelPoolError | None = None
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
    paths that an engine answers, None where that cannot be known, ``support`` what it makes of
    parameters, ``asked_once`` whether it may bill what it has begun, ``problems`` why a
    model's engine cannot be used, if so, ``reason`` why one was found to lack a capability,
    ``virtual`` answers for names that are no models', which ``names`` has; ``refused`` hears of
    what no worker has had; ``tracer`` None: nothing is traced.

    Attributes:
        breakers: of the workers and the servers elsewhere that it asks.
    """

    def __init__(
        self,
        catalog: Catalog,
        pool: Pool,
        prepare: Callable[[str], Awaitable[None]],
        upstream: Upstream,
        meter: Meter,
        surfaces: Surfaces,
        support: Supports,
        responses: ResponseStore,
        problems: Problems = NO_PROBLEMS,
        reason: Callable[[str, str], str] = lambda model_id, word: "",
        asked_once: AskedOnce = never_once,
        virtual: Virtual = NO_VIRTUAL,
        names: VirtualNames = NO_NAMES,
        breakers: Breakers | None = None,
        refused: Refused = unheard,
        tracer: Tracer | None = None,
    ) -> None:
        self.tracer = tracer
        self._traced = tracer.request if tracer is not None else _untraced
        self.breakers = breakers or Breakers(lambda: Rules(failures=0), pool, _tell_nobody)
        self._budget = RetryBudget()
        self._refused = refused
        self._catalog = catalog
        self._virtual = virtual
        self._models = Models(catalog, pool, problems, names)
        self._pool = pool
        self._prepare = prepare
        self._upstream = upstream
        self._meter = meter
        self._surfaces = surfaces
        self._able: set[tuple[str, str]] = set()  # engines, and surfaces that they answer
        self._support = support
        self._asked_once = asked_once
        self._reason = reason
        self._alternatives = Alternatives(catalog, pool, surfaces)
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
        if path == engine_metrics.SURFACE.path:
            await self._look(exchange, engine_metrics.SURFACE)
            return
        if (told := told_surface(path, exchange.request.method)) is not None:
            await self._tell(exchange, told)
            return
        surface = surface_of(path, exchange.request.method)
        if not surface.is_work:
            await self._look(exchange, surface)
            return
        with self._traced(exchange, surface.path):
            body = await exchange.read_body(self._pool.config.max_body_bytes, "max_body_mb")
            # Where the path says which model it is, the body is the worker's business.
            names = dict(names_in(path)) if surface.has_names else None
            data = names or CODECS[surface.codec].decode(surface.path, exchange.request, body)
            if "model" not in data and (name := _model_in(exchange.request.query)) is not None:
                # Clients of servers with one model name none in the body.
                data = {**data, "model": name}
                body = CODECS[surface.codec].rename(exchange.request, body, data, name)
            exchange.model = str(data.get("model") or "")
            began = time.perf_counter()
            try:
                await self.ask(exchange, path, surface, body, data)
            except ModelPoolError as error:
                seconds, name = time.perf_counter() - began, data.get("model")
                self._refused(exchange.request, surface.path, name, error, seconds)
                raise

    async def ask(
        self,
        exchange: Exchange | Attempt,
        path: str,
        surface: Surface,
        body: bytes,
        data: dict[str, Any],
    ) -> None:
        """Have a request answered that was read: ``data`` is what its ``body`` says.

        Raises:
            ModelPoolError: for the client, where it was told nothing yet.
        """
        family = FAMILIES[surface.family]
        model = self._named(data)
        if model is None or (
            model.fallbacks
            and _is_first(exchange)
            and not surface.is_of_model
            and not _is_load(family, surface, data)
        ):
            await self._virtual.answer(self.ask, exchange, path, surface, body, data)
            return
        if is_renamed(model, data["model"]):
            if surface.model_in == "path":
                path = with_model(path, model.model_id)
            else:
                rename = CODECS[surface.codec].rename
                body = rename(exchange.request, body, data, model.model_id)
            data = {**data, "model": model.model_id}
        if model.request:
            data, body = self._ruled(exchange, surface, model, data, body)
        try:
            await self._check_able(surface, model, data)
        except (InvalidRequest, NotSupported) as refusal:
            needs = {word for word, _ in needs_of(surface.path, data)}
            await self._alternatives.tell(refusal, model.model_id, surface, needs)
            raise
        keep_alive = family.keep_alive(data)
        exchange.headers += self._leases.told(keep_alive)
        if family.load_answer is not None:
            loaded = family.load_answer(surface.path, data)
            if loaded is not None:
                await self._load_only(model, keep_alive)
                exchange.send_json(200, loaded)
                return
        priority = priority_of(exchange.request, data) or model.priority
        wish = Wish(priority, affinity_of(exchange.request, data, model.balance))
        began = time.perf_counter()
        exchange.headers.append(model_header(model.model_id))
        request, at = exchange.request, surface.at(path)
        via = exchange.via if isinstance(exchange, Attempt) else dict(exchange.headers).get(VIRTUAL)
        asked = Asked(request, exchange, surface, model, body, data, at, request.query, via or b"")
        exchange.dialect = _dialect(asked)
        is_joint = is_shared(surface, model, body, data)
        try:
            with exchange, self._asking(asked):
                if is_joint:
                    await self._share(exchange, asked, wish)
                else:
                    await self._try(asked, wish)
        finally:
            self._leases.keep(model.model_id, keep_alive)
            seconds = time.perf_counter() - began
            status = asked.broken.status if asked.broken is not None else exchange.status
            self._meter.ended(model.model_id, status or CLIENT_LEFT, seconds)
            if not asked.is_at_worker and not is_joint:
                self._tell_refusal(asked, seconds)

    def _asking(self, asked: Asked) -> Span:
        """Of one of a plan's models; of the only one it is the request's own."""
        span = current()
        if not span.is_recording:
            return NO_SPAN
        if not isinstance(asked.answer, Attempt) and not asked.via:
            return NO_SPAN
        if asked.via:
            span.set({VIRTUAL_MODEL: asked.via.decode("ascii", "replace")})
        return span.child(
            f"ask {asked.model.model_id}", attributes={MODEL_ATTRIBUTE: asked.model.model_id}
        )

    async def go_on(self, exchange: Exchange, asked: Asked, wish: Wish, begun: Begun) -> None:
        """Answer a request that was sent to a worker by another way."""
        model_id = asked.model.model_id
        exchange.dialect = _dialect(asked)
        try:
            with exchange:
                await self._try(asked, wish, begun)
        finally:
            if not begun.is_taken:  # it was ended before
                begun.reply.leave()
                begun.grant.release(UNUSED)
            seconds = time.perf_counter() - begun.at
            status = asked.broken.status if asked.broken is not None else exchange.status
            self._meter.ended(model_id, status or CLIENT_LEFT, seconds)
            if begun.is_taken and not asked.is_at_worker:
                self._tell_refusal(asked, seconds)

    def _tell_refusal(self, asked: Asked, seconds: float) -> None:
        self._refused(
            asked.request,
            asked.surface.path,
            asked.data.get("model"),
            asked.refusal,
            seconds,
            is_stream=asked.is_stream,
            via=asked.via,
        )

    def _ruled(
        self,
        exchange: Exchange | Attempt,
        surface: Surface,
        model: Model,
        data: dict[str, Any],
        body: bytes,
    ) -> tuple[dict[str, Any], bytes]:
        """The request as its model's entry wants it; the client is told what was changed."""
        rules = read_rules(model.request)
        if rules.preset:
            rules = rules.with_preset(self._virtual.preset(rules.preset))
        changed, changes = applied(rules, surface.path, data)
        if not changes:
            return data, body
        before = [value for name, value in exchange.headers if name == CHANGED]
        told = (CHANGED, b", ".join([*before, header_value(changes)]))
        exchange.headers = [*(pair for pair in exchange.headers if pair[0] != CHANGED), told]
        if not is_changed(surface):
            return data, body
        return changed, CODECS[surface.codec].rename(
            exchange.request, body, changed, model.model_id
        )

    async def _check_able(self, surface: Surface, model: Model, data: dict[str, Any]) -> None:
        """Whether the model can do what it is asked, as far as is known: HOT or not.

        Raises:
            InvalidRequest, NotSupported: it cannot.
        """
        check_capabilities(surface, model.model_id, model.known_capabilities)
        if surface.path not in BASIC:
            serves = await self._surfaces(model.engine)
            if serves is not None:
                can = model.known_capabilities
                check_engine(surface, model.model_id, model.engine, serves, can)
                self._able.add((model.engine, surface.path))
        if model.denied_capabilities:
            self.check_denied(surface, model, data)

    def is_known_able(self, surface: Surface, model: Model) -> bool:
        """Whether the engine of a model was found to answer a surface; should it not any more, its
        worker says so."""
        return (model.engine, surface.path) in self._able

    def check_denied(self, surface: Surface, model: Model, data: dict[str, Any]) -> None:
        """Whether a request asks for nothing that the model is known not to do.

        Raises:
            InvalidRequest: it does.
        """
        if "chat" in model.denied_capabilities and CHAT_PATH in surface.asks:
            why = self._reason(model.model_id, "chat")
            if why.startswith(FAULT):
                raise no_chat(model.model_id, why)
        need = denied_need(surface.path, data, model.denied_capabilities)
        if need is not None:
            raise refusal(model.model_id, need, model.known_capabilities)

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
        query = exchange.request.query
        name = _model_in(query) or None
        model = self._looked_at(exchange, name)
        if not answers_to(model.names, name or ""):
            query = _with_model(query, model.model_id)
        await self._pass_to(exchange, surface, model, query, b"")

    async def _tell(self, exchange: Exchange, surface: Surface) -> None:
        """What changes something in a worker, for all of its clients: of a model that has one."""
        request = exchange.request
        body = await exchange.read_body(self._pool.config.max_body_bytes, "max_body_mb")
        query, name = request.query, _model_in(request.query)
        said = _object_in(body)
        model = self._looked_at(exchange, said.get("model") if name is None else name)
        if model.max_replicas > 1:
            raise of_one_worker(surface.path, model.model_id)
        if name is not None:
            query = _with_model(query, model.model_id)
        if "model" in said:
            body = CODECS[surface.codec].rename(request, body, said, model.model_id)
        await self._pass_to(exchange, surface, model, query, body)

    def _looked_at(self, exchange: Exchange, name: Any) -> Model:
        """The model of that name; of a virtual one the first that it leads to.

        Raises:
            InvalidRequest: none is named.
            ModelNotFound: there is none of that name.
        """
        model = self._named({"model": name})
        return model or self._catalog.get(self._virtual.first(name, exchange.request))

    async def _pass_to(
        self, exchange: Exchange, surface: Surface, model: Model, query: bytes, body: bytes
    ) -> None:
        """A worker of the model is asked as it is, which is no use of it.

        Raises:
            Conflict: it has none.
        """
        grant = self._pool.try_acquire(model.model_id)
        if grant is None:
            name = model.model_id
            text = f"{name} is not loaded, and {surface.path} loads nothing; load it first"
            raise Conflict(text, code="model_not_loaded", param="model")
        exchange.headers.append(model_header(model.model_id))
        try:
            path = surface.path
            asked = Asked(exchange.request, exchange, surface, model, body, {}, path, query)
            await self._relay(grant, asked, Tries(False, 0.0, 0))
        except _Gone as gone:
            raise gone.error from gone

    async def _share(self, exchange: Exchange | Attempt, asked: Asked, wish: Wish) -> None:
        """It may be at work for somebody else already."""

        async def compute(answer: SharedAnswer) -> None:
            own, began = replace(asked, answer=answer), time.perf_counter()
            try:
                await self._try(own, wish)
            finally:
                answer.broken = own.broken
                if not own.is_at_worker:
                    self._tell_refusal(own, time.perf_counter() - began)

        # Not of another class: it would wait as long as that.
        key = (asked.model.model_id, asked.surface.path, asked.query, wish.priority, asked.body)
        is_stream = asked.is_stream
        shared = await self._coalescer.answer(key, exchange, compute, is_stream=is_stream)
        asked.broken = shared.broken

    def _joined(self, model_id: str) -> None:
        self._meter.began(model_id, was_hot=self._pool.status(model_id).state.is_serving)
        self._meter.joined(model_id)

    def _named(self, data: Mapping[str, Any]) -> Model | None:
        """The model that is asked for; None where it is a virtual one.

        Raises:
            InvalidRequest: none is named.
            ModelNotFound: there is none of that name.
        """
        name = data.get("model")
        if name is None:
            text = "model is missing: say which; GET /v1/models lists them"
            raise InvalidRequest(text, param="model")
        if not isinstance(name, str):
            raise InvalidRequest("model must be a string", param="model")
        model = self._catalog.find(name)
        if model is not None:
            return model
        if self._virtual.has(name):
            return None
        return self._catalog.get(name)

    async def _try(self, asked: Asked, wish: Wish, begun: Begun | None = None) -> None:
        try:
            await self._send(asked, wish, begun)
        except ModelPoolError as error:
            asked.refusal = error
            raise

    async def _send(self, asked: Asked, wish: Wish, begun: Begun | None) -> None:
        model_id, config = asked.model.model_id, self._pool.config
        last: ModelPoolError | None = None
        is_checked = False
        once = await self._asked_once(asked.model.engine)
        since = time.perf_counter() if begun is None else begun.at
        tries = Tries(once, since + config.load_wait_seconds, config.retry_attempts)
        self._budget.deposit(config.retry_budget)
        for attempt in itertools.count():
            if begun is None:
                self._admit(model_id, last)
            failed = tries.failed
            grant = (
                begun.grant if begun else self._pool.try_acquire(model_id, wish.affinity, failed)
            )
            if grant is None:
                if not is_checked:
                    known = await self._known(asked)
                    support = await self._support(asked.model.engine)
                    check = partial(_check, asked, known, support)
                    is_long = asked.surface.has_names and len(asked.body) > LONG_BYTES
                    checked = await asyncio.to_thread(check) if is_long else check()
                    asked.answer.headers += checked.headers
                    is_checked = True
                left = tries.end - time.perf_counter()  # however often it is sent, it waits once
                if last is not None and left <= 0:
                    raise last
                asked.when_silent(lambda: self._pool.status(model_id).describe_wait())
                with self._waiting(model_id):
                    grant = await self._acquire(model_id, wish, left, failed)
            asked.when_silent(lambda: f"{model_id} is at work on it")
            # One request is one hit or miss, however often it is sent.
            if attempt == 0 and begun is None:
                self._meter.began(model_id, was_hot=grant.was_hot)
            try:
                await self._relay(grant, asked, tries, begun)
                return
            except _Gone as gone:
                begun, last, wish = None, gone.error, replace(wish, had_worker=True)
                if not self._goes_on(grant, tries, gone):
                    raise last from gone
                if not gone.is_unloaded:
                    self._tell_retry(asked, grant, tries, gone)
            await asyncio.sleep(pause_seconds(attempt, random.random()))

    def _admit(self, model_id: str, last: ModelPoolError | None) -> None:
        try:
            self.breakers.admit(model_id)
        except ModelPoolError as refusal:  # what was answered says more
            raise (last or refusal) from None

    def _goes_on(self, grant: Grant, tries: Tries, gone: _Gone) -> bool:
        """Whether a request whose worker was gone is sent again."""
        if gone.is_answer:  # that was asked before its answer was read
            return True
        self._upstream.drop(grant.endpoint)
        tries.gone, tries.breaks = tries.gone + (not gone.is_unloaded), tries.breaks + gone.broke
        now = time.perf_counter()
        if tries.gone >= TRIES or tries.breaks >= BREAKS or now >= tries.end:
            return False
        return gone.is_unloaded or self._budget.withdraw(now)

    def _tell_retry(self, asked: Asked, grant: Grant, tries: Tries, gone: _Gone) -> None:
        model_id = asked.model.model_id
        tries.failed.add(grant.key)
        tries.told.append(f"{grant.key or model_id} ({gone.error.code})")
        self.breakers.count_retry(model_id)
        told = (RETRIED, ", ".join(tries.told).encode("ascii", "replace"))
        answer = asked.answer
        answer.headers = [*(pair for pair in answer.headers if pair[0] != RETRIED), told]

    def _repeats(self, status: int, headers: Headers, tries: Tries) -> bool:
        """Whether a request is sent again because of an answer that is a failure."""
        verdict, who = verdict_of(status, headers)
        if verdict is not Verdict.BAD or tries.left == 0:
            return False
        # A worker that fails may do so over an answer that it has had, and that is billed.
        is_unbilled = who == "upstream" and dict(headers).get(CODE) == OVERLOADED
        if tries.once and not is_unbilled:
            return False
        if status == ENDED_BY_IT and dict(headers).get(CODE) == ENGINE_DIED:
            tries.breaks += 1
            if tries.breaks >= BREAKS:
                return False
        now = time.perf_counter()
        if now >= tries.end or not self._budget.withdraw(now):
            return False
        tries.left -= 1
        return True

    async def _known(self, asked: Asked) -> Known:
        """What a worker knows beside the request."""
        family = FAMILIES[asked.surface.family]
        if family.translate is None:
            return NOTHING_KNOWN
        earlier, earlier_id = None, family.earlier_id(asked.data)
        if earlier_id is not None:
            earlier = await self._responses.find(earlier_id, owner_of(asked.request))
        model = asked.model
        serves = await self._surfaces(model.engine) or ()
        own = (INFER_PATH,) if "tensor_inference" in model.capabilities else ()
        return Known(earlier, (*serves, *own), model.capabilities)

    def _waiting(self, model_id: str) -> AbstractContextManager[None]:
        if self.tracer is None:
            return nullcontext()
        status = partial(self._pool.status, model_id)
        return self.tracer.waiting(self._pool.replica_id(model_id), status)

    async def _acquire(
        self, model_id: str, wish: Wish, wait: float, avoid: Collection[str]
    ) -> Grant:
        await self._prepare(model_id)
        began = time.perf_counter()
        try:
            return await self._pool.acquire(
                model_id,
                priority=wish.priority,
                affinity=wish.affinity,
                avoid=avoid,
                wait=wait,
                had_worker=wish.had_worker,
            )
        finally:
            self._meter.waited(model_id, time.perf_counter() - began)

    async def _relay(
        self, grant: Grant, asked: Asked, tries: Tries, begun: Begun | None = None
    ) -> None:
        """What the grant is for; afterwards it is given back. One whose client left before any
        answer is a use if the worker says so. What may be asked once only is over if the worker may
        have begun. ``begun``: it was sent already."""
        is_used = has_content = is_overload = False
        answer, granted_at, reply = asked.answer, time.perf_counter(), None
        sent_over, once, failure = None, tries.once, ""
        watch: StreamWatch | None = None
        model_id = asked.model.model_id
        # What is no work its worker tells nobody of.
        span, whole = self._attempt(grant, tries), begun_by() if asked.surface.is_work else None
        passed = self.breakers.began(model_id, grant) if begun is None else UNWATCHED
        if begun is not None:
            begun.is_taken = True
            granted_at, sent_over = begun.at, begun.reply
        try:
            target, headers = _target(asked), forwarded(asked.request, grant.model_id)
            if asked.via:
                headers.append((VIRTUAL, asked.via))
            headers = with_own_id(headers, asked.request)
            if span.is_recording:
                headers = [pair for pair in headers if pair[0] != TRACEPARENT]
                headers.append((TRACEPARENT, span.context.header()))
            headers += told_owner(asked.surface, asked.request)
            asked.is_at_worker = True
            if whole is not None:
                whole.rows_due += 1
            method = asked.surface.methods[0]
            body = asked.body
            sent = self._upstream.request(
                grant.endpoint, method, target, headers, body, once=once, begun=sent_over
            )
            with await sent as reply:
                if reply.status == 503 and DRAINING in reply.headers:
                    asked.is_at_worker = False
                    raise _Gone(
                        WorkerDraining(f"{grant.model_id} is being unloaded", retry_after=1)
                    )
                was_worked = reply.status < 400 or REFUSED not in reply.headers
                is_used = asked.surface.is_work and was_worked
                is_overload = is_used and _is_overload(reply)
                if reply.status >= 500 and self._repeats(reply.status, reply.headers, tries):
                    error = as_error(reply.status, reply.headers, await reply.read())
                    raise _Gone(error, is_answer=True)
                if answer.status and reply.status != 200:
                    raise as_error(reply.status, reply.headers, await reply.read())
                if not answer.status:  # the worker says it, too
                    answer.headers = [pair for pair in answer.headers if pair[0] != IGNORED]
                if reply.status == 200 and reply.length is None and kind_of(reply.headers):
                    own = passed_on(reply.headers)
                    watch = StreamWatch(answer, own, holds=not isinstance(answer, Exchange))
                    await reply.pipe(watch)
                    watch.end()
                    answer.end()
                else:
                    has_content = True  # it was answered: another try would compute it twice
                    if asked.surface is engine_metrics.SURFACE:
                        reply.headers = engine_metrics.as_written(reply.headers)
                    await pass_on(reply, answer, [])
        except NoAnswer as e:
            told = told_headers(e.error)
            if self._repeats(e.error.status, told, tries):
                raise _Gone(e.error, is_answer=True) from e
            raise e.error from e
        except UpstreamError as e:
            failure = str(e)
            asked.is_at_worker = False  # it died, as a rule, and tells nothing any more
            who = f"the worker of {grant.model_id} on port {grant.port}"
            may_be_billed = once and isinstance(e, BrokenOff)
            billed = "; it is not asked again, for it may have been billed"
            error = WorkerFailed(
                f"{who} failed: {self._why(grant, e)}{billed if may_be_billed else ''}",
                source="worker",
                retry_after=1,
            )
            if watch is not None:
                # What was passed on before is not known otherwise.
                is_answered = reply is not None and reply.answered_at is not None
                has_content = watch.has_content if watch.holds else is_answered
            if has_content or may_be_billed or isinstance(e, BadReply):
                raise error from e
            raise _Gone(error, broke=isinstance(e, BrokenOff)) from e
        finally:
            asked.broken = watch.error if watch is not None else None
            # An error is told quickly: that makes nobody quick.
            is_told = asked.broken is None
            seconds = _first_token_seconds(reply, granted_at) if is_told else None
            _end_attempt(span, reply, failure, asked.broken)
            if whole is not None and not asked.is_at_worker:
                whole.rows_due -= 1
            self._report(grant, model_id, passed, failure, reply, asked.broken)
            grant.release(Use(is_used, seconds, is_overload))

    def _attempt(self, grant: Grant, tries: Tries) -> Span:
        above = current()
        if not above.is_recording:
            return NO_SPAN
        span = above.child("attempt", "client")
        endpoint = grant.endpoint
        span.set({ADDRESS: endpoint.host, PORT: endpoint.port, WORKER: grant.worker_id})
        span.set({REPLICA: grant.key or grant.model_id})
        if resent := max(tries.gone, len(tries.told)):
            span.set({RESENT: resent})
        return span

    def _report(
        self,
        grant: Grant,
        model_id: str,
        passed: Passed,
        failure: str,
        reply: UpstreamConnection | None,
        broken: ModelPoolError | None,
    ) -> None:
        """What the breakers hear of it. A client that left before an answer says nothing."""
        if failure:
            self.breakers.failed(model_id, grant, passed, failure)
        elif broken is not None:
            told = told_headers(broken)
            self.breakers.answered(model_id, grant, passed, broken.status, told)
        elif reply is None:
            self.breakers.left(model_id, grant, passed)
        else:
            self.breakers.answered(model_id, grant, passed, reply.status, reply.headers)

    def _why(self, grant: Grant, error: UpstreamError) -> str:
        diagnosis = self._pool.diagnosis(grant)
        return f"{error}; {diagnosis}" if diagnosis else str(error)


def _untraced(exchange: Exchange, path: str) -> AbstractContextManager[Span]:
    return nullcontext(NO_SPAN)


def with_own_id(headers: Headers, request: Request) -> Headers:
    """With the id by which the pool knows the request."""
    own = (REQUEST_ID, id_of(request))
    return headers if own in headers else [*(p for p in headers if p[0] != REQUEST_ID), own]


def _end_attempt(
    span: Span, reply: UpstreamConnection | None, failure: str, broken: ModelPoolError | None
) -> None:
    if not span.is_recording:
        return
    if failure:
        span.fail("worker_failed", failure)
    elif broken is not None:
        span.fail(broken.code, broken.message)
    elif reply is None:
        span.fail("cancelled")
    else:
        span.set({STATUS: reply.status})
        if reply.status >= 500:
            span.fail(dict(reply.headers).get(CODE, b"").decode("latin-1") or str(reply.status))
    span.end()


def _is_first(exchange: Exchange | Attempt) -> bool:
    """Nobody has made a plan for it yet."""
    return not isinstance(exchange, Attempt) and VIRTUAL not in dict(exchange.headers)


def _is_load(family: Family, surface: Surface, data: dict[str, Any]) -> bool:
    """To load or unload a model is for no other to do in its place."""
    return family.load_answer is not None and family.load_answer(surface.path, data) is not None


def told_headers(error: ModelPoolError) -> Headers:
    """An error's headers, as those of an answer that is one."""
    return [(k.encode(), v.encode("latin-1", "replace")) for k, v in error.headers().items()]


def model_header(model_id: str) -> tuple[bytes, bytes]:
    """How an answer says whose it is."""
    return MODEL, model_id.encode("ascii", "replace")


def is_renamed(model: Model, name: str) -> bool:
    """Whether the model's worker does not know it by that name: one that is the pool's own affair,
    as ``current`` is, or an alias of a model that a provider's worker serves."""
    return (bool(model.served_by) and name != model.model_id) or not answers_to(model.names, name)


def is_shared(surface: Surface, model: Model, body: bytes, data: dict[str, Any]) -> bool:
    """Whether the answer may be that of an identical request. What is kept is its client's own, to
    go on from or to delete; where a path has names, the body does not say all."""
    family = FAMILIES[surface.family]
    if family.is_kept or surface.has_names:
        return False
    return may_share(model.coalesce, body, family.sampling(data), model.options)


def _dialect(asked: Asked) -> Dialect:
    family = FAMILIES[asked.surface.family]
    if family.translate is None:
        return family.dialect
    return family.of(cache(partial(_translated, family.translate, asked)))


def _translated(translate: Translate, asked: Asked) -> Translation:
    return translate(asked.path, asked.said(), NOTHING_KNOWN)


def _check(asked: Asked, known: Known, support: Support) -> Completion:
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
        request = read(asked.surface, said, raw, support, known, asked.path).completion
        request.upstream()
    except ModelPoolError as error:
        error.source = "worker"
        raise
    return request


def _target(asked: Asked) -> bytes:
    # However it was written, unless names are written in it.
    path = quote(asked.path).encode() if asked.surface.has_names else asked.path.encode("ascii")
    return path + b"?" + asked.query if asked.query else path


def _model_in(query: bytes) -> str | None:
    """The model that a query names."""
    if b"model=" not in query:
        return None
    found = parse_qs(query.decode("ascii", "replace"), keep_blank_values=True).get("model")
    return found[0] if found else None


def _object_in(body: bytes) -> dict[str, Any]:
    """What a body says, as far as it is an object; who is asked says what is wrong with another."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _with_model(query: bytes, model_id: str) -> bytes:
    pairs = parse_qsl(query.decode("ascii", "replace"), keep_blank_values=True)
    return urlencode([(k, model_id if k == "model" else v) for k, v in pairs]).encode()


def told_owner(surface: Surface, request: Request) -> Headers:
    """Whose an answer is that is kept, for its worker, which does not see keys."""
    if FAMILIES[surface.family].is_kept and (owner := owner_of(request)):
        return [(OWNER_HEADER, owner.encode())]
    return []


def forwarded(request: Request, model_id: str) -> Headers:
    """The headers of a request as the worker of that model gets them."""
    headers = end_to_end(request.headers, NOT_FORWARDED)
    # The guard has let a body pass that does not say what it is; the worker is told.
    if b"content-type" not in request.fields:
        headers.append(JSON_TYPE)
    headers.append((RESOLVED_HEADER, model_id.encode()))
    return headers


def _tell_nobody(*args: object, **named: object) -> None:
    """Of a gateway without breakers."""


def affinity_of(request: Request, data: Mapping[str, Any], balance: str = "least_busy") -> str:
    """What a conversation's requests have in common; empty where they do not say. For copies that
    are chosen by the prompt it is the beginning of that."""
    if balance == "prefix":
        return prefix_of(data)
    session = request.fields.get(SESSION_HEADER)
    if session is not None:
        return session.decode("latin-1")
    named = data.get("prompt_cache_key") or data.get("user")
    return named if isinstance(named, str) else ""


def prefix_of(data: Mapping[str, Any]) -> str:
    """The beginning of a prompt: prompts with the same one share what an engine keeps of it."""
    said: Any = next((data[k] for k in ("messages", "input", "prompt") if data.get(k)), [])
    system = data.get("system") or data.get("instructions") or ""
    parts = said if isinstance(said, list) else [said]
    text, size = [json.dumps(system)] if system else [], 0
    for part in parts:  # not all of a long conversation
        text.append(json.dumps(part))
        size += len(text[-1])
        if size >= PREFIX_BYTES:
            break
    return "".join(text)[:PREFIX_BYTES]


def priority_of(request: Request, data: Mapping[str, Any]) -> str | None:
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
