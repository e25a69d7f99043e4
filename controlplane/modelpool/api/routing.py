"""POST /route: which models would be asked, in which order, and why; nothing is run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from modelpool_client.errors import Conflict, InvalidRequest, ModelNotFound, ModelPoolError
from pydantic import BaseModel, ConfigDict, Field

from modelpool.api.answers import PassedView, RouteFailure, Routes, RouteView
from modelpool.api.openapi import refuses
from modelpool.api.route import ApiRoute
from modelpool.catalog.request_rules import NO_RULES, Rules, read_rules
from modelpool.routing.apply_rules import applied
from modelpool.routing.names import AUTO
from modelpool.routing.plan import Ask, asks_of, described, next_of
from modelpool.routing.resolve import Passed, Resolved
from modelpool.services import Services

CHAT = "/v1/chat/completions"
MOST_REQUESTS = 1000
# Of a question about a request, not of the request.
OWN_KEYS = frozenset({"path", "requests", "agent_class", "session_id", "policy"})


class RouteBody(BaseModel):
    """A request as it would be sent, or ``requests``, a list of such. ``model`` is ``auto`` where
    it is left out; ``path`` is the route that it would be sent to; ``agent_class`` and
    ``session_id`` stand for ``X-Agent-Class`` and ``X-Session-ID``. ``policy`` is tried in
    the place of what the name stands for: an entry of a virtual model, of kind ``policy`` where it
    does not say another."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    model: str | None = None
    path: str = CHAT
    agent_class: str | None = None
    session_id: str | None = None
    policy: dict[str, Any] | None = None
    requests: list[dict[str, Any]] | None = Field(None, min_length=1, max_length=MOST_REQUESTS)


def routes(services: Services) -> APIRouter:
    """The routes of one pool."""
    router = APIRouter(tags=["routing"], route_class=ApiRoute)
    answers = services.virtual_answers

    @router.post(
        "/route",
        responses={200: {"model": RouteView | Routes}, **refuses(ModelNotFound, Conflict)},
    )
    async def route(body: RouteBody, request: Request) -> Any:
        """Which models would be asked for a request, in which order, and why, without asking
        them; one request, or a list of them in `requests`."""
        fields = {k.encode(): v.encode("latin-1", "replace") for k, v in request.headers.items()}
        if body.requests is None:
            return _route(body, fields)
        routes: list[RouteView | RouteFailure] = []
        for each in body.requests:
            one: RouteBody | None = None
            try:
                one = _read(each)
                routes.append(_route(one, fields))
            except ModelPoolError as error:
                name = one.model if one is not None and one.model else str(each.get("model", AUTO))
                routes.append({"model": name, "error": error.body()["error"]})
        return {"routes": routes}

    def _route(body: RouteBody, fields: Mapping[bytes, bytes]) -> RouteView:
        data = {**(body.model_extra or {}), "model": body.model or AUTO}
        told = {b"x-agent-class": body.agent_class, b"x-session-id": body.session_id}
        given = {k: v.encode("latin-1", "replace") for k, v in told.items() if v is not None}
        asked = answers.route_request({**fields, **given}, body.path, data)
        if body.policy is not None:
            virtual = services.virtual_models.tried(asked.name, body.policy)
            return _told(asked.name, body, answers.resolve(asked, virtual))
        model = services.catalog.find(asked.name)
        if model is None and not answers.has(asked.name):
            services.catalog.get(asked.name)  # says which names are near
        if model is not None and not model.fallbacks:
            plan = Resolved(Ask(model.model_id, reason="it is named"), ())
        else:
            plan = answers.resolve(asked)
        return _told(asked.name, body, plan)

    def _told(name: str, body: RouteBody, plan: Resolved) -> RouteView:
        data = {**(body.model_extra or {}), "model": name}
        first, others = next(asks_of(plan.step)), next_of(plan.step)
        found = services.catalog.find(first.model)
        rules = first.rules.then(_own_rules(found.request, services) if found else NO_RULES)
        changes = applied(rules, body.path, data)[1]
        return _view(name, plan, changes, [each.model for each in others], services)

    return router


def _view(
    name: str, plan: Resolved, changes: list[str], others: list[str], services: Services
) -> RouteView:
    first = next(asks_of(plan.step))
    decision: dict[str, Any] = {}
    for passed in plan.passed:
        decision |= passed.decision
    model = services.catalog.find(first.model)
    state = str(services.pool.state(model.model_id)) if model is not None else None
    reasons = list(plan.reasons) or [f"{first.model} is the name of a model"]
    return {
        "model": name,
        "selected_model": first.model,
        "state": state,
        "fallbacks": others,
        "virtual_models": [_passed(each) for each in plan.passed],
        "plan": described(plan.step),
        "changes": changes,
        "reasoning": decision.get("reasoning") or "; ".join(reasons),
        "reasons": reasons,
        "confidence": decision.get("confidence", 1.0),
        "complexity": decision.get("complexity"),
        "difficulty": decision.get("difficulty"),
        "task_type": decision.get("task_type"),
        "scores": decision.get("scores"),
        "runners_up": decision.get("runners_up", []),
        "excluded": decision.get("excluded", {}),
        "rule": decision.get("rule"),
        "trace": decision.get("trace", []),
        "decision": decision,
    }


def _passed(passed: Passed) -> PassedView:
    return {
        "name": passed.name,
        "kind": passed.kind,
        "version": passed.version,
        "reasons": list(passed.reasons),
    }


def _own_rules(said: Mapping[str, Any], services: Services) -> Rules:
    rules = read_rules(said) if said else NO_RULES
    return (
        rules.with_preset(services.virtual_models.preset(rules.preset)) if rules.preset else rules
    )


def _read(data: Mapping[str, Any]) -> RouteBody:
    try:
        return RouteBody.model_validate(data)
    except ValueError as e:
        raise InvalidRequest(f"one of the requests is wrong: {e}", param="requests") from None
