"""The pool itself: health, metrics, statistics, engines, configuration, events, registry file."""

from __future__ import annotations

import os
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Query, Request, Response
from fastapi.responses import (
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    StreamingResponse,
)
from modelpool_client import __version__
from modelpool_client.errors import Conflict, InvalidRequest, ModelNotFound, NotSupported
from modelpool_client.surfaces import ollama
from modelpool_client.surfaces.sse import AS_IT_COMES
from pydantic import BaseModel, ConfigDict, Field

from modelpool.api import not_implemented
from modelpool.api.answers import (
    ConfigChange,
    ConfigReload,
    Engines,
    GoingOn,
    Imported,
    PoolHealth,
    Registry,
    Restarting,
    StateSaved,
    Status,
)
from modelpool.api.openapi import refuses
from modelpool.api.route import ApiRoute
from modelpool.api.schemas import MB
from modelpool.api.statistics import statistics_view
from modelpool.catalog.errors import StoreError
from modelpool.config import LIVE_KEYS
from modelpool.observe.events import Event
from modelpool.pool.states import State
from modelpool.pool.status import ReplicaStatus
from modelpool.preflight import check_next_start
from modelpool.reload import reload_config
from modelpool.services import Services

EVENT_PING_SECONDS = 15.0

_NOT_READY: dict[str, Any] = {"model": Status, "description": "it stops or restarts"}
_EVENTS: dict[int | str, dict[str, Any]] = {
    **refuses(ModelNotFound),
    200: {"content": {"text/event-stream": {"schema": {}}}},
}
_METRICS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}}
}


class RegistryBody(BaseModel):
    """A registry file, and whether its entries replace models that differ."""

    model_config = ConfigDict(strict=True, extra="allow")
    models: list[Any]
    replace: bool = False


