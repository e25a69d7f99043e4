"""/api/v1/models: the model manager of the second document, in its words, over the same pool.

A key is ``provider:model``. What its routes are called wins over a provider of that name.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from modelpool_client.capabilities import SPELLINGS
from modelpool_client.errors import (
    Conflict,
    ModelNotFound,
    ModelPoolError,
    QueueFull,
    UnloadProtected,
)
from modelpool_client.surfaces.failures import LOAD
from pydantic import BaseModel, ConfigDict, Field

from modelpool.api.answers import (
    Current,
    Discovered,
    LoadedModels,
    Managed,
    ManagedCapabilities,
    ManagedModel,
    ManagedModels,
    ManagedPage,
    ManagedStatistics,
    Profiled,
    StateSavedToo,
    Switched,
)
from modelpool.api.error_handlers import refuse_method
from modelpool.api.openapi import refuses
from modelpool.api.route import ApiRoute
from modelpool.api.search import in_state
from modelpool.api.statistics import statistics_view
from modelpool.api.whole_number import WHOLE
from modelpool.catalog.entry_schema import engine_name
from modelpool.catalog.errors import StoreError
from modelpool.catalog.model import Model, validate_model_id
from modelpool.jobs.job import Job, JobState
from modelpool.observe.events import iso
from modelpool.pool.states import State
from modelpool.services import Services

BASE = "/api/v1/models"
PROVIDERS = {"anthropic": "claude"}
WORDS = {ours: theirs for theirs, ours in SPELLINGS.items() if theirs != "embedding"}
POST_ONLY = ("load", "switch", "unload", "discover", "save-state")
WAIT_SECONDS = 3600.0
# Views that are made in a time: the pool answers between two such steps.
STEP = 500
Limit = Annotated[int | None, WHOLE, Query(ge=0, description="Most models to show; none: all")]
Offset = Annotated[int, WHOLE, Query(ge=0, description="Leave out so many: a page on")]
_PAGE: dict[int | str, dict[str, Any]] = {200: {"model": ManagedPage}}
JOB: tuple[type[ModelPoolError], ...] = (ModelNotFound, Conflict, QueueFull, StoreError)


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class ModelBody(_Strict):
    """A model of a provider; the provider may be left out where the model's name says enough."""

    model: str
    provider: str | None = None


class ProfileBody(_Strict):
    """How many requests are measured."""

    testCount: Annotated[int, Field(ge=1, le=10_000)] | None = None


class DiscoverBody(_Strict):
    """Folders to look in; none: those of the configuration."""

    paths: list[str] | None = None


class NoBody(_Strict):
    """There is nothing to say."""


