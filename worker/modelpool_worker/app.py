"""The worker's HTTP surface, checks, counts, relays, says no readably."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qs, quote

from modelpool_client.errors import Forbidden, InvalidRequest, MethodNotAllowed, WorkerDraining
from modelpool_client.http1.cors import answer_page
from modelpool_client.http1.exchange import JSON_TYPE, Exchange
from modelpool_client.http1.message import describing
from modelpool_client.http1.upgrade import upgrade
from modelpool_client.stored_responses import StoredResponses
from modelpool_client.surfaces import embeddings, models
from modelpool_client.surfaces.body import MAX_BODY_BYTES, parse_object
from modelpool_client.surfaces.codecs import CODECS
from modelpool_client.surfaces.families import FAMILIES, Asked, read
from modelpool_client.surfaces.openai import Completion, check_model
from modelpool_client.surfaces.paths import route_path
from modelpool_client.surfaces.routes import (
    BASIC,
    CHAT_PATH,
    CHAT_TOKENS_PATH,
    STREAMED,
    WEBSOCKET_PATH,
    Surface,
    check_engine,
    names_in,
    route_of,
    surface_of,
)
from modelpool_client.surfaces.translation import Translation
from modelpool_client.wire import (
    RESOLVED_HEADER,
    DecodeError,
    DrainReply,
    DrainRequest,
    ProbeRequest,
    decode,
    encode,
)

from . import ollama, open_inference
from .engine_client import BrokenOffError
from .metrics import render
from .probe import probe
from .surfaces import openapi
from .surfaces.reshape import EngineRequest, engine_request

if TYPE_CHECKING:
    from .calls import Call
    from .worker import Worker

# To decode tensors takes 0.03 s for a million numbers, as JSON 0.3 s: not in the loop's time.
LONG_BYTES = 1 << 18
Told = TypeVar("Told")
Handler = Callable[[Exchange, str], Awaitable[None]]


class App:
    """Handles whatever is asked on the worker's port."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._resolved = (RESOLVED_HEADER, worker.assignment.model_id.encode())
        self._stored = StoredResponses(worker.responses, "worker")
        self._secret = f"Bearer {worker.assignment.secret}".encode()
        self.routes: dict[str, dict[str, Handler]] = {
            models.PATH: {"GET": self._models},
            WEBSOCKET_PATH: {"GET": self._websocket},
            "/models": {"GET": self._models},
            "/health": {"GET": self._health},
            "/v1/health": {"GET": self._health},
            "/metrics": {"GET": self._metrics},
            "/openapi.json": {"GET": self._openapi},
            "/internal/facts": {"GET": self._facts},
            "/internal/drain": {"POST": self._drain},
            "/internal/probe": {"POST": self._probe},
        }

    async def __call__(self, exchange: Exchange) -> None:
        request = exchange.request
        path = route_path(request.path, request.raw_path)
        try:
            with exchange:
                origin = self._worker.guard.check(request)
                if origin is None or not answer_page(exchange, origin):
                    await self._answer(exchange, path)
        finally:
            self._worker.metrics.count(self._route_name(path), exchange.status)

    async def _answer(self, exchange: Exchange, path: str) -> None:
        try:
            await self._handler(path, exchange)(exchange, path)
        except WorkerDraining:
            exchange.is_kept_alive = False  # the next one had better go elsewhere
            raise

    def _route_name(self, path: str) -> str:
        return path if path in self.routes else route_of(path) or "other"

    def _handler(self, path: str, exchange: Exchange) -> Handler:
        method = exchange.request.method
        if self._stored.is_asked(path):
            return self._stored.answer
        if open_inference.is_about_models(path):
            return self._inference
        if ollama.is_about_models(path):
            return self._ollama
        is_one = path.startswith(f"{models.PATH}/")
        methods = {"GET": self._model} if is_one else self.routes.get(path)
        if methods is None:
            return self._surface_handler(surface_of(path, method))
        handler = methods.get("GET" if method == "HEAD" else method)
        if handler is None:
            raise MethodNotAllowed.of(path, method, methods)
        if path.startswith("/internal/"):
            self._check_secret(exchange)
        return handler

    def _surface_handler(self, surface: Surface) -> Handler:
        async def handle(exchange: Exchange, path: str) -> None:
            exchange.dialect = FAMILIES[surface.family].dialect
            self._worker.check_ready()
            assignment, serves = self._worker.assignment, self._worker.serves
            check_engine(surface, assignment.model_id, assignment.engine, serves)
            if surface.is_work:
                await self._work(exchange, surface, path)
            else:
                await self._look(exchange, surface)

        return handle

    def _check_secret(self, exchange: Exchange) -> None:
        given = exchange.request.fields.get(b"authorization", b"")
        if not hmac.compare_digest(given, self._secret):
            raise Forbidden("the worker's secret is needed")

    async def _asked(self, exchange: Exchange, surface: Surface, path: str) -> Asked:
        """What is asked, checked: the exchange speaks its language from now on."""
        codec, family = CODECS[surface.codec], FAMILIES[surface.family]
        codec.check(exchange.request.headers, "worker")
        body = await exchange.read_body(MAX_BODY_BYTES)
        if surface.has_names and surface.path in self._worker.serves:
            # The engine's business, byte by byte.
            return Asked(surface, {}, surface.path, Completion({}, False, (), body))
        decode = partial(codec.decode, surface.path, exchange.request, body)
        is_long = surface.codec == "tensors" and len(body) > LONG_BYTES
        data = await asyncio.to_thread(decode) if is_long else decode()
        if family.translate is None:
            return read(surface, data, body, self._worker.support)
        known = await self._worker.known(family.earlier_id(data))
        asked = read(surface, data, body, self._worker.support, known, surface.at(path))
        if (translation := asked.translation) is not None:
            exchange.dialect = family.of(lambda: translation)
        return asked

    async def _work(self, exchange: Exchange, surface: Surface, path: str) -> None:
        worker, headers = self._worker, exchange.request.headers
        asked = await self._asked(exchange, surface, path)
        is_direct = self._resolved not in headers
        if is_direct:  # else the gateway knows its names of now
            said = {**asked.data, **names_in(path)} if surface.has_names else asked.data
            check_model(said, worker.assignment.model_id, worker.aliases)
        if asked.path in (CHAT_PATH, CHAT_TOKENS_PATH):
            worker.check_chat()
        # It may drain by now. What is refused, or never comes, is no use of the model; from here to
        # the begin of the call nothing is awaited, so that a drain happens before or after.
        worker.check_ready()
        exchange.headers += asked.completion.headers
        request = engine_request(asked.path, asked.completion, worker.support, worker.answer_head)
        if asked.completion.raw is not None and surface.codec != "json":
            path = request.path.replace("{model}", quote(worker.assignment.model_id))
            request = replace(request, path=path, headers=describing(headers))
        with worker.call(exchange, is_direct=is_direct) as call:
            if asked.completion.stream and asked.path in STREAMED:
                exchange.wait_reason = call.describe_wait
            try:
                call.tokens = await self._ask(exchange, asked, request, call)
            except BrokenOffError as e:
                raise await worker.explain(str(e)) from None

    async def _ask(
        self, exchange: Exchange, asked: Asked, request: EngineRequest, call: Call
    ) -> int:
        """Returns the tokens that were generated."""
        engine, path = self._worker.engine, asked.path
        if asked.translation is not None:
            return await self._translate(exchange, asked, asked.translation, request, call)
        if path in embeddings.BODIES:
            answer = await engine.whole(request, call)
            exchange.send(200, [JSON_TYPE], embeddings.finished(path, asked.data, answer))
            return 0
        if path not in BASIC:
            return await engine.relay(request, exchange, call)
        ask = engine.stream if request.completion.stream else engine.answer
        return await ask(request, exchange, call)

    async def _translate(
        self,
        exchange: Exchange,
        asked: Asked,
        translation: Translation,
        request: EngineRequest,
        call: Call,
    ) -> int:
        engine = self._worker.engine
        keep = partial(self._worker.keep, translation)
        if request.completion.stream:
            return await engine.translate(request, translation, exchange, call, keep)
        if asked.path not in BASIC:
            answer, tokens = json.loads(await engine.whole(request, call)), 0
        else:
            answer, tokens = await engine.collect(request, call)
        whole = translation.whole(answer)
        call.rests()  # a slow disk is no silence of the engine
        await keep()
        exchange.send(200, *CODECS[asked.surface.codec].encode(whole))
        return tokens

    async def _look(self, exchange: Exchange, surface: Surface) -> None:
        """What the engine says of itself; no use of the model."""
        worker, request = self._worker, exchange.request
        if self._resolved not in request.headers:
            query = request.query.decode("ascii", "replace")
            named = parse_qs(query, keep_blank_values=True).get("model", [None])
            check_model({"model": named[0]}, worker.assignment.model_id, worker.aliases)
        try:
            answer = await worker.engine.look(surface)
        except BrokenOffError as e:
            raise await worker.explain(str(e)) from None
        exchange.send(200, [JSON_TYPE], answer)

    async def _inference(self, exchange: Exchange, path: str) -> None:
        exchange.dialect = FAMILIES["open_inference"].dialect
        open_inference.answer(self._worker, exchange, path)

    async def _ollama(self, exchange: Exchange, path: str) -> None:
        exchange.dialect = FAMILIES["ollama"].dialect
        await ollama.answer(self._worker, exchange, path)

    async def _models(self, exchange: Exchange, path: str) -> None:
        self._worker.check_ready(draining_too=True)
        exchange.send_json(200, models.listing([self._worker.listed()]))

    async def _model(self, exchange: Exchange, path: str) -> None:
        self._worker.check_ready(draining_too=True)
        listed, name = self._worker.listed(), path.removeprefix(f"{models.PATH}/")
        check_model({"model": name}, listed.model_id, listed.aliases)
        exchange.send_json(200, listed.entry(name))

    async def _websocket(self, exchange: Exchange, path: str) -> None:
        self._worker.check_ready()
        upgrade(exchange, CHAT_PATH, lambda: MAX_BODY_BYTES)

    async def _health(self, exchange: Exchange, path: str) -> None:
        health = self._worker.health()
        exchange.send_json(200 if health["status"] == "ready" else 503, health)

    async def _metrics(self, exchange: Exchange, path: str) -> None:
        kind = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
        worker = self._worker
        page = render(
            worker.assignment.model_id,
            worker.facts(),
            worker.metrics,
            has_engine=worker.child.exit_code is None,
        )
        headers, own = await worker.engine.metrics()
        exchange.send(200, [kind, *headers], page.encode() + own)

    async def _openapi(self, exchange: Exchange, path: str) -> None:
        worker = self._worker
        model_id = worker.assignment.model_id
        exchange.send_json(200, openapi.describe(model_id, worker.aliases, worker.serves))

    async def _facts(self, exchange: Exchange, path: str) -> None:
        exchange.send_json(200, encode(self._worker.facts()))

    async def _probe(self, exchange: Exchange, path: str) -> None:
        request = _told(await exchange.read_body(MAX_BODY_BYTES), ProbeRequest)
        exchange.send_json(200, encode(await probe(self._worker, request)))

    async def _drain(self, exchange: Exchange, path: str) -> None:
        request = _told(await exchange.read_body(MAX_BODY_BYTES), DrainRequest)
        drained = self._worker.drain(request.if_idle_for, request.reason or "told by the manager")
        if request.if_idle_for is None and request.reason:  # what is cut now is to know why
            self._worker.drain_reason = request.reason
        exchange.is_kept_alive = not drained
        exchange.send_json(200, encode(DrainReply(drained, self._worker.facts())))


def _told(body: bytes, shape: type[Told]) -> Told:
    try:
        return decode(shape, parse_object(body or b"{}"))
    except DecodeError as e:
        raise InvalidRequest(str(e)) from None
