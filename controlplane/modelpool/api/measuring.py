"""/models/{id}/profile, /profiles, /options, /tune, /tuned: how fast a model is, and with what."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Response
from modelpool_client.errors import Conflict, NotSupported, QueueFull

from modelpool.api.answers import (
    JobView,
    OptionsView,
    Profiles,
    ProfileView,
    TunedView,
    Untuned,
)
from modelpool.api.jobs import BEGUN, Wait, begun
from modelpool.api.openapi import refuses
from modelpool.api.route import ApiRoute
from modelpool.catalog.errors import StoreError
from modelpool.catalog.model import validate_model_id
from modelpool.catalog.profiles import Profile, compared, stale_reason
from modelpool.catalog.tuned import Tuned
from modelpool.measure.conditions import conditions
from modelpool.model_options import OptionsReport, change, report
from modelpool.observe.events import iso
from modelpool.services import Services

JobBody = Annotated[dict[str, Any] | None, Body()]
_BEGINS: dict[int | str, dict[str, Any]] = {
    **BEGUN,
    **refuses(Conflict, QueueFull, StoreError, NotSupported),
}


def routes(services: Services) -> APIRouter:
    """The routes of one pool. They come before those that would take the verb for a part of an
    id."""
    router = APIRouter(tags=["models"], route_class=ApiRoute)

    async def begin(
        kind: str, model_id: str, body: dict[str, Any] | None, wait: float | None, out: Response
    ) -> JobView:
        data = {**(body or {}), "model": services.catalog.get(validate_model_id(model_id)).model_id}
        return await begun(services.jobs, kind, data, wait, out)

    @router.post("/models/{model_id:path}/profile", status_code=202, responses=_BEGINS)
    async def profile(
        model_id: str, response: Response, wait: Wait = None, body: JobBody = None
    ) -> JobView:
        """Measure the model by real requests: a job. `{"testCount": 3, "streams": [1, 4, 8],
        "texts": [1, 8, 32], "wait_seconds": 60}`, all of it optional; `texts`, in a request, of
        models that embed or rank."""
        return await begin("profile", model_id, body, wait, response)

    @router.get("/models/{model_id:path}/profiles")
    async def profiles(model_id: str) -> Profiles:
        """What was measured, newest first; `changes` compares the last two."""
        model = services.catalog.get(validate_model_id(model_id))
        found = services.measurements.profiles(model.model_id)
        return {
            "model_id": model.model_id,
            "profiles": [await profile_view(services, model.model_id, each) for each in found],
            "changes": compared(found[1], found[0]) if len(found) > 1 else [],
        }

    @router.get("/models/{model_id:path}/options")
    async def options(model_id: str) -> OptionsView:
        """The load options in their layers, each with where it comes from."""
        return options_view(await report(services, validate_model_id(model_id)))

    @router.patch("/models/{model_id:path}/options", responses=refuses(Conflict, StoreError))
    async def set_options(model_id: str, changes: Annotated[dict[str, Any], Body()]) -> OptionsView:
        """Set saved options, null removes one. A running model keeps what it runs with."""
        return options_view(await change(services, validate_model_id(model_id), changes))

    @router.post("/models/{model_id:path}/tune", status_code=202, responses=_BEGINS)
    async def tune(
        model_id: str, response: Response, wait: Wait = None, body: JobBody = None
    ) -> JobView:
        """Find better options by trying them: a job. `{"goal": "first-token" | "one-stream" |
        "many-streams", "budget_seconds": 600, "options": [names], "wait_seconds": 60}`."""
        return await begin("tune", model_id, body, wait, response)

    @router.delete("/models/{model_id:path}/tuned", responses=refuses(StoreError))
    async def undo(model_id: str) -> Untuned:
        """Load the model as if it had never been tuned, from the next load on."""
        model = services.catalog.get(validate_model_id(model_id))
        former = await services.measurements.undo(model.model_id)
        if former is not None:
            services.tell("model-untuned", model, "asked for by the API")
        undone = None if former is None else tuned_view(former)
        return {"model_id": model.model_id, "undone": undone}

    return router


async def profile_view(services: Services, model_id: str, profile: Profile) -> ProfileView:
    """A profile as the API shows it, with why it does not hold any more, if so."""
    model = services.catalog.get(model_id)
    now = await conditions(model, services.estimator, services.engines)
    stale = stale_reason(profile.conditions, now)
    data = profile.as_dict()
    return {
        "at": iso(profile.at),
        "form": profile.form,
        "levels": data["levels"],
        "conditions": data["conditions"],
        "prompt_tokens": profile.prompt_tokens,
        "output_tokens": profile.output_tokens,
        "requests": profile.requests,
        "failed": profile.failed,
        "load_seconds": profile.load_seconds,
        "memory_bytes": dict(profile.memory_bytes),
        "is_stale": bool(stale),
        "stale": stale,
    }


def options_view(found: OptionsReport) -> OptionsView:
    """The layers as the API shows them; values from the environment as the config file has them."""
    hidden, layers = found.hidden, found.layers
    named = [
        {
            "name": o.name,
            "default": o.default,
            "tuned": o.tuned,
            "saved": hidden.get(o.name, o.saved),
            "effective": hidden.get(o.name, o.effective),
            "source": o.source,
            "running": hidden.get(o.name, o.running),
            "about": o.about,
        }
        for o in layers.options()
    ]
    view: OptionsView = {
        "model_id": found.model.model_id,
        "engine": found.model.engine,
        "options": named,
        "tuned": None if found.tuned is None else tuned_view(found.tuned),
        "tuned_unused": found.unused,
        "tuned_doubtful": found.doubtful,
        "is_running": layers.running is not None,
        "needs_reload": layers.needs_reload,
        "message": _message(found),
    }
    return view


def _message(found: OptionsReport) -> str:
    parts = []
    if found.layers.needs_reload:
        parts.append("it runs with other options until it is unloaded and loaded again")
    if found.model.origin == "config":
        parts.append("saved options are the config file's again at the next start")
    return "; ".join(parts)


def tuned_view(tuned: Tuned) -> TunedView:
    """What was found by trying, as the API shows it."""
    return {
        "options": dict(tuned.options),
        "goal": tuned.goal,
        "gain": tuned.gain,
        "low": tuned.low,
        "high": tuned.high,
        "at": iso(tuned.at),
        "engine_version": tuned.engine_version,
        "tried": [dict(each) for each in tuned.tried],
    }