def routes(services: Services) -> APIRouter:
    """The routes of one pool."""
    router = APIRouter(tags=["model manager"], route_class=ApiRoute)
    pool, catalog = services.pool, services.catalog

    def view(model: Model) -> ManagedModel:
        return managed(model, pool.state(model.model_id), _was_loaded(model))

    def _was_loaded(model: Model) -> bool:
        return pool.was_started(model.model_id)

    def listed(models: Iterable[Model]) -> ManagedModels:
        found = [view(m) for m in models if pool.has(m.model_id)]
        return {"models": found, "count": len(found)}

    def loaded() -> list[Model]:
        ids = sorted({s.model.model_id for s in pool.holders if s.state.is_serving})
        return [m for i in ids if (m := catalog.find(i)) is not None]

    async def page(models: Sequence[Model], limit: int | None, offset: int) -> JSONResponse:
        """Views of some of them; what they would look like is checked by nobody for each: of ten
        thousand that takes longer than to make them."""
        end = len(models) if limit is None else offset + limit
        views: list[ManagedModel] = []
        for i, model in enumerate(models[offset:end]):
            if i % STEP == STEP - 1:
                await asyncio.sleep(0)
            if pool.has(model.model_id):
                views.append(view(model))
        more = {} if limit is None and not offset else {"total": len(models)}
        return JSONResponse({"models": views, "count": len(views)} | more)

    @router.get(BASE, responses=_PAGE)
    async def list_models(
        provider: Annotated[str | None, Query(description="openai, claude, llama.cpp …")] = None,
        capability: str | None = None,
        status: Annotated[
            str | None, Query(description="available, loading, loaded, failed, unloaded")
        ] = None,
        limit: Limit = None,
        offset: Offset = 0,
    ) -> JSONResponse:
        """Every model, or those that meet the conditions; with ``limit`` a page of them."""
        found = in_state(catalog.list(engine=provider, capability=capability), status, pool)
        if status is not None:  # what was loaded once is unloaded, not available
            word = status.casefold()
            found = [m for m in found if pool.has(m.model_id) and view(m)["status"] == word]
        return await page(found, limit, offset)

    @router.get(f"{BASE}/loaded")
    async def list_loaded() -> LoadedModels:
        """The models that answer now, and the one that is ``current``."""
        current, found = catalog.current, listed(loaded())
        return {
            "models": found["models"],
            "count": found["count"],
            "currentModel": None if current is None else view(current),
        }

    @router.get(f"{BASE}/current")
    async def show_current() -> Current:
        """The model that the alias ``current`` stands for."""
        model = catalog.current
        if model is None:
            return {"model": None}
        status = pool.status(model.model_id)
        used = services.usage.statistics({})["models"].get(model.model_id, {})
        count, errors = used.get("request_count", 0), used.get("error_count", 0)
        return {
            "model": {
                "key": key_of(model),
                "model": view(model),
                "loadedAt": iso(status.since) if status.state.is_serving else None,
                "totalInferences": count,
                "performanceMetrics": {
                    "averageLatency": used.get("avg_latency_ms", 0.0),
                    "tokensPerSecond": used.get("tokens_per_second", 0.0),
                    "successRate": 1 - errors / count if count else 1.0,
                },
            }
        }

    @router.get(f"{BASE}/statistics")
    async def statistics() -> ManagedStatistics:
        """How many models there are of each kind, and what was asked of them."""
        current, awake = catalog.current, pool.awake_models
        states = Counter(status_word(pool.state(i), False) for i in awake if pool.has(i))
        states["available"] += len(catalog) - states.total()
        counted = {
            "totalModels": len(catalog),
            "loadedModels": len(loaded()),
            "currentModel": None if current is None else key_of(current),
            "totalInferences": statistics_view(services)["total_requests"],
            "providerCounts": {
                PROVIDERS.get(e, e): count for e, count in catalog.counts("engine").items()
            },
            "capabilityCounts": {
                WORDS.get(c, c): count for c, count in catalog.counts("capability").items()
            },
            "statusCounts": {word: count for word, count in sorted(states.items()) if count},
        }
        return {"success": True, "statistics": counted}

    for verb in POST_ONLY:
        router.add_api_route(
            f"{BASE}/{verb}", refuse_method, methods=["GET"], include_in_schema=False
        )

    @router.post(f"{BASE}/load", responses=refuses(ModelNotFound, *LOAD))
    async def load(body: ModelBody) -> Managed:
        """Load a model and wait until it answers."""
        model = _named(body.model, body.provider)
        await _load(model)
        return _done("loaded", model)

    @router.post(f"{BASE}/switch", responses=refuses(ModelNotFound, StoreError, *LOAD))
    async def switch(body: ModelBody) -> Switched:
        """Load a model, then let requests for ``current`` go to it."""
        model = _named(body.model, body.provider)
        model = await services.switch(model.model_id, "asked for by the API")
        return {**_done("switched", model), "currentModel": view(model)}

    @router.post(f"{BASE}/unload", responses=refuses(ModelNotFound, UnloadProtected))
    async def unload(body: ModelBody) -> Managed:
        """End a model's workers; returns when its memory is back."""
        model = _named(body.model, body.provider)
        await pool.unload(model.model_id, "asked for by the API")
        return _done("unloaded", model)

    @router.post(f"{BASE}/discover", responses=refuses(*JOB))
    async def discover(body: DiscoverBody | None = None) -> Discovered:
        """Look for models where they may be, and wait for what is found."""
        paths = {"paths": body.paths} if body is not None and body.paths else {}
        job = await _finished("discover", paths)
        found = listed(catalog)
        return {
            "success": job.state is JobState.SUCCEEDED,
            "message": _message("Discovery", job),
            "job_id": job.job_id,
            "models": found["models"],
            "count": found["count"],
        }

    @router.post(f"{BASE}/save-state", responses=refuses(StoreError))
    async def save_state(body: NoBody | None = None) -> StateSavedToo:
        """Write down now what is written now and then."""
        path = await services.save_state()
        return {"success": True, "message": "State saved successfully", "path": str(path)}

    @router.post(f"{BASE}/{{key:path}}/profile", responses=refuses(*JOB))
    async def profile(key: str, body: ProfileBody | None = None) -> Profiled:
        """Measure how quick a model is here, and wait for the figures."""
        model = _of_key(key)
        count = body.testCount if body is not None else None
        data = {"model": model.model_id} | ({} if count is None else {"testCount": count})
        job = await _finished("profile", data)
        metrics = job.result.get("metrics", job.result)
        return {
            "success": job.state is JobState.SUCCEEDED,
            "message": _message("Profiling", job),
            "job_id": job.job_id,
            "metrics": dict(metrics) if isinstance(metrics, Mapping) else None,
        }

    @router.get(f"{BASE}/{{key:path}}/capabilities", responses=refuses(ModelNotFound))
    async def capabilities(key: str) -> ManagedCapabilities:
        """What a model can do."""
        model = _of_key(key)
        return {
            "success": True,
            "key": key_of(model),
            "capabilities": [WORDS.get(c, c) for c in model.capabilities],
        }

    router.add_api_route(
        f"{BASE}/{{model_id:path}}/load", refuse_method, methods=["GET"], include_in_schema=False
    )

    @router.post(f"{BASE}/{{model_id:path}}/load", responses=refuses(*LOAD))
    async def load_by_path(model_id: str) -> Managed:
        """Load a model by its id, ``owner/repo``, and wait until it answers."""
        model = _of_key(model_id)
        await _load(model)
        return _done("loaded", model)

    @router.get(f"{BASE}/{{provider}}", responses=_PAGE)
    async def of_provider(provider: str, limit: Limit = None, offset: Offset = 0) -> JSONResponse:
        """The models of a provider; with ``limit`` a page of them."""
        return await page(catalog.list(engine=provider), limit, offset)

    async def _load(model: Model) -> None:
        await services.files.check(model.model_id)
        limit = pool.config.load_wait_seconds
        await pool.load(model.model_id, "asked for by the API", limit)

    def _named(name: str, provider: str | None) -> Model:
        validate_model_id(name, "model")
        model = catalog.get(name)
        if provider is not None and model.engine != engine_name(provider):
            text = f"there is no model {name!r} of {provider!r}; {model.model_id} is one of"
            raise ModelNotFound(f"{text} {_provider(model)!r}", param="provider")
        return model

    def _of_key(key: str) -> Model:
        validate_model_id(key, "key")
        return catalog.get(key)

    async def _finished(kind: str, data: dict[str, Any]) -> Job:
        """A job that is over, or goes on for longer than anybody waits.

        Raises:
            Conflict: it did not succeed.
        """
        job, _ = await services.jobs.create(kind, data)
        job = await services.jobs.wait(job.job_id, WAIT_SECONDS)
        if not (job.state.is_active or job.state is JobState.SUCCEEDED):
            text = f"{job.job_id} is {job.state}: {job.reason}; GET /jobs/{job.job_id} shows more"
            raise Conflict(text, code=job.code or "job_failed")
        return job

    return router