class RestartBody(BaseModel):
    """How long requests under way may take to end; None: ``graceful_shutdown_seconds``."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    wait_seconds: Annotated[float, Field(ge=0, le=3600)] | None = None


def routes(services: Services) -> APIRouter:
    """The routes of one pool."""
    router = APIRouter(tags=["pool"], route_class=ApiRoute)
    not_implemented.add_to(router)
    pool = services.pool

    async def alive(request: Request) -> Response:
        # Ollama's clients ask so whether there is anybody, and read a redirect as no.
        return Response()

    router.add_route("/", alive, methods=["HEAD"], include_in_schema=False)

    @router.get("/", include_in_schema=False)
    async def root(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("/docs")
        # Not a browser: tools that speak Ollama's API look for its very words.
        return PlainTextResponse(ollama.ROOT_TEXT)

    @router.get("/api-docs", include_in_schema=False)
    async def api_docs() -> Response:
        return RedirectResponse("/docs")

    @router.get("/health")
    async def health() -> PoolHealth:
        """The pool in a few figures."""
        awake = [pool.status(model_id) for model_id in pool.awake_models]
        loaded = [s for s in awake if s.state.is_serving]
        reserved = sum(pool.reserved_bytes(s.key) for s in pool.holders)
        return {
            "status": _status(services),
            "active_models": len(loaded),
            "total_models": len(pool.sets),
            "total_memory_mb": round(reserved / MB, 1),
            "available_ports": pool.ports.available,
            "failed_models": sum(s.state is State.FAILED for s in awake),
            "memory_limit_mb": pool.config.memory_limit_mb,
            "version": __version__,
            "memory_pressure": services.pressure.complaint,
            "pool_id": services.pool_id,
            "run": services.events.run,
            "pid": os.getpid(),
        }

    @router.get("/livez")
    async def livez() -> Status:
        """The event loop turns."""
        return {"status": "ok"}

    @router.get("/readyz", responses={200: {"model": Status}, 503: _NOT_READY})
    async def readyz() -> JSONResponse:
        """The pool takes requests."""
        status = _status(services)
        if status != "healthy":
            return JSONResponse({"status": status}, 503)
        return JSONResponse({"status": "ok"})

    @router.get("/metrics", response_class=Response, responses=_METRICS)
    async def metrics() -> Response:
        """Prometheus metrics; a scrape never loads a model."""
        return Response(services.metrics.text(), media_type="text/plain; version=0.0.4")

    @router.get("/statistics")
    async def statistics() -> dict[str, Any]:
        """What the gateway has relayed since the manager started, in all, by model and engine."""
        return statistics_view(services)

    @router.post("/save-state", responses=refuses(StoreError))
    async def save_state() -> StateSaved:
        """Write down now what is written now and then: statistics, peaks, usage patterns."""
        return {"message": "State saved successfully", "path": str(await services.save_state())}

    @router.get("/engines")
    async def engines() -> Engines:
        """Which engines are usable here, or why not."""
        return {"engines": await services.engines.all()}

    @router.get("/config")
    async def config() -> dict[str, Any]:
        """Every key with its present value."""
        return pool.config.as_dict()

    @router.get("/config/file")
    async def config_file() -> dict[str, Any]:
        """A config file that makes a pool like this one, its models included."""
        return services.catalog.export_config(pool.config)

    @router.patch("/config")
    async def patch(changes: Annotated[dict[str, Any], Body()]) -> ConfigChange:
        """Change live keys until the next start; models that run are not touched."""
        changed = await services.reconfigure(changes)
        return {"changed": changed, "live_keys": sorted(LIVE_KEYS), "config": await config()}

    @router.post("/config/reload", responses=refuses(InvalidRequest, Conflict, StoreError))
    async def reload() -> ConfigReload:
        """Read the config file again: what changed in it counts, but for keys that need a restart;
        models that run are not touched."""
        return await reload_config(services, "POST /config/reload")

    @router.post("/restart", status_code=202, responses=refuses(Conflict, NotSupported))
    async def restart(body: RestartBody | None = None) -> Restarting:
        """Replace the manager by a fresh one that adopts the workers; `run` of /health changes."""
        await check_next_start(services)
        wait = body.wait_seconds if body is not None else None
        seconds = pool.config.graceful_shutdown_seconds if wait is None else wait
        services.restart.ask(seconds)
        workers = [_worker(status) for status in pool.holders if status.worker is not None]
        return {
            "message": "restarting",
            "run": services.events.run,
            "wait_seconds": seconds,
            "workers": workers,
        }

    @router.get("/registry")
    async def export() -> Registry:
        """The catalog as a registry file."""
        return {"models": services.catalog.export_registry()["models"]}

    @router.post("/registry", responses=refuses(Conflict, StoreError))
    async def import_(body: RegistryBody) -> Imported:
        """Take over a registry file, all of it or nothing."""
        data = {"models": body.models}
        report = await services.import_registry(data, replace=body.replace)
        return {
            "added": list(report.added),
            "updated": list(report.updated),
            "unchanged": list(report.unchanged),
            "deleted": list(report.removed),
        }

    @router.get("/events", response_class=StreamingResponse, responses=_EVENTS)
    async def events(
        model: Annotated[str | None, Query(description="Only this model's events")] = None,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> StreamingResponse:
        """Every change as a server-sent event, resumable by ``Last-Event-ID``."""
        model_id = services.catalog.get(model).model_id if model is not None else None

        def wanted(event: Event) -> bool:
            return model_id is None or event.data.get("model_id") == model_id

        stream = services.events.stream(last_event_id, wanted, EVENT_PING_SECONDS)
        return StreamingResponse(stream, media_type="text/event-stream", headers=AS_IT_COMES)

    return router


def _worker(status: ReplicaStatus) -> GoingOn:
    assert status.worker is not None
    pid = status.worker.process.pid
    name = status.model.model_id
    return {"model_id": name, "state": status.state, "port": status.port, "worker_pid": pid}


def _status(services: Services) -> str:
    if services.pool.is_stopping:
        return "stopping"
    return "restarting" if services.restart.is_asked else "healthy"
