"""Requests for virtual models: what the gateway has read of one becomes a plan, which is run."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from modelpool_client.errors import ModelNotFound, ModelPoolError
from modelpool_client.http1.exchange import Exchange
from modelpool_client.http1.message import Request
from modelpool_client.surfaces.routes import Surface
from modelpool_client.wire import MEMBERS_HEADER

from modelpool.gateway.attempt import Attempt
from modelpool.gateway.classify import Classifiers
from modelpool.gateway.plan import Asked, AskModel, Run, Tried
from modelpool.routing.classifiers import Finding, Question, Unanswered
from modelpool.routing.conversations import Conversations
from modelpool.routing.kinds.base import Known
from modelpool.routing.outcomes import Outcomes
from modelpool.routing.plan import Ask, Outcome, Step, asks_of
from modelpool.routing.request import RouteRequest, key_digest
from modelpool.routing.resolve import Passed, Resolved, Resolver
from modelpool.routing.told import Told
from modelpool.routing.virtual_model import VirtualModel

CLASS_HEADER = b"x-agent-class"
SESSION_HEADER = b"x-session-id"
KEY_HEADERS = (b"authorization", b"x-api-key")
# A model that fails for every request is news once, then now and then.
EVENT_SECONDS = 10.0
MOST_REMEMBERED = 1000


class Virtual(Protocol):
    """Answers for names that are no models'."""

    def has(self, name: str) -> bool:
        """Whether it is one of a virtual model."""
        ...

    def first(self, name: str, request: Request) -> str:
        """Of the models that would be asked the first."""
        ...

    def preset(self, name: str) -> Mapping[str, Any]:
        """The values of a preset; none where there is none."""
        ...

    async def answer(
        self,
        ask_model: AskModel,
        exchange: Exchange | Attempt,
        path: str,
        surface: Surface,
        body: bytes,
        data: dict[str, Any],
    ) -> None:
        """Answer a request.

        Raises:
            ModelPoolError: for the client.
        """
        ...


class _NoVirtual:
    def has(self, name: str) -> bool:
        return False

    def first(self, name: str, request: Request) -> str:
        return name

    def preset(self, name: str) -> Mapping[str, Any]:
        return {}

    async def answer(self, *asked: Any) -> None:
        raise NotImplementedError


NO_VIRTUAL: Virtual = _NoVirtual()


