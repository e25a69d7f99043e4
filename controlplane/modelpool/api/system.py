"""The pool itself: health, metrics, statistics, engines, configuration, events, registry file."""

from __future__ import annotations

import asyncio
import os
import platform
import time
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

from modelpool.api import not_implemented, web_page
from modelpool.api.answers import (
    ConfigChange,
    ConfigReload,
    ConfigSources,
    Devices,
    Engines,
    GoingOn,
    Imported,
    KeySourceView,
    PoolHealth,
    Registry,
    Restarting,
    StateSaved,
    Status,
)
from modelpool.api.machine import devices_view, engines_view
from modelpool.api.openapi import LOOK, refuses
from modelpool.api.route import ApiRoute
from modelpool.api.schemas import MB
from modelpool.api.statistics import statistics_view
from modelpool.catalog.errors import StoreError
from modelpool.config import LIVE_KEYS
from modelpool.config_sources import KeySource, sources_of
from modelpool.observe.events import Event
from modelpool.pool.states import State
from modelpool.pool.status import ReplicaStatus
from modelpool.preflight import check_next_start
from modelpool.reload import reload_config
from modelpool.services import Services

# Entries of a registry file that are made at a time.
STEP = 100
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
    pool, began = services.pool, time.monotonic()

    async def alive(request: Request) -> Response:
        # Ollama's clients ask so whether there is anybody, and read a redirect as no.
        return Response()

    router.add_route("/", alive, methods=["HEAD"], include_in_schema=False)

    @router.get("/", include_in_schema=False)
    async def root(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return web_page.document()
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
            "active_models": sum(1 + len(pool.served_models(s.model.model_id)) for s in loaded),
            "total_models": pool.model_count,
            "total_memory_mb": round(reserved / MB, 1),
            "available_ports": pool.ports.available,
            "failed_models": sum(s.state is State.FAILED for s in awake),
            "memory_limit_mb": pool.config.memory_limit_mb,
            "version": __version__,
            "memory_pressure": services.pressure.complaint,
            "pool_id": services.pool_id,
            "run": services.events.run,
            "pid": os.getpid(),
            "hostname": platform.node(),
            "uptime_seconds": round(time.monotonic() - began, 1),
            "host_memory_mb": round(services.memory.now.total / MB, 1),
            "host_available_mb": round(services.memory.now.available / MB, 1),
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

    @router.get("/metrics", response_class=Response, responses={**_METRICS, **refuses(*LOOK)})
    async def metrics(
        model: Annotated[
            str | None, Query(description="Those of its worker, of one if it has several")
        ] = None,
    ) -> Response:
        """Prometheus metrics of the pool, or of a model that is loaded: a scrape loads none."""
        # Those of a model are answered by the gateway, see engine_metrics.
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
    async def engines(
        all_: Annotated[
            bool, Query(alias="all", description="Those that are for tests and trials, too")
        ] = False,
        refresh: Annotated[
            bool, Query(description="Look again; else what is known is told")
        ] = False,
    ) -> Engines:
        """Which engines are usable here, or why not and what to install; and the other environments
        that workers may run from."""
        return await engines_view(services, with_all=all_, is_asked_again=refresh)

    @router.get("/devices")
    async def devices() -> Devices:
        """The machine's devices, as they are now: what each has, what is free, and who holds the
        rest."""
        await services.devices.refresh()
        return devices_view(services)

    @router.get("/config")
    async def config() -> dict[str, Any]:
        """Every key with its present value."""
        return pool.config.as_dict()

    @router.get("/config/sources")
    async def config_sources() -> ConfigSources:
        """Where the value of every key comes from, whether it can change while the pool runs, and
        what a restart would make of it."""
        file = services.configured.file
        found = sources_of(pool.config, services.configured)
        return {
            "file": None if file is None else str(file),
            "keys": {key: _source_view(source) for key, source in found.items()},
        }

    @router.get("/config/file")
    async def config_file() -> dict[str, Any]:
        """A config file that makes a pool like this one, its models included."""
        virtual = services.virtual_models
        names = {each.name: each.as_entry() for each in virtual}
        made = {"aliases": {}, "virtual_models": names, "presets": virtual.own_presets}
        return services.catalog.export_config(pool.config) | made

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

    @router.get("/registry", responses={200: {"model": Registry}})
    async def export() -> JSONResponse:
        """The catalog as a registry file."""
        entries: list[dict[str, Any]] = []
        for entry in services.catalog.registry_entries():
            entries.append(entry)
            if len(entries) % STEP == 0:  # the pool answers meanwhile
                await asyncio.sleep(0)
        return JSONResponse({"models": entries})

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


def _source_view(source: KeySource) -> KeySourceView:
    view: KeySourceView = {
        "value": source.value,
        "source": source.kind,
        "place": source.place,
        "default": source.default,
        "live": source.is_live,
    }
    return {**view, "after_restart": source.after_restart} if source.will_change else view


def _worker(status: ReplicaStatus) -> GoingOn:
    assert status.worker is not None
    pid = status.worker.process.pid
    name = status.model.model_id
    return {"model_id": name, "state": status.state, "port": status.port, "worker_pid": pid}


def _status(services: Services) -> str:
    if services.pool.is_stopping:
        return "stopping"
    return "restarting" if services.restart.is_asked else "healthy"
