"""/models: the catalog, and the lifecycle of each model."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Response
from fastapi.responses import JSONResponse, StreamingResponse
from modelpool_client.errors import (
    Conflict,
    LoadFailed,
    ModelExists,
    PoolStopping,
    QueueFull,
    UnloadProtected,
)
from modelpool_client.http1.upstream_connection import UpstreamError
from modelpool_client.surfaces.failures import LOAD
from modelpool_client.surfaces.sse import AS_IT_COMES
from modelpool_client.wire import LOG_OFFSET_HEADER
from pydantic import BaseModel, ConfigDict, Field

from modelpool.api.answers import (
    Capabilities,
    Changed,
    Deleted,
    Endpoint,
    Extended,
    History,
    JobView,
    ModelDetails,
    Plan,
    Registered,
    WorkerHealth,
)
from modelpool.api.capabilities import capabilities_view
from modelpool.api.error_handlers import refuse_method
from modelpool.api.jobs import BEGUN, begun
from modelpool.api.measuring import profile_view
from modelpool.api.openapi import refuses
from modelpool.api.plan import plan_view
from modelpool.api.pulls import removal_view
from modelpool.api.route import ApiRoute
from modelpool.api.schemas import details_view, endpoint, lease, model_view
from modelpool.api.whole_number import WHOLE
from modelpool.catalog.entry_schema import model_entry_schema
from modelpool.catalog.errors import StoreError
from modelpool.catalog.model import validate_model_id
from modelpool.log_reader import beginning, tail
from modelpool.log_reader import follow as follow_log
from modelpool.observe.history import KEPT_PER_MODEL
from modelpool.services import Services

HEALTH_SECONDS = 5.0
MAX_WAIT_SECONDS = 3600

POST_ONLY = (
    "/models/pull",
    "/models/register",
    *(
        f"/models/{{model_id:path}}/{verb}"
        for verb in ("load", "unload", "extend-ttl", "probe", "profile", "tune")
    ),
)

Wait = Annotated[
    float | None, Query(ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait for the outcome")
]

LOG_TYPE = "text/plain; charset=utf-8"
Offset = Annotated[
    int | None,
    Query(ge=0, le=2**53, description="With `follow`: begin at this byte, not with the last lines"),
]

Files = Annotated[
    bool, Query(description="Also the files that were pulled for it, but for those that others use")
]

Limit = Annotated[int, WHOLE, Query(ge=1, le=KEPT_PER_MODEL, description="Most events to show")]
Before = Annotated[
    int | None, Query(ge=1, le=2**53, description="Only those before this `number` (a page on)")
]


_DONE_OR_BEGUN: dict[int | str, dict[str, Any]] = {
    200: {"model": Changed, "description": "done"},
    202: {"model": Changed, "description": "begun, and not done yet"},
}
_HEALTH: dict[int | str, dict[str, Any]] = {
    200: {"model": WorkerHealth, "description": "what the worker says"},
    503: {"model": WorkerHealth, "description": "it loads or drains, or there is none"},
}
_LOGS: dict[int | str, dict[str, Any]] = {
    **refuses(PoolStopping),
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
}


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class UnloadBody(_Strict):
    """``force`` also ends warm-up and pinned models, and cuts what is in flight."""

    force: bool = False


class ExtendBody(_Strict):
    """``minutes`` are added to what is left of the lease."""

    minutes: Annotated[float, Field(gt=0, le=525_600)]


class ProbeBody(_Strict):
    """``capabilities`` are those to find out; none: all that can be."""

    capabilities: list[str] = []


class LoadBody(_Strict):
    """Load options belong to the model, so there is nothing to say here."""


def routes(services: Services) -> APIRouter:
    """The routes of one pool."""
    router = APIRouter(tags=["models"], route_class=ApiRoute)
    pool = services.pool

    @router.post(
        "/models/register",
        status_code=201,
        responses=refuses(ModelExists, StoreError),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": model_entry_schema()}},
            }
        },
    )
    async def register(data: Annotated[Any, Body()]) -> Registered:
        """Add a model; its file is read, nothing is loaded."""
        model = await services.register(data)
        return {"model": model_view(pool.status(model.model_id), services)}

    @router.post(
        "/models/{model_id:path}/load",
        responses={**_DONE_OR_BEGUN, **refuses(*LOAD)},
    )
    async def load(model_id: str, wait: Wait = None, body: LoadBody | None = None) -> JSONResponse:
        """Start loading: 202 at once, or with ``wait`` 200 when it is HOT."""
        status = _status(model_id)
        await services.files.check(status.model.model_id)
        await pool.load(status.model.model_id, "asked for by the API", wait)
        status = _status(model_id)  # it may be another copy that was loaded
        is_up = status.state.is_serving
        text = f"{status.model.model_id} is {status.state}"
        body_out = {"message": text, "model": model_view(status, services)}
        return JSONResponse(body_out, 200 if is_up else 202)

    @router.post(
        "/models/{model_id:path}/unload",
        responses={**_DONE_OR_BEGUN, **refuses(UnloadProtected)},
    )
    async def unload(
        model_id: str, wait: Wait = None, body: UnloadBody | None = None
    ) -> JSONResponse:
        """End the model's worker; returns when it is COLD, or after ``wait`` seconds."""
        status = _status(model_id)
        force = body is not None and body.force
        name = status.model.model_id
        done = pool.unload(name, "asked for by the API", force=force, cut=force)
        if done.done():
            done.result()
        elif wait is None or wait > 0:
            await asyncio.wait({done}, timeout=wait)
        is_over = done.done()
        text = done.result() if is_over else "the unload goes on"
        now = pool.status(name) if pool.has(name) else status
        return JSONResponse(
            {"message": text, "model": model_view(now, services)}, 200 if is_over else 202
        )

    @router.post("/models/{model_id:path}/extend-ttl", responses=refuses(Conflict))
    async def extend(model_id: str, body: ExtendBody) -> Extended:
        """Add to the lease, up to ``max_ttl_minutes`` from now."""
        status = _status(model_id)
        granted = pool.extend(status.model.model_id, body.minutes * 60) / 60
        left = lease(_status(model_id), pool)
        never = left["expires_at"] is None
        extended = Extended(
            model_id=status.model.model_id,
            granted_minutes=round(granted, 3),
            capped=not never and granted < body.minutes - 1e-6,
            ttl_remaining_minutes=left["ttl_remaining_minutes"],
            expires_at=left["expires_at"],
        )
        if never:
            extended["message"] = "never expires"
        return extended

    @router.get("/models/{model_id:path}/endpoint", responses=refuses(Conflict, *LOAD))
    async def resolve(model_id: str, wait: Wait = None) -> Endpoint:
        """Where the model answers; with ``wait`` it is loaded if need be."""
        status = _status(model_id)
        if wait:
            await services.files.check(status.model.model_id)
            await pool.load(status.model.model_id, "its endpoint was asked for", wait)
            status = _status(model_id)  # it may be another copy that was loaded
        url = endpoint(status, pool.config)
        if url is None:
            name = status.model.model_id
            raise Conflict(
                f"{name} is {status.state} and has no endpoint; load it, or ask with ?wait=SECONDS",
                code="not_loaded",
            )
        base = f"{url}/v1"
        return {
            "model_id": status.model.model_id,
            "endpoint": url,
            "base_url": base,
            "port": status.port,
            "state": status.state,
        }

    @router.get("/models/{model_id:path}/health", responses=_HEALTH)
    async def health(model_id: str) -> JSONResponse:
        """The worker's own ``/health``; 503 with the state where there is none."""
        status = _status(model_id)
        url = endpoint(status, pool.config)
        if url is not None:
            try:
                return JSONResponse(*await _health_of(status.port))
            except (UpstreamError, TimeoutError, ValueError) as e:  # or no JSON
                why = f"the worker does not answer: {e or type(e).__name__}"
                return JSONResponse(_unhealthy(status.model.model_id, "unreachable", why), 503)
        return JSONResponse(
            _unhealthy(status.model.model_id, status.state.lower(), status.reason), 503
        )

    @router.get("/models/{model_id:path}/plan")
    async def plan(model_id: str) -> Plan:
        """What a load would do right now: action, evictions, bytes, port; nothing is changed."""
        refused, model = "", _status(model_id).model
        try:
            await services.files.check(model.model_id)
        except LoadFailed as e:
            refused = e.message
        if not refused and (problems := await services.problems(model)):
            wrong = "; ".join(p.message for p in problems)
            refused = f"engine {model.engine} would not load it: {wrong}"
        return plan_view(_status(model_id), pool, services.estimator, refused)

    @router.get("/models/{model_id:path}/history", responses=refuses(StoreError))
    async def history(model_id: str, limit: Limit = 50, before: Before = None) -> History:
        """What happened to the model, newest first; kept over restarts of the manager."""
        name = _status(model_id).model.model_id
        events = await services.history.of(name, limit, before)
        next_before = events[-1]["number"] if len(events) == limit else None
        return {"model_id": name, "events": list(events), "next_before": next_before}

    @router.get("/models/{model_id:path}/capabilities")
    async def capabilities(model_id: str) -> Capabilities:
        """What the model can do and what it cannot, each with who says so, how surely, and why."""
        return await capabilities_view(services, _status(model_id).model)

    @router.post(
        "/models/{model_id:path}/probe",
        status_code=202,
        responses=BEGUN | refuses(Conflict, QueueFull, StoreError),
    )
    async def probe(
        model_id: str, response: Response, body: ProbeBody | None = None, wait: Wait = None
    ) -> JobView:
        """Ask the model for each capability, loading it if need be: a job."""
        only = body.capabilities if body is not None else []
        data = {"model": _status(model_id).model.model_id, "capabilities": only}
        return await begun(services.jobs, "probe", data, wait, response)

    @router.get("/models/{model_id:path}/logs", response_class=Response, responses=_LOGS)
    async def logs(
        model_id: str,
        lines: Annotated[int, WHOLE, Query(ge=0, le=10_000)] = 200,
        follow: bool = False,
        offset: Offset = None,
    ) -> Response:
        """The end of the worker's log as text; with ``follow`` what is added, too."""
        status = _status(model_id)
        path = services.workers.log_path(status.model.model_id)
        if not follow:
            found = await asyncio.to_thread(tail, path, lines) if lines else ()
            text = "".join(f"{line}\n" for line in found)
            return Response(text, media_type=LOG_TYPE)
        if pool.is_stopping:
            raise PoolStopping("the pool is stopping: nothing is added to its logs any more")
        first, at = await asyncio.to_thread(beginning, path, lines, offset)
        news = follow_log(
            path, first, at + len(first), lambda: pool.is_stopping or services.restart.is_asked
        )
        headers = {LOG_OFFSET_HEADER: str(at), **AS_IT_COMES}
        return StreamingResponse(news, media_type=LOG_TYPE, headers=headers)

    for path in POST_ONLY:  # before the routes that would take the verb for a part of the id
        router.add_api_route(
            path, refuse_method, methods=["GET", "DELETE"], include_in_schema=False
        )

    @router.get("/models/{model_id:path}")
    async def show(model_id: str) -> ModelDetails:
        """One model, with all that its files say (``facts``), and its last profile."""
        status = _status(model_id)
        found = services.measurements.profiles(status.model.model_id)
        last = await profile_view(services, status.model.model_id, found[0]) if found else None
        return details_view(status, services, last)

    @router.delete("/models/{model_id:path}", responses=refuses(Conflict, StoreError))
    async def delete(model_id: str, files: Files = False) -> Deleted:
        """Remove a model; a running one is unloaded first."""
        validate_model_id(model_id)
        model = await services.delete(model_id)
        deleted: Deleted = {"deleted": model.model_id}
        if pointing := services.virtual_models.pointing_at(model.names):
            deleted["virtual_models"] = [each.name for each in pointing]
        if files:
            deleted["removal"] = removal_view(await services.pulls.remove(model))
        return deleted

    async def _health_of(port: int) -> tuple[Any, int]:
        async with asyncio.timeout(HEALTH_SECONDS):
            asked = services.upstream.request((pool.config.host, port), "GET", b"/health", [])
            with await asked as reply:
                return json.loads(await reply.read()), reply.status

    def _status(model_id: str) -> Any:
        validate_model_id(model_id)
        return services.status(model_id)

    return router


def _unhealthy(model_id: str, status: str, reason: str) -> dict[str, Any]:
    return {"model": model_id, "status": status, "reason": reason, "port": None}
