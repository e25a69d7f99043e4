"""Runs plans: asks the models that one names, in order or side by side, and makes one answer.

It knows no kinds of virtual models. A plan of one question is passed through as any request that
names its model: bytes in, bytes out.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from modelpool_client.errors import (
    InternalError,
    InvalidRequest,
    ModelNotFound,
    ModelPoolError,
    NotSupported,
    from_response,
)
from modelpool_client.http1.exchange import JSON_TYPE, Exchange
from modelpool_client.http1.message import Headers, Request
from modelpool_client.http1.request_ids import REQUEST_ID, id_of
from modelpool_client.surfaces.codecs import CODECS
from modelpool_client.surfaces.families import FAMILIES
from modelpool_client.surfaces.routes import Surface, surface_of, with_model
from modelpool_client.wire import (
    CHANGED_HEADER,
    DECISION_HEADER,
    DECISION_ID_HEADER,
    FALLBACK_HEADER,
    MODEL_HEADER,
    ROUTE_HEADER,
    VIRTUAL_HEADER,
)

from modelpool.catalog.request_rules import Rules
from modelpool.gateway.attempt import Attempt, Outlet
from modelpool.gateway.forms import FORM_TYPE, form_of
from modelpool.gateway.replies import as_stream, can_stream, stream_headers
from modelpool.routing.apply_rules import applied, header_value
from modelpool.routing.failover import moves_on
from modelpool.routing.plan import (
    CANCELLED,
    MOST_ASKED,
    TIMED_OUT,
    Ask,
    Collect,
    FirstOf,
    InOrder,
    Outcome,
    Reply,
    Step,
    asks_of,
)
from modelpool.routing.resolve import MODEL as OF_A_MODEL
from modelpool.routing.resolve import Resolved
from modelpool.routing.told import Told

# What a request that names a model goes through: exchange, path, route, body, what that says.
AskModel: TypeAlias = Callable[[Any, str, Surface, bytes, dict[str, Any]], Awaitable[None]]
MODEL, CHANGED = MODEL_HEADER.encode(), CHANGED_HEADER.encode()
DECISION, DECISION_ID = DECISION_HEADER.encode(), DECISION_ID_HEADER.encode()
VIRTUAL, FALLBACK, ROUTE = VIRTUAL_HEADER.encode(), FALLBACK_HEADER.encode(), ROUTE_HEADER.encode()
SHOWN_CHARACTERS = 400
# To make one of many vectors takes long: not in the loop's time.
LONG_BYTES = 1 << 18


class Expand(Protocol):
    """Puts the plans of virtual models in the place of their names, in a step that came out of
    answers."""

    async def __call__(self, step: Step) -> Resolved: ...


@dataclass(frozen=True)
class Asked:
    """What a client asks of a virtual model: as ``Gateway`` has it, once it was read."""

    exchange: Exchange
    path: str
    surface: Surface
    body: bytes
    data: dict[str, Any]

    @property
    def is_stream(self) -> bool:
        """It is to be answered bit by bit."""
        return FAMILIES[self.surface.family].is_stream(self.surface.at(self.path), self.data)


@dataclass(frozen=True)
class Tried:
    """A model that did not answer, and why."""

    model: str
    code: str
    message: str


def _no_refusal(model: str) -> None:
    return None


@dataclass
class Run:
    """A plan at work, for one request.

    Attributes:
        ask_model: does what is done for a request that names a model.
        has_model: whether a name is a model's.
        refusal: why a model had better not be asked while there is another; None: it may be.
        decision_id: of what ``auto`` has decided, for who tells the outcome; empty: it has not.
        tried: models that did not answer, in the order in which they failed.
        models: that answered.
    """

    asked: Asked
    plan: Resolved
    ask_model: AskModel
    has_model: Callable[[str], bool]
    expand: Expand
    refusal: Callable[[str], ModelPoolError | None] = _no_refusal
    decision_id: str = ""
    tried: list[Tried] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    _count: int = 0
    _base: Headers = field(default_factory=list)
    _notes: list[str] = field(default_factory=list)
    _via: bytes = b""

    async def answer(self) -> None:
        """Answer the client.

        Raises:
            ModelPoolError: for the client, where nothing of an answer was passed on; else that the
                answer has broken off.
        """
        exchange = self.asked.exchange
        first = self.plan.passed[0]
        self._via = _text(first.name + (f"@{first.version}" if first.kind != OF_A_MODEL else ""))
        self._base = [*exchange.headers, (VIRTUAL, self._via)]
        reasons = "; ".join(self.plan.reasons)
        self._base.append((ROUTE, _text(reasons[:SHOWN_CHARACTERS])))
        shorts = (p.decision.short for p in self.plan.passed if isinstance(p.decision, Told))
        self._base += [(DECISION, _text(short)) for short in shorts]
        if self.decision_id:
            self._base.append((DECISION_ID, _text(self.decision_id)))
        exchange.headers = list(self._base)
        try:
            await self._pass(self.plan.step, exchange)
        except ModelPoolError:
            if not exchange.status:
                exchange.headers = [*self._base, *self._told()]
            raise

    # -- passing on ------------------------------------------------------------------------------

    async def _pass(
        self, step: Step, outlet: Outlet, may_begin: Callable[[], bool] | None = None
    ) -> None:
        """Answer by a step; raises what went wrong where nothing was passed on."""
        if isinstance(step, Ask):
            await self._pass_ask(step, outlet, may_begin)
        elif isinstance(step, InOrder):
            await self._pass_first(step, outlet, may_begin)
        elif isinstance(step, FirstOf):
            await self._pass_quickest(step, outlet, may_begin)
        else:
            await self._pass_collected(step, outlet, may_begin)

    async def _pass_ask(
        self, ask: Ask, outlet: Outlet, may_begin: Callable[[], bool] | None
    ) -> None:
        self._count_one()
        exchange = self.asked.exchange
        path, surface, body, data, changed = self._told_to(ask, exchange.request)
        before = [*self._base, *self._told(), *changed]
        is_last = outlet is exchange and may_begin is None and ask.data is None
        self.models.append(ask.model)
        if is_last:
            exchange.headers = before
            await self.ask_model(exchange, path, surface, body, data)
            return
        if not outlet.status:
            outlet.headers = [*before, (MODEL, _text(ask.model))]
        attempt = Attempt(
            _request(exchange.request, ask), outlet, outlet.dialect, before, may_begin or _may
        )
        attempt.via = self._via
        await self._try(attempt, path, surface, body, data)

    async def _try(
        self, attempt: Attempt, path: str, surface: Surface, body: bytes, data: dict[str, Any]
    ) -> None:
        await self.ask_model(attempt, path, surface, body, data)
        error = attempt.error()
        if error is not None and not attempt.is_passed:
            raise error

    async def _pass_first(
        self, step: InOrder, outlet: Outlet, may_begin: Callable[[], bool] | None
    ) -> None:
        *others, last = step.steps
        for each in others:
            if isinstance(each, Ask) and (refusal := self.refusal(each.model)) is not None:
                self._failed(each, refusal)
                continue
            inner = Gate(may_begin)
            try:
                await self._pass(each, outlet, inner)
                return
            except ModelPoolError as error:
                if inner.is_open or not moves_on(error.status, error.code, step.also_on):
                    raise
                self._failed(each, error)
                self._comment(f"{self.tried[-1].model} failed ({error.code}): asking the next")
        await self._pass(last, outlet, may_begin)

    def _comment(self, text: str) -> None:
        """Said in a stream that comments have begun: its headers are gone."""
        exchange = self.asked.exchange
        if exchange.status == 200 and exchange.dialect.comment(".").startswith(b":"):
            exchange.comment(text)

    async def _pass_quickest(
        self, step: FirstOf, outlet: Outlet, may_begin: Callable[[], bool] | None
    ) -> None:
        race = Race(may_begin)
        errors: list[ModelPoolError] = []

        async def run(index: int, each: Step) -> None:
            try:
                await self._pass(each, outlet, lambda: race.wins(index))
            except ModelPoolError as error:
                if race.winner == index:
                    raise
                errors.append(error)
                self._failed(each, error)

        race.tasks = [asyncio.ensure_future(run(i, each)) for i, each in enumerate(step.steps)]
        await _all(race.tasks)
        if race.winner is None:
            raise worst(errors)

    async def _pass_collected(
        self, step: Collect, outlet: Outlet, may_begin: Callable[[], bool] | None
    ) -> None:
        made = await self._made(step)
        if not isinstance(made, (Reply, Outcome)):
            await self._pass(made, outlet, may_begin)
            return
        if isinstance(made, Outcome) and not made.is_answer:
            raise error_of(made)
        if may_begin is not None and not may_begin():
            return
        status, headers, body = self._written(made)
        if not outlet.status:
            outlet.headers = [*self._base, *self._told(made)]
        if outlet.status:  # comments have begun a stream
            outlet.write(body)
            outlet.end()
        else:
            outlet.send(status, headers, body)

    def _written(self, made: Reply | Outcome) -> tuple[int, Headers, bytes]:
        body = made.body if isinstance(made, Outcome) else json.dumps(made.body).encode()
        if self.asked.is_stream:
            said = made.said() if isinstance(made, Outcome) else made.body
            options = self.asked.data.get("stream_options")
            has_usage = isinstance(options, dict) and options.get("include_usage") is True
            path = self.asked.surface.path
            stream = as_stream(path, said, has_usage=has_usage)
            return 200, stream_headers(self.asked.surface), stream
        return made.status, [JSON_TYPE], body

    # -- reading whole ---------------------------------------------------------------------------

    async def _made(self, step: Collect) -> Reply | Outcome | Step:
        """What comes of the answers to a step's questions."""
        if self.asked.is_stream:
            refuse_stream(self.asked.surface)
        outcomes = await self._side_by_side(step)
        if sum(len(outcome.body) for outcome in outcomes) > LONG_BYTES:
            made = await asyncio.to_thread(step.then, outcomes)
        else:
            made = step.then(outcomes)
        if isinstance(made, (Reply, Outcome)):
            return made
        self._notes += [ask.reason for ask in asks_of(made) if ask.reason]
        expanded = await self.expand(made)
        self.plan = Resolved(self.plan.step, (*self.plan.passed, *expanded.passed))
        return expanded.step

    async def _side_by_side(self, step: Collect) -> list[Outcome]:
        if self.asked.is_stream and self.asked.exchange.dialect.comment("."):
            names = ", ".join(ask.model for ask in asks_of(step))
            self.asked.exchange.wait_reason = lambda: f"asking {names}"
        tasks = [asyncio.ensure_future(self._collect_at(i, s)) for i, s in enumerate(step.steps)]
        end = CANCELLED
        try:
            pending: set[asyncio.Task[Outcome]] = set(tasks)
            until = None if step.seconds is None else time.perf_counter() + step.seconds
            while pending:
                left = None if until is None else max(0.0, until - time.perf_counter())
                done, pending = await asyncio.wait(
                    pending, timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    end = TIMED_OUT
                    break
                found = [t.result() for t in tasks if t.done()]
                if step.is_enough is not None and step.is_enough(found):
                    break
        finally:
            # Those that are done; to cancel another makes it done, too.
            done_ones = {i: t.result() for i, t in enumerate(tasks) if _has_result(t)}
            await _cancel(tasks)
        outcomes = []
        for i, each in enumerate(step.steps):
            outcome = done_ones.get(i)
            if outcome is None:
                outcome = _at(i, _unfinished(next(asks_of(each)), end, step.seconds))
                if end == TIMED_OUT:
                    self.tried.append(Tried(outcome.ask.model, end, outcome.message))
            outcomes.append(outcome)
        return outcomes

    async def _collect_at(self, position: int, step: Step) -> Outcome:
        return _at(position, await self.collect(step))

    async def collect(self, step: Step) -> Outcome:
        """What a step would pass on, read whole."""
        if isinstance(step, Ask):
            return await self._collect_ask(step)
        if isinstance(step, InOrder):
            for each in step.steps[:-1]:
                found = await self.collect(each)
                if not moves_on(found.status, found.error, step.also_on):
                    return found
            return await self.collect(step.steps[-1])
        if isinstance(step, FirstOf):
            quickest = Collect(step.steps, _first_answer, "the first answer", _has_answer)
            return _first_answer(await self._side_by_side(quickest))
        made = await self._made(step)
        if isinstance(made, Outcome):
            return made
        if isinstance(made, Reply):
            asked = next(asks_of(step), Ask(self.plan.passed[0].name))
            return Outcome(asked, made.status, json.dumps(made.body).encode())
        return await self.collect(made)

    async def _collect_ask(self, ask: Ask) -> Outcome:
        self._count_one()
        exchange = self.asked.exchange
        began = time.perf_counter()
        attempt: Attempt | None = None
        error: ModelPoolError | None = None
        try:
            told = self._told_to(ask, exchange.request, is_whole=True)
            path, surface, body, data, changed = told
            family = FAMILIES[surface.family]
            request = _request(exchange.request, ask)
            attempt = Attempt(request, None, family.dialect, [])
            attempt.via = self._via
            await self.ask_model(attempt, path, surface, body, data)
            error = attempt.error()
        except ModelPoolError as e:
            error = e
        seconds = time.perf_counter() - began
        if error is not None:
            self._failed(ask, error)
            return Outcome(ask, error.status, b"", {}, error.code, error.message, seconds)
        assert attempt is not None
        self.models.append(ask.model)
        all_headers = [*changed, *attempt.headers, *attempt.own_headers]
        headers = {k.decode(): v.decode("latin-1") for k, v in all_headers}
        return Outcome(ask, attempt.status, attempt.body, headers, "", "", seconds)

    # -- what a model is told --------------------------------------------------------------------

    def _told_to(
        self, ask: Ask, request: Request, *, is_whole: bool = False
    ) -> tuple[str, Surface, bytes, dict[str, Any], Headers]:
        """Path, route, body and what that says, for one model; ``is_whole``: not as a stream."""
        if not self.has_model(ask.model):
            text = f"{self.plan.passed[0].name} names {ask.model!r}, which is no model any more"
            raise ModelNotFound(text, param="model")
        asked = self.asked
        path, surface, data = asked.path, asked.surface, dict(asked.data)
        if ask.data is not None:
            path = ask.path or path
            surface, data = surface_of(path, "POST"), dict(ask.data)
        if is_whole and FAMILIES[surface.family].is_stream(surface.at(path), data):
            data = {k: v for k, v in data.items() if k not in ("stream", "stream_options")}
            if FAMILIES[surface.family].is_stream(surface.at(path), data):
                data["stream"] = False  # it is what its API does unless it is told not to
        changed = _changed(ask.rules, surface, data)
        data = changed[0]
        if surface.model_in == "path":
            path, body = with_model(path, ask.model), asked.body
        elif ask.files:
            body = form_of({**data, "model": ask.model}, ask.files)
        else:
            codec = CODECS["json" if ask.data is not None else surface.codec]
            body = codec.rename(request, asked.body, data, ask.model)
        return path, surface, body, {**data, "model": ask.model}, changed[1]

    def _count_one(self) -> None:
        """Raise InvalidRequest where a plan goes on and on."""
        self._count += 1
        if self._count > MOST_ASKED:
            text = f"more than {MOST_ASKED} models would be asked for one request"
            raise InvalidRequest(text, param="model", code="too_many_models")

    def _failed(self, step: Step, error: ModelPoolError) -> None:
        model = next(asks_of(step)).model
        self.tried.append(Tried(model, error.code, error.message))

    def _told(self, made: Reply | Outcome | None = None) -> Headers:
        """Who failed so far, for the answer's headers."""
        told: Headers = []
        if self.tried:
            tried = ", ".join(f"{t.model} ({t.code})" for t in self.tried)
            told.append((FALLBACK, _text(tried)))
        notes = [*self._notes, *(made.notes if isinstance(made, Reply) else ())]
        if notes:
            said = "; ".join(dict.fromkeys(notes))
            told.append((ROUTE, _text(said[:SHOWN_CHARACTERS])))
        if made is not None:
            told.append((MODEL, _text(", ".join(dict.fromkeys(self.models)))))
        return told


class Gate:
    """Whether an answer has begun to be passed on, unless somebody further out is against it."""

    def __init__(self, outer: Callable[[], bool] | None) -> None:
        self.is_open = False
        self._outer = outer

    def __call__(self) -> bool:
        if self._outer is not None and not self._outer():
            return False
        self.is_open = True
        return True


class Race:
    """The first of several that begins to answer; the others are cancelled then."""

    def __init__(self, outer: Callable[[], bool] | None) -> None:
        self.winner: int | None = None
        self.tasks: list[asyncio.Task[None]] = []
        self._outer = outer

    def wins(self, index: int) -> bool:
        """Whether it is this one."""
        if self.winner is None:
            if self._outer is not None and not self._outer():
                return False
            self.winner = index
            for i, task in enumerate(self.tasks):
                if i != index:
                    task.cancel()
        return self.winner == index


def refuse_stream(surface: Surface) -> None:
    """Raise NotSupported where an answer that is made of several cannot be told as a stream."""
    if not can_stream(surface):
        raise NotSupported(
            f"an answer that is made of several cannot be streamed at {surface.path}:"
            " ask without stream",
            param="stream",
        )


def worst(errors: Sequence[ModelPoolError]) -> ModelPoolError:
    """Of several that failed side by side the one to tell: what is the client's making first."""
    if not errors:
        return InternalError("nobody was asked")
    return next((e for e in errors if not moves_on(e.status, e.code)), errors[0])


def _changed(
    rules: Rules, surface: Surface, data: dict[str, Any]
) -> tuple[dict[str, Any], Headers]:
    if not rules:
        return data, []
    changed, changes = applied(rules, surface.path, data)
    return changed, [(CHANGED, header_value(changes))] if changes else []


def _request(request: Request, ask: Ask) -> Request:
    if ask.path is None:
        return request
    kind = FORM_TYPE if ask.files else JSON_TYPE[1]
    own = (b"content-type", b"content-length")
    headers = [(k, v) for k, v in request.headers if k.lower() not in own]
    headers.append((b"content-type", kind))
    if REQUEST_ID not in dict(headers):
        headers.append((REQUEST_ID, id_of(request)))
    return Request(request.method, ask.path.encode(), b"", headers)


def error_of(outcome: Outcome) -> ModelPoolError:
    """Of one that is no answer: what went wrong."""
    body = {"error": {"message": outcome.message, "code": outcome.error}}
    return from_response(outcome.status, body)


def _first_answer(outcomes: Sequence[Outcome]) -> Outcome:
    return next((o for o in outcomes if o.is_answer), outcomes[0])


def _at(position: int, outcome: Outcome) -> Outcome:
    return dataclasses.replace(outcome, position=position)


def _has_result(task: asyncio.Task[Outcome]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _unfinished(ask: Ask, code: str, seconds: float | None) -> Outcome:
    """Of a question whose answer was not waited for."""
    if code == TIMED_OUT:
        return Outcome(ask, 504, error=code, message=f"it has not answered within {seconds:g} s")
    return Outcome(ask, 499, error=code, message="its answer could change nothing any more")


def _has_answer(outcomes: Sequence[Outcome]) -> bool:
    return any(o.is_answer for o in outcomes)


def _may() -> bool:
    return True


async def _all(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Wait for all; one that fails ends the others, and so does who waits by being cancelled."""
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done() and not task.cancelled():
                task.result()
    finally:
        await _cancel(tasks)


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _text(value: str) -> bytes:
    """As the value of a header."""
    return value.replace("\n", " ").replace("\r", " ").encode("ascii", "replace")
