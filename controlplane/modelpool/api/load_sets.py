"""/models/load and /models/plan: several models loaded as one, or what that would do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from modelpool_client.errors import LoadFailed, ModelPoolError
from modelpool_client.surfaces.failures import LOAD, LOOK_UP
from pydantic import BaseModel, ConfigDict, Field

from modelpool.api.answers import LoadOutcome, SetLoaded, SetPlan, SetStep
from modelpool.api.error_handlers import refuse_method
from modelpool.api.models import Wait
from modelpool.api.openapi import refuses
from modelpool.api.plan import memory_view, victim_views
from modelpool.api.route import ApiRoute
from modelpool.api.schemas import in_mb, model_view
from modelpool.catalog.model import validate_model_id
from modelpool.observe.events import iso
from modelpool.pool.admission import Refuse, Requirements, Start, Step
from modelpool.pool.pool import Pool
from modelpool.pool.states import State
from modelpool.pool.status import ReplicaStatus
from modelpool.services import Services

MOST_MODELS = 1000

_OUTCOMES: dict[int | str, dict[str, Any]] = {
    200: {"model": SetLoaded, "description": "all are HOT"},
    202: {"model": SetLoaded, "description": "begun; some are not HOT yet"},
    207: {"model": SetLoaded, "description": "some could not be loaded: each says what became"},
}


class SetBody(BaseModel):
    """Ids or aliases of the models that are to be there together; twice the same is once."""

    model_config = ConfigDict(strict=True, extra="forbid")
    models: Annotated[list[str], Field(min_length=1, max_length=MOST_MODELS)]


def routes(services: Services) -> APIRouter:
    """The routes of one pool. They come before those that would take the verb for an id."""
    router = APIRouter(tags=["models"], route_class=ApiRoute)
    pool = services.pool

    @router.post("/models/load", responses={**_OUTCOMES, **refuses(*LOOK_UP, *LOAD)})
    async def load(body: SetBody, wait: Wait = None) -> JSONResponse:
        """Load several models as one: what goes for them is decided for all of them before the
        first begins, and none of them makes room for another. Where they can never be there
        together it is 507 with the figures of each, and nothing is begun. The answer says of each
        what became of it."""
        asked = _named(body)
        errors: dict[str, ModelPoolError] = await _unloadable(asked)
        before = {name: pool.status(name) for name in asked}
        loads = pool.load_set([n for n in asked if n not in errors], "asked for by the API", wait)
        results = await asyncio.gather(*loads.values(), return_exceptions=True)
        for name, result in zip(loads, results, strict=True):
            if isinstance(result, ModelPoolError):
                errors[name] = result
            elif isinstance(result, BaseException):
                raise result
        items = [_outcome(name, before[name], errors.get(name), services) for name in asked]
        counts = [item["outcome"] for item in items]
        text = ", ".join(f"{counts.count(o)} {_WORDS[o]}" for o in _WORDS if o in counts)
        are_up = all(item["model"]["state"] in ("HOT", "COOLING") for item in items)
        status = 207 if errors else 200 if are_up else 202
        return JSONResponse({"message": text, "models": items}, status)

    @router.post("/models/plan", responses=refuses(*LOOK_UP))
    async def plan(body: SetBody) -> SetPlan:
        """What `POST /models/load` would do right now with these models: which start, in which
        order, who goes for them; nothing is changed."""
        asked = _named(body)
        failures = await _unloadable(asked)
        for name in asked:
            model = services.catalog.get(name)
            if name not in failures and (problems := await services.problems(model)):
                wrong = "; ".join(p.message for p in problems)
                failures[name] = LoadFailed(f"engine {model.engine} would not load it: {wrong}")
        return _plan_view(asked, {name: e.message for name, e in failures.items()}, pool)

    for path in ("/models/load", "/models/plan"):
        router.add_api_route(
            path, refuse_method, methods=["GET", "DELETE"], include_in_schema=False
        )

    def _named(body: SetBody) -> list[str]:
        ids = [services.catalog.get(validate_model_id(name)).model_id for name in body.models]
        return list(dict.fromkeys(ids))

    async def _unloadable(asked: Sequence[str]) -> dict[str, ModelPoolError]:
        """Those whose files or engine are not there; the others are loaded all the same."""
        checks = (services.files.check(name) for name in asked)
        found = await asyncio.gather(*checks, return_exceptions=True)
        errors: dict[str, ModelPoolError] = {}
        for name, error in zip(asked, found, strict=True):
            if isinstance(error, ModelPoolError):
                errors[name] = error
            elif error is not None:
                raise error
        return errors

    return router


_WORDS = {
    "already_loaded": "loaded already",
    "loaded": "loaded",
    "loading": "loading",
    "waiting": "waiting for room",
    "failed": "not loaded",
}


def _outcome(
    name: str, before: ReplicaStatus, error: ModelPoolError | None, services: Services
) -> LoadOutcome:
    pool = services.pool
    status = pool.status(name) if pool.has(name) else before  # it may have been deleted
    if error is not None:
        outcome, reason = "failed", error.message
    elif status.state.is_serving:
        was_up = before.state.is_serving and not before.is_leaving
        outcome, reason = "already_loaded" if was_up else "loaded", status.reason
    elif status.state is State.WARMING:
        outcome, reason = "loading", status.reason
    else:
        outcome, reason = "waiting", status.waiting_for or status.reason
    return {
        "model_id": name,
        "outcome": outcome,
        "reason": reason,
        "error": None if error is None else error.body()["error"],
        "model": model_view(status, services),
    }


# -- what would happen ----------------------------------------------------------------------------

# What the set would do is what its slowest member would.
_ACTIONS = ("refuse", "wait", "start", "join", "loaded")


def _plan_view(asked: Sequence[str], failures: Mapping[str, str], pool: Pool) -> SetPlan:
    names = [name for name in asked if name not in failures]
    found = pool.plan_set(names) if names else ()
    if pool.is_stopping:
        found = Refuse("the pool is shutting down", "ask again when it is up")
    steps = [_as_it_is(name, pool, failures[name]) for name in asked if name in failures]
    if isinstance(found, Refuse):
        reason = found.text
        steps += [_as_it_is(name, pool, "not beside the others") for name in names]
    else:
        starts = {step.need.model_id for step in found}
        steps += [_as_it_is(name, pool) for name in names if name not in starts]
        steps += [_start(step, pool) for step in found]
        reason = _summary(steps)
    evict = tuple(dict.fromkeys(key for step in steps for key in step["evict"]))
    return {
        "action": next(a for a in _ACTIONS if any(step["action"] == a for step in steps)),
        "reason": reason,
        "steps": steps,
        "evict": victim_views(evict, pool),
        "memory": memory_view(pool),
        "models": {"limit": pool.config.max_concurrent_models, "held": pool.loaded_count},
    }


def _summary(steps: Sequence[SetStep]) -> str:
    actions = [step["action"] for step in steps]
    counts = [f"{actions.count(a)} {_WOULD[a]}" for a in reversed(_ACTIONS) if a in actions]
    return ", ".join(counts)


_WOULD = {
    "loaded": "loaded already",
    "join": "being loaded",
    "start": "would start",
    "wait": "would wait",
    "refuse": "could not be loaded",
}


def _as_it_is(name: str, pool: Pool, refused: str = "") -> SetStep:
    """One that needs no start, or gets none."""
    status = pool.status(name)
    held = pool.reserved_bytes(status.key)
    need = pool.requirements(name)
    action, reason = "loaded", f"it is {status.state} already"
    if refused:
        action, reason = "refuse", refused
    elif status.state is State.WARMING:
        action, reason = "join", f"a load is under way, one for all: {status.describe_wait()}"
    return _step(status, action, reason, replace(need, bytes=held or need.bytes))


def _start(step: Step, pool: Pool) -> SetStep:
    status, decision = pool.status(step.need.model_id), step.plan
    if status.is_leaving:
        text = f"its own worker is ending ({status.reason}); it is loaded again after that"
        return _step(status, "wait", text, step.need)
    if isinstance(decision, Start):
        names = ", ".join(decision.evict)
        view = _step(status, "start", f"once {names} made room" if names else "it fits", step.need)
        view["evict"] = list(decision.evict)
        return view
    view = _step(status, "wait", decision.why, step.need)
    view["waits_for"] = list(decision.on)
    if decision.until is not None:
        view["until"] = iso(pool.clock.wall() + decision.until - pool.clock.now())
    return view


def _step(status: ReplicaStatus, action: str, reason: str, need: Requirements) -> SetStep:
    return {
        "model_id": status.model.model_id,
        "state": status.state,
        "action": action,
        "reason": reason,
        "evict": [],
        "waits_for": [],
        "until": None,
        "memory_mb": in_mb(need.bytes),
        "devices_mb": {device: in_mb(size) for device, size in need.devices.items()},
    }