class VirtualAnswers:
    """``publish`` is told of models that failed and whose place another took."""

    def __init__(
        self,
        resolver: Resolver,
        known: Known,
        conversations: Conversations,
        publish: Callable[..., object],
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
        refusal: Callable[[str], ModelPoolError | None] = lambda model: None,
        classifiers: Classifiers | None = None,
        outcomes: Outcomes | None = None,
    ) -> None:
        """``refusal`` says why a model had better not be asked while there is another;
        ``outcomes`` remembers what was decided."""
        self._outcomes = outcomes
        self._classifiers = classifiers or Classifiers()
        self._refusal = refusal
        self._resolver = resolver
        self._known = known
        self._conversations = conversations
        self._publish = publish
        self._clock = clock
        self._draw = draw
        self._told: dict[tuple[str, str, str], tuple[float, int]] = {}

    def __repr__(self) -> str:
        return f"<VirtualAnswers, {len(self._told)} failures told>"

    def has(self, name: str) -> bool:
        """See ``Virtual``."""
        return self._resolver.find(name) is not None

    def preset(self, name: str) -> Mapping[str, Any]:
        """See ``Virtual``."""
        return self._resolver.preset(name)

    def resolve(self, request: RouteRequest, virtual: VirtualModel | None = None) -> Resolved:
        """The plan for a request that names a virtual model, or one with fallbacks; with
        ``virtual`` as if its name stood for that. Nobody is asked what it is about: of that counts
        what is known.

        Raises:
            ModelNotFound: its name is no virtual model's.
            ModelPoolError: no model could do it.
        """
        while True:
            try:
                return self._resolved(request, virtual)
            except Unanswered as e:
                request = _with(request, e.question, self._classifiers.without(e.question))

    def _resolved(self, request: RouteRequest, virtual: VirtualModel | None = None) -> Resolved:
        model = self._known.model(request.name) if virtual is None else None
        if model is not None:
            return self._resolver.resolve_model(model, request, self._known)
        virtual = virtual or self._virtual(request)
        return self._resolver.resolve(virtual, request, self._known)

    def _virtual(self, request: RouteRequest) -> VirtualModel:
        virtual = self._resolver.find(request.name)
        if virtual is None:
            raise ModelNotFound(f"there is no virtual model {request.name[:80]!r}", param="model")
        return virtual

    def route_request(
        self,
        fields: Mapping[bytes, bytes],
        path: str,
        data: Mapping[str, Any],
        *,
        is_stream: bool = False,
    ) -> RouteRequest:
        """A request as kinds see it; ``fields`` are its headers."""
        return route_request(fields, path, data, self._draw(), is_stream=is_stream)

    def first(self, name: str, request: Request) -> str:
        """See ``Virtual``."""
        asked = self.route_request(request.fields, "", {"model": name})
        return next(asks_of(self.resolve(asked).step)).model

    async def answer(
        self,
        ask_model: AskModel,
        exchange: Exchange | Attempt,
        path: str,
        surface: Surface,
        body: bytes,
        data: dict[str, Any],
    ) -> None:
        """See ``Virtual``."""
        if not isinstance(exchange, Exchange):
            raise TypeError("the models of a plan are no virtual ones")
        asked = Asked(exchange, path, surface, body, data)
        request = self.route_request(
            exchange.request.fields, surface.path, data, is_stream=asked.is_stream
        )
        inquiry = _Inquiry(self._resolver, self._known, self._refusal, ask_model, asked, request)

        async def answered(decide: Callable[[RouteRequest], Resolved]) -> Resolved:
            """What is decided, once models were asked what that depends on."""
            while True:
                try:
                    return decide(inquiry.request)
                except Unanswered as e:
                    inquiry.tell_silence(e.question)
                    found = await self._classifiers.find(e.question, inquiry)
                    inquiry.request = _with(inquiry.request, e.question, found)

        async def expand(step: Step) -> Resolved:
            return await answered(lambda r: self._resolver.expand(step, r, self._known))

        plan = await answered(self._resolved)
        run = Run(asked, plan, ask_model, inquiry.has_model, expand)
        run.refusal = self._refusal
        if self._outcomes is not None and any(isinstance(p.decision, Told) for p in plan.passed):
            run.decision_id = self._outcomes.new_id()
        try:
            await run.answer()
        except ModelPoolError as error:
            self._tell(request.name, run.tried, f"none of its models answered: {error.message}")
            raise
        self._tell(request.name, run.tried, "")
        if run.models:
            self._note(request, plan, run.models[-1], run.decision_id)

    def _note(self, request: RouteRequest, plan: Resolved, answered: str, decision_id: str) -> None:
        """What a decision has come to: the conversation is with who answered."""
        passed = next((p for p in plan.passed if isinstance(p.decision, Told)), None)
        if passed is None or not isinstance(passed.decision, Told):
            return
        told, model = passed.decision, self._known.model(answered)
        model_id = model.model_id if model is not None else answered
        if self._outcomes is not None and decision_id:
            self._outcomes.note(decision_id, told.decision, model_id)
        f = told.features
        self._conversations.note(request, model_id, f.prompt_tokens + f.answer_tokens)
        count = self._count((passed.name, model_id, "routed"))
        if count is None:
            return
        more = f" ({count} more times before)" if count else ""
        # No model_id: to a model nothing has happened.
        self._publish(
            "request-routed",
            virtual_model=passed.name,
            selected_model=model_id,
            task_type=f.task.value,
            complexity=f.complexity.value,
            difficulty=round(f.difficulty, 4),
            confidence=round(told.decision.confidence, 4),
            runners_up=[s.model_id for s in told.decision.runners_up],
            reason=" ".join(passed.reasons) + more,
        )

    def _count(self, key: tuple[str, str, str]) -> int | None:
        """How often something happened since it was told last; None where it is too early to tell
        it again."""
        now = self._clock()
        at, count = self._told.pop(key, (-EVENT_SECONDS, 0))
        if now - at < EVENT_SECONDS:
            self._told[key] = (at, count + 1)
            return None
        self._told[key] = (now, 0)
        while len(self._told) > MOST_REMEMBERED:
            del self._told[next(iter(self._told))]
        return count

    def _tell(self, name: str, tried: list[Tried], end: str) -> None:
        for each in tried:
            count = self._count((name, each.model, each.code))
            if count is None:
                continue
            more = f" ({count} more times before)" if count else ""
            self._publish(
                "model-fallback",
                model_id=each.model,
                virtual_model=name,
                code=each.code,
                reason=f"{each.model} did not answer for {name}: {each.message}{more}"
                + (f"; {end}" if end else "; it was answered without it"),
            )


