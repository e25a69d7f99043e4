"""The worker's HTTP surface, checks, counts, relays, says no readably."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, quote

from modelpool_client.errors import (
    Forbidden,
    InvalidRequest,
    MethodNotAllowed,
    ModelPoolError,
    WorkerDraining,
)
from modelpool_client.http1.cors import MODEL_METHODS, answer_page, answer_stranger
from modelpool_client.http1.exchange import JSON_TYPE, Exchange
from modelpool_client.http1.message import describing
from modelpool_client.http1.request_ids import REQUEST_ID, id_of
from modelpool_client.http1.upgrade import upgrade
from modelpool_client.owners import NOBODY, owner_of, told_owner
from modelpool_client.stored_responses import StoredResponses
from modelpool_client.surfaces import (
    adapters,
    chat_control,
    embeddings,
    models,
    slot_actions,
    written,
)
from modelpool_client.surfaces.body import MAX_BODY_BYTES, parse_object
from modelpool_client.surfaces.codecs import CODECS
from modelpool_client.surfaces.dialect import Dialect
from modelpool_client.surfaces.families import (
    FAMILIES,
    NOTHING_KNOWN,
    Asked,
    dialect_of,
    in_client_words,
    load_only,
    read,
)
from modelpool_client.surfaces.openai import Completion
from modelpool_client.surfaces.paths import route_path
from modelpool_client.surfaces.routes import (
    BASIC,
    CHAT_CONTROL_PATH,
    CHAT_PATH,
    CHAT_TOKENS_PATH,
    EMBEDDINGS_PATH,
    STREAMED,
    SURFACES,
    WEBSOCKET_PATH,
    Surface,
    check_engine,
    names_in,
    route_of,
    surface_of,
)
from modelpool_client.surfaces.translation import Known, Translation
from modelpool_client.tracing.context import TRACEPARENT, TRACESTATE, read_parent, read_state
from modelpool_client.wire import (
    RESOLVED_HEADER,
    VIRTUAL_HEADER,
    CaptureOrder,
    DecodeError,
    DrainReply,
    DrainRequest,
    ProbeRequest,
    decode,
    encode,
)

from . import ollama, open_inference
from .batching.queue import PRIORITY
from .calls import Call, CallInfo
from .engine_client import TAIL_BYTES, Begun, BrokenOffError, makes_sense, put_in_words
from .metrics import render
from .probe import probe
from .surfaces.reshape import EngineRequest, engine_request, with_versions
from .tokens import NO_TOKENS, Tokens, count_tokens

if TYPE_CHECKING:
    from .worker import Worker

# To decode tensors takes 0.03 s for a million numbers, as JSON 0.3 s: not in the loop's time.
LONG_BYTES = 1 << 18
VIA = VIRTUAL_HEADER.encode()
log = logging.getLogger(__name__)
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
            adapters.PATH: {
                "GET": self._surface_handler(SURFACES[adapters.PATH]),
                "POST": self._scale_adapters,
            },
            CHAT_CONTROL_PATH: {"POST": self._control},
            chat_control.SHORT: {"POST": self._control},
            "/health": {"GET": self._health},
            "/v1/health": {"GET": self._health},
            "/metrics": {"GET": self._metrics},
            "/openapi.json": {"GET": self._openapi},
            "/internal/facts": {"GET": self._facts, "POST": self._measured},
            "/internal/drain": {"POST": self._drain},
            "/internal/probe": {"POST": self._probe},
            "/internal/capture": {"POST": self._capture},
            "/internal/sleep": {"POST": self._sleep},
            "/internal/wake": {"POST": self._wake},
        }

    async def __call__(self, exchange: Exchange) -> None:
        request = exchange.request
        path = route_path(request.path, request.raw_path)
        exchange.dialect = dialect_of(path)
        try:
            with exchange:
                if not self._is_answered(exchange):
                    await self._answer(exchange, path)
        finally:
            self._worker.metrics.count(self.route_name(path), exchange.status)

    def _is_answered(self, exchange: Exchange) -> bool:
        """Whether a browser asked on its own account, and has been told.

        Raises:
            Forbidden: who asks may not.
        """
        try:
            origin = self._worker.guard.check(exchange.request)
        except Forbidden as refusal:
            if not answer_stranger(exchange, refusal):
                raise
            return True
        return origin is not None and answer_page(exchange, origin, MODEL_METHODS)

    async def _answer(self, exchange: Exchange, path: str) -> None:
        try:
            await self._handler(path, exchange)(exchange, path)
        except WorkerDraining:
            exchange.is_kept_alive = False  # the next one had better go elsewhere
            raise

    async def go_on(
        self,
        exchange: Exchange,
        asked: Asked,
        request: EngineRequest,
        call: Call,
        begun: Begun,
        route: str,
    ) -> None:
        """Answer what the engine was asked by another way."""
        exchange.dialect = _dialect(asked.surface, dict(asked.data), asked.path, NOTHING_KNOWN)
        exchange.headers += request.completion.headers
        exchange.headers.append((REQUEST_ID, call.asked.request_id))
        if call.asked.is_stream:
            exchange.wait_reason = call.describe_wait
        try:
            with exchange, call:
                await self._answer_call(exchange, asked, request, call, begun)
        finally:
            self._worker.metrics.count(route, exchange.status)

    def route_name(self, path: str) -> str:
        """How the metrics call it."""
        if slot_actions.is_asked(path):
            return slot_actions.PATH
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
        if slot_actions.is_asked(path):
            methods = {"POST": self._act_on_slot}
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
        if (loaded := load_only(surface, data)) is not None:
            return loaded
        earlier_id = family.earlier_id(data)
        owner = self._owner(exchange) if earlier_id is not None else NOBODY
        known = await self._worker.known(earlier_id, owner)
        asked = read(surface, data, body, self._worker.support, known, surface.at(path))
        exchange.dialect = _dialect(surface, data, surface.at(path), known, asked.translation)
        return asked

    def _owner(self, exchange: Exchange) -> str:
        """Of what is kept of the answer."""
        request = exchange.request
        is_direct = self._resolved not in request.headers
        return owner_of(request) if is_direct else told_owner(request)

    async def _work(self, exchange: Exchange, surface: Surface, path: str) -> None:
        fields, worker = exchange.request.fields, self._worker
        is_direct = self._resolved not in exchange.request.headers
        request_id = id_of(exchange.request)
        exchange.headers.append((REQUEST_ID, request_id))
        via = b"" if is_direct else fields.get(VIA, b"")
        parent = read_parent(fields.get(TRACEPARENT))
        trace = worker.trace(exchange.channel, parent, is_direct=is_direct)
        recording = exchange.tap = worker.capture.begin(exchange.request)
        info = CallInfo(surface.path, "", request_id, via, False, is_direct, trace, recording)
        began = worker.now()
        try:
            asked, request, info = await self._prepared(exchange, surface, path, info)
        except ModelPoolError as error:
            # The gateway asks another worker, or says itself that there is none.
            if is_direct or not isinstance(error, WorkerDraining):
                worker.refused(info, error, worker.now() - began)
            raise
        with worker.call(exchange, info) as call:
            if asked.completion.stream and asked.path in STREAMED:
                exchange.wait_reason = call.describe_wait
            await self._answer_call(exchange, asked, request, call)

    async def _prepared(
        self, exchange: Exchange, surface: Surface, path: str, info: CallInfo
    ) -> tuple[Asked, EngineRequest, CallInfo]:
        """What is asked, what the engine is asked for it, and what is remembered of it.

        Raises:
            ModelPoolError: it is refused.
        """
        worker, headers = self._worker, exchange.request.headers
        asked = await self._asked(exchange, surface, path)
        is_direct = info.is_direct
        said = {**asked.data, **names_in(path)} if surface.has_names else asked.data
        await worker.learn_of_model(said)
        if is_direct:  # else the gateway knows its names of now
            worker.check_model(said)
            if FAMILIES[surface.family].keep_alive(dict(asked.data)) is not None:
                asked = asked.ignoring("keep_alive")
        asked = self._with_model(asked, said.get("model"))
        if asked.path in (CHAT_PATH, CHAT_TOKENS_PATH):
            worker.check_chat()
        # It may drain by now. What is refused, or never comes, is no use of the model; from here to
        # the begin of the call nothing is awaited, so that a drain happens before or after.
        worker.check_ready()
        if worker.adapters is not None:
            completion = worker.adapters.told(asked.path, asked.completion)
            asked = replace(asked, completion=completion)
        exchange.headers += asked.completion.headers
        request = engine_request(asked.path, asked.completion, worker.support, worker.answer_head)
        if asked.completion.raw is not None and surface.codec != "json":
            path = request.path.replace("{model}", quote(worker.assignment.model_id))
            request = replace(request, path=path, headers=describing(headers))
        if asked.translation is None and surface.family == "anthropic":
            request = with_versions(request, headers)
        if info.trace is not None and (worker.tracing.to_remote or worker.backend.pid is not None):
            told = [(TRACEPARENT, info.trace.engine.header())]
            if state := read_state(exchange.request.fields.get(TRACESTATE)):
                told.append((TRACESTATE, state.encode("ascii")))
            request = replace(request, headers=[*request.headers, *told])
        if worker.engine.heeds_priority and (urgency := exchange.request.fields.get(PRIORITY)):
            request = replace(request, headers=[*request.headers, (PRIORITY, urgency)])
        name = said.get("model")
        model, is_stream = name if isinstance(name, str) else "", asked.completion.stream
        return asked, request, info._replace(model=model, is_stream=is_stream)

    def _with_model(self, asked: Asked, name: object) -> Asked:
        """With the name of its model, where an engine serves several: of what is put in other words
        for it that is left out. One that the gateway knows and the engine does not, yet, is named,
        too, or another would answer."""
        body, backend = asked.completion.body, self._worker.backend
        if "model" in body or not isinstance(name, str):
            return asked
        prefix = f"{self._worker.assignment.model_id}:"
        is_of_gateway = backend.serves_others and name.startswith(prefix)
        if not is_of_gateway and not backend.resolve(name):
            return asked
        completion = replace(asked.completion, body={**body, "model": name}, raw=None)
        return replace(asked, completion=completion)

    async def _answer_call(
        self,
        exchange: Exchange,
        asked: Asked,
        request: EngineRequest,
        call: Call,
        begun: Begun | None = None,
    ) -> None:
        """Ask the engine, unless that was ``begun``, and tell the client what it says, in words
        that the client knows."""
        try:
            call.tokens = await self._ask(exchange, asked, request, call, begun)
        except BrokenOffError as e:
            raise await self._worker.explain(str(e)) from None
        except ModelPoolError as error:
            told = in_client_words(asked, error)
            if told is error:
                raise
            raise told from error

    async def _ask(
        self,
        exchange: Exchange,
        asked: Asked,
        request: EngineRequest,
        call: Call,
        begun: Begun | None = None,
    ) -> Tokens:
        engine, path = self._worker.engine, asked.path
        if asked.answer is not None:
            exchange.send_json(200, asked.answer)
            return NO_TOKENS
        if asked.translation is not None:
            return await self._translate(exchange, asked, asked.translation, request, call)
        if path in embeddings.BODIES:
            answer = await engine.whole(request, call, begun)
            with makes_sense(answer):
                finished = embeddings.finished(path, asked.data, answer)
            exchange.send(200, [JSON_TYPE], finished)
            return count_tokens(answer[-TAIL_BYTES:])
        if path not in BASIC:
            return await engine.relay(request, exchange, call, begun)
        if request.completion.stream:
            return await engine.stream(request, exchange, call, begun)
        return await engine.answer(request, exchange, call, begun)

    async def _translate(
        self,
        exchange: Exchange,
        asked: Asked,
        translation: Translation,
        request: EngineRequest,
        call: Call,
    ) -> Tokens:
        engine = self._worker.engine
        keep = partial(self._worker.keep, translation, self._owner(exchange))
        if request.completion.stream:
            return await engine.translate(request, translation, exchange, call, keep)
        if asked.path not in BASIC:
            told = await engine.whole(request, call)
            tokens = count_tokens(told[-TAIL_BYTES:])
            if asked.path == EMBEDDINGS_PATH and asked.surface.codec == "json":
                with makes_sense(told):
                    answer, vectors = written.read(told)
                    words = vectors.encode(translation.whole(answer))
                exchange.send(200, [JSON_TYPE], words)
                return tokens
            with makes_sense(told):
                answer = json.loads(told)
        else:
            answer, tokens = await engine.collect(request, call)
        whole = put_in_words(translation, answer)
        call.rests()  # a slow disk is no silence of the engine
        await keep()
        exchange.send(200, *CODECS[asked.surface.codec].encode(whole))
        return tokens

    async def _look(self, exchange: Exchange, surface: Surface) -> None:
        """What the engine says of itself; no use of the model."""
        await self._check_named(exchange)
        try:
            answer = await self._worker.engine.look(surface)
        except BrokenOffError as e:
            raise await self._worker.explain(str(e)) from None
        if surface.path == adapters.PATH and (known := self._worker.adapters):
            answer = adapters.with_names(answer, known.names)
        exchange.send(200, [JSON_TYPE], answer)

    async def _check_named(self, exchange: Exchange) -> None:
        """Whether the model that the query of a client names, if it does, is this worker's."""
        worker, request = self._worker, exchange.request
        if self._resolved not in request.headers:
            query = request.query.decode("ascii", "replace")
            named = parse_qs(query, keep_blank_values=True).get("model", [None])
            await worker.learn_of_model({"model": named[0]})
            worker.check_model({"model": named[0]})

    async def _told(self, exchange: Exchange, about: str) -> bytes:
        """The body of what changes something for all clients of the engine. The gateway passes it
        on of models that have one worker.

        Raises:
            ModelPoolError: the engine has not what it is about, or is not ready.
        """
        worker = self._worker
        worker.check_ready()
        assignment = worker.assignment
        check_engine(SURFACES[about], assignment.model_id, assignment.engine, worker.serves)
        CODECS["json"].check(exchange.request.headers, "worker")
        body = await exchange.read_body(MAX_BODY_BYTES)
        await self._check_named(exchange)
        return body

    async def _tell(self, exchange: Exchange, target: str, body: bytes) -> None:
        try:
            answer = await self._worker.engine.tell(target, body)
        except BrokenOffError as e:
            raise await self._worker.explain(str(e)) from None
        exchange.send(200, [JSON_TYPE], answer)

    async def _scale_adapters(self, exchange: Exchange, path: str) -> None:
        body, known = await self._told(exchange, path), self._worker.adapters
        names = await self._adapters_there() if known is None else known.names
        scales = adapters.scales(body, names)
        await self._tell(exchange, path, json.dumps(scales).encode())
        if known is not None:
            known.scaled(scales)
        log.info("LoRA adapters are scaled anew, by a client's wish: %s", scales)

    async def _adapters_there(self) -> list[str]:
        """Names of those of a server that was started by a command, which says no more of them."""
        try:
            listed = await self._worker.engine.look(SURFACES[adapters.PATH])
            with makes_sense(listed):
                return adapters.names_in(listed)
        except BrokenOffError as e:
            raise await self._worker.explain(str(e)) from None

    async def _act_on_slot(self, exchange: Exchange, path: str) -> None:
        """Only where the operator has named a folder: else what clients name would be among the
        prompt caches of the pool."""
        body = await self._told(exchange, "/slots")
        assignment = self._worker.assignment
        if slot_actions.OPTION not in assignment.options:
            raise slot_actions.not_kept(assignment.model_id)
        query = exchange.request.query.decode("ascii", "replace")
        target, action = slot_actions.target(path, query)
        await self._tell(exchange, target, slot_actions.body_of(action, body))

    async def _control(self, exchange: Exchange, path: str) -> None:
        body = await self._told(exchange, "/slots")  # llama.cpp's own, as those are
        said = chat_control.said(body)
        self._worker.check_model(said)
        await self._tell(exchange, CHAT_CONTROL_PATH, json.dumps(said).encode())

    async def _inference(self, exchange: Exchange, path: str) -> None:
        await open_inference.answer(self._worker, exchange, path)

    async def _ollama(self, exchange: Exchange, path: str) -> None:
        await ollama.answer(self._worker, exchange, path)

    async def _models(self, exchange: Exchange, path: str) -> None:
        self._worker.check_ready(draining_too=True)
        listed = self._worker.listing()
        exchange.send_json(200, models.listing(listed) | models.as_llama_cpp(listed))

    async def _model(self, exchange: Exchange, path: str) -> None:
        self._worker.check_ready(draining_too=True)
        name = path.removeprefix(f"{models.PATH}/")
        await self._worker.learn_of_model({"model": name})
        self._worker.check_model({"model": name})
        own, *others = self._worker.listing()
        listed = next((other for other in others if other.model_id == name), own)
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
            has_engine=worker.backend.exit_code is None,
        )
        headers, own = await worker.engine.metrics()
        exchange.send(200, [kind, *headers], page.encode() + own)

    async def _openapi(self, exchange: Exchange, path: str) -> None:
        worker = self._worker
        model_id, aliases, serves = worker.assignment.model_id, worker.aliases, worker.serves

        def made() -> bytes:
            from .surfaces import openapi  # a tenth of what a front imports, and seldom asked

            return json.dumps(openapi.describe(model_id, aliases, serves)).encode()

        # A tenth of a second the first time, in which tokens go on.
        exchange.send(200, [JSON_TYPE], await asyncio.to_thread(made))

    async def _facts(self, exchange: Exchange, path: str) -> None:
        exchange.send_json(200, encode(self._worker.facts()))

    async def _measured(self, exchange: Exchange, path: str) -> None:
        """The same, with the memory of this moment."""
        await exchange.read_body(MAX_BODY_BYTES)
        await self._worker.memory.measure()
        await self._facts(exchange, path)

    async def _probe(self, exchange: Exchange, path: str) -> None:
        request = _told(await exchange.read_body(MAX_BODY_BYTES), ProbeRequest)
        exchange.send_json(200, encode(await probe(self._worker, request)))

    async def _capture(self, exchange: Exchange, path: str) -> None:
        """For requests that come from now on."""
        order = _told(await exchange.read_body(MAX_BODY_BYTES), CaptureOrder)
        self._worker.capture.obey(order)
        exchange.send_json(200, encode(order))

    async def _sleep(self, exchange: Exchange, path: str) -> None:
        """As for a drain: whether it falls asleep is said at once, that it has with its facts."""
        request = _told(await exchange.read_body(MAX_BODY_BYTES), DrainRequest)
        if not self._worker.is_asleep:
            self._worker.check_ready()
        falls_asleep = self._worker.fall_asleep(request.if_idle_for)
        exchange.send_json(200, encode(DrainReply(falls_asleep, self._worker.facts())))

    async def _wake(self, exchange: Exchange, path: str) -> None:
        await exchange.read_body(MAX_BODY_BYTES)
        self._worker.wake()
        exchange.send_json(200, encode(self._worker.facts()))

    async def _drain(self, exchange: Exchange, path: str) -> None:
        request = _told(await exchange.read_body(MAX_BODY_BYTES), DrainRequest)
        drained = self._worker.drain(request.if_idle_for, request.reason or "told by the manager")
        if request.if_idle_for is None and request.reason:  # what is cut now is to know why
            self._worker.drain_reason = request.reason
        exchange.is_kept_alive = not drained
        exchange.send_json(200, encode(DrainReply(drained, self._worker.facts())))


def _dialect(
    surface: Surface,
    data: dict[str, Any],
    path: str,
    known: Known,
    translation: Translation | None = None,
) -> Dialect:
    family = FAMILIES[surface.family]
    translate = family.translate
    if translate is None:
        return family.dialect
    # Where bytes are passed on a translation tells an answer that breaks off, if any does.
    return family.of(lambda: translation or translate(path, data, known))


def _told(body: bytes, shape: type[Told]) -> Told:
    try:
        return decode(shape, parse_object(body or b"{}"))
    except DecodeError as e:
        raise InvalidRequest(str(e)) from None