def managed(model: Model, state: State, was_loaded: bool) -> ManagedModel:
    """A model in the second document's words."""
    limit = model.options.get("max_tokens")
    return {
        "id": model.model_id,
        "name": model.display_name or model.model_id,
        "provider": _provider(model),
        "contextWindow": model.context_length,
        "maxTokens": limit if isinstance(limit, int) else model.context_length,
        "capabilities": [WORDS.get(c, c) for c in model.capabilities],
        "status": status_word(state, was_loaded),
    }


def status_word(state: State, was_loaded: bool) -> str:
    """What the second document calls a state; of COLD ones it tells those that were loaded."""
    match state:
        case State.WARMING:
            return "loading"
        case State.HOT | State.COOLING:
            return "loaded"
        case State.FAILED:
            return "failed"
        case State.COLD if not was_loaded:
            return "available"
    return "unloaded"


def key_of(model: Model) -> str:
    """``provider:model``."""
    return f"{_provider(model)}:{model.model_id}"


def _provider(model: Model) -> str:
    return PROVIDERS.get(model.engine, model.engine)


def _done(verb: str, model: Model) -> Managed:
    return {
        "message": f"Model {verb} successfully",
        "provider": _provider(model),
        "model": model.model_id,
    }


def _message(what: str, job: Job) -> str:
    if job.state is JobState.SUCCEEDED:
        return f"{what} completed"
    return f"{what} is not done yet: GET /jobs/{job.job_id} shows how far it is"