class _Inquiry:
    """Asks models what a request is about, see ``classify.Asking``.

    Attributes:
        request: with what was found so far.
    """

    def __init__(
        self,
        resolver: Resolver,
        known: Known,
        refusal: Callable[[str], ModelPoolError | None],
        ask_model: AskModel,
        asked: Asked,
        request: RouteRequest,
    ) -> None:
        self.request = request
        self._resolver = resolver
        self._known = known
        self._refusal = refusal
        self._ask_model = ask_model
        self._asked = asked

    def has_model(self, name: str) -> bool:
        return self._known.model(name) is not None

    def tell_silence(self, question: Question) -> None:
        """What comments of a stream say meanwhile."""
        if self._asked.is_stream and self._asked.exchange.dialect.comment("."):
            model = question.classifier.model
            self._asked.exchange.wait_reason = lambda: f"asking {model} what it is about"

    def _step(self, ask: Ask) -> Resolved:
        """Whom a question goes to; rules of whoever is asked ask nobody in turn."""
        request = self.request
        while True:
            try:
                return self._resolver.expand(ask, request, self._known)
            except Unanswered as e:
                label = e.question.classifier.otherwise
                request = _with(request, e.question, Finding(label, "not asked"))

    def model_of(self, name: str) -> str:
        first = next(asks_of(self._step(Ask(name)).step)).model
        model = self._known.model(first)
        if model is None:
            raise ModelNotFound(f"{first} is no model any more", param="model")
        return model.model_id

    def refusal(self, model_id: str) -> str:
        error = self._refusal(model_id)
        return "" if error is None else error.message

    def is_serving(self, model_id: str) -> bool:
        return self._known.is_serving(model_id)

    async def ask(self, ask: Ask) -> Outcome:
        resolved = self._step(ask)
        passed = (*resolved.passed, Passed(self.request.name, "policy", 0))

        async def expand(step: Step) -> Resolved:
            return Resolved(step, ())

        whole = Asked(self._asked.exchange, self._asked.path, self._asked.surface, b"", {})
        run = Run(whole, Resolved(resolved.step, passed), self._ask_model, self.has_model, expand)
        return await run.collect(resolved.step)


def _with(request: RouteRequest, question: Question, found: Finding) -> RouteRequest:
    return replace(request, findings={**request.findings, question: found})


def route_request(
    fields: Mapping[bytes, bytes],
    path: str,
    data: Mapping[str, Any],
    draw: float,
    *,
    is_stream: bool,
) -> RouteRequest:
    """PURE. A request as kinds see it, of its headers and body."""
    key = next((fields[name] for name in KEY_HEADERS if fields.get(name)), b"")
    return RouteRequest(
        str(data.get("model", "")),
        path,
        data,
        is_stream,
        fields.get(SESSION_HEADER, b"").decode("latin-1"),
        key_digest(key),
        fields.get(CLASS_HEADER, b"").decode("latin-1").strip(),
        draw,
        fields,
        fields.get(MEMBERS_HEADER.encode(), b"").decode("latin-1"),
    )
