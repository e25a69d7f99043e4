"""The composition root: builds every object once, starts them in order, ends them in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from modelpool_client import __version__
from modelpool_client.guard import Guard
from modelpool_client.http1.upstream import Upstream
from modelpool_client.response_store import ResponseStore
from starlette.routing import Route

from modelpool import background
from modelpool.api import (
    discovery,
    error_handlers,
    find,
    jobs,
    measuring,
    model_manager,
    models,
    openapi,
    pulls,
    search,
    service_discovery,
    system,
    versions,
)
from modelpool.asgi import AsgiApp
from modelpool.catalog.capability_book import CapabilityBook
from modelpool.catalog.described import Warnings, open_catalog
from modelpool.catalog.estimator import Estimator
from modelpool.catalog.event_rows import LAST_OF_A_RUN
from modelpool.catalog.profiles import stale_reason
from modelpool.catalog.store import Store
from modelpool.catalog.tuned import TunedOptions
from modelpool.config import PoolConfig
from modelpool.controllers import loop
from modelpool.controllers.idle_measuring import Candidate
from modelpool.controllers.measuring import MeasuringController
from modelpool.controllers.preloads import PreloadController
from modelpool.controllers.pressure import PressureController
from modelpool.controllers.schedules import ScheduleController
from modelpool.discovery import adopt
from modelpool.discovery.discovery import Discovery
from modelpool.discovery.watching import DiscoveryController, run_watcher
from modelpool.engines import Engines
from modelpool.entry import Entry
from modelpool.gateway.ollama import OllamaApi
from modelpool.gateway.open_inference import OpenInferenceApi
from modelpool.gateway.relay import Gateway
from modelpool.jobs import registry
from modelpool.jobs.runner import Jobs
from modelpool.launchers import Launcher, create
from modelpool.mcp_server.endpoint import McpEndpoint
from modelpool.measure.conditions import conditions, host_load
from modelpool.measure.records import Measurements
from modelpool.model_files import ModelFiles
from modelpool.observe.events import EventBus
from modelpool.observe.history import History
from modelpool.observe.meter import Meter, counting_loads, reporting_missing
from modelpool.observe.metrics import Metrics
from modelpool.observe.peaks import PeakMeter
from modelpool.observe.publisher import EventPublisher
from modelpool.observe.usage import UsageMeter
from modelpool.pool.context import Settings
from modelpool.pool.memory import HostMemory, read_pressure
from modelpool.pool.memory_release import MemoryRelease
from modelpool.pool.pool import Pool
from modelpool.pool.recovery import Recoverer, Recovery
from modelpool.pool.worker_client import HttpWorkerClient, base_url
from modelpool.pool.workers import PoolIdentity, Workers
from modelpool.pulling.pulls import Pulls
from modelpool.registrars.client import RegistryClient
from modelpool.registrars.metrics import RegistrarCollector
from modelpool.registrars.pool_records import hot_records
from modelpool.registrars.record import Record
from modelpool.registrars.registrars import Registrars
from modelpool.restart import Restart
from modelpool.services import Services, put_in_pool, with_warm_up
from modelpool.worker_reports import WorkerReports

log = logging.getLogger(__name__)

# A worker's start is a few milliseconds; then it is on record and the next manager adopts it.
LAUNCH_SECONDS = 5.0
LOOK_SECONDS = 0.01


@dataclass
class Running:
    """A pool in operation: what answers requests, and what its owner may ask of it."""

    entry: Entry
    services: Services
    recovery: Recovery

    async def stop(self) -> None:
        """Drain and end every worker; readers of events are sent home."""
        await self.services.pool.stop()
        self.services.events.publish(LAST_OF_A_RUN, reason="the manager was told to stop")
        self.services.events.close()

    async def leave(self) -> None:
        """Workers go on; those that are just being started are written down first."""
        pool = self.services.pool
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAUNCH_SECONDS):
                while any(s.is_launching for s in pool.holders):  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_SECONDS)
        self.services.events.publish(LAST_OF_A_RUN, reason="the manager restarts, workers go on")


@asynccontextmanager
async def running(
    config: PoolConfig, launcher: Launcher | None = None, memory: HostMemory | None = None
) -> AsyncIterator[Running]:
    """A pool from an opened store to recovered workers and begun warm-ups.

    ``memory`` takes the place of the host's own; so does, for tests with real processes, a folder
    in the environment variable MODELPOOL_TEST_HOST_ROOT.

    On exit workers that still run are left alone: whoever wants them ended calls ``stop`` first.

    Raises:
        StoreError: the database cannot be used, or another manager has it.
        BadRegistrar: a registrar of the configuration cannot be made.
    """
    async with AsyncExitStack() as stack:
        store = await Store.open(config.database)
        stack.push_async_callback(store.close)
        upstream = Upstream()
        stack.callback(upstream.close)
        launcher = launcher or create("local", has_spare=config.enable_spare_worker)
        stack.push_async_callback(launcher.close)
        registry_client = RegistryClient()
        stack.push_async_callback(registry_client.close)
        services, recoverer, unreadable = await _build(
            config,
            store,
            upstream,
            registry_client,
            launcher,
            memory or _host_memory(),
        )
        stack.push_async_callback(services.pool.close)
        await services.remove_unwanted_prompts()
        await asyncio.to_thread(services.responses.make_room)
        recovery = await recoverer.recover()
        await services.history.tidy()
        stack.push_async_callback(services.history.flush)
        await _announce(services, recovery, unreadable)
        await services.discovery.open()
        adopt.remember(services)
        await services.jobs.open(registry.kinds(services))
        stack.push_async_callback(services.jobs.close)
        services.registrars.begin()
        stack.push_async_callback(services.registrars.close)
        await services.preloads.open()
        # The last saves, after those that save now and then were ended.
        stack.push_async_callback(services.preloads.save)
        stack.push_async_callback(services.usage.save, store)
        stack.push_async_callback(services.peaks.save, store)
        finding = DiscoveryController(services, time.time, run_watcher)
        stack.push_async_callback(finding.close)
        works = (
            background.sweep(services),
            background.save(services, store),
            background.watch_memory(services),
            loop.run(
                (
                    *(services.pressure, services.schedules, services.preloads),
                    *(finding, _measuring(services)),
                )
            ),
            services.history.write_on(),
            background.look_at_registered(services),
        )
        for work in works:
            task = asyncio.ensure_future(work)
            stack.push_async_callback(_cancelled, task)
        background.warm_up(services)
        mcp = McpEndpoint(base_url(config.host, config.port), config.max_body_bytes)
        stack.push_async_callback(mcp.close)
        yield Running(_entry(services, mcp), services, recovery)


def _host_memory() -> HostMemory:
    root = Path(os.environ.get("MODELPOOL_TEST_HOST_ROOT") or "/")
    return HostMemory(lambda: read_pressure(root))


async def _build(
    config: PoolConfig,
    store: Store,
    upstream: Upstream,
    registry_client: RegistryClient,
    launcher: Launcher,
    memory: HostMemory,
) -> tuple[Services, Recoverer, Warnings]:
    settings = Settings(config)
    engines = Engines()
    capabilities = CapabilityBook(engines.facts, store)
    await capabilities.open()
    measurements = Measurements(store, TunedOptions())
    await measurements.open()
    estimator = Estimator(settings, capabilities, tuned=measurements.tuned.applied)
    estimator.learn(await store.peaks())
    running = {row.model_id for row in await store.workers()}
    catalog, unreadable = await open_catalog(
        store,
        config.models,
        estimator,
        lambda model: model.model_id in running or with_warm_up(model, config).warmup,
    )
    events, usage = EventBus(time.time), UsageMeter(time.time)
    history = events.archive = History(store, time.time, reporting_missing(events))
    events.listeners.append(history.note)
    client = HttpWorkerClient(upstream, config.host)
    identity = PoolIdentity(store.pool_id, base_url(config.host, config.port))
    released = MemoryRelease(memory)
    workers = Workers(identity, settings, launcher, client, store, released, estimator.effective)
    publisher = EventPublisher(events)
    pool = Pool(settings, workers, estimator, memory, publisher)
    for model in catalog:
        pool.add(with_warm_up(model, config))
    metrics = Metrics(pool, store.pool_id)
    put = partial(put_in_pool, pool)
    files = ModelFiles(catalog, pool, estimator, engines, events, put)
    peaks = PeakMeter(pool, estimator, time.time)
    publisher.listeners += [metrics.count, counting_loads(usage)]
    registrars = Registrars(
        config.registrars, store.pool_id, registry_client, _hot(pool, store.pool_id), events.publish
    )
    events.listeners.append(registrars.on_event)
    metrics.add(RegistrarCollector(registrars))
    jobs = Jobs(store, events.publish, time.time)
    services = Services(
        catalog=catalog,
        pool=pool,
        guard=Guard(config.host, config.allowlist),
        workers=workers,
        events=events,
        history=history,
        metrics=metrics,
        usage=usage,
        engines=engines,
        estimator=estimator,
        capabilities=capabilities,
        peaks=peaks,
        upstream=upstream,
        registry_client=registry_client,
        pool_id=store.pool_id,
        memory=memory,
        configured=config,
        registrars=registrars,
        restart=Restart(),
        responses=ResponseStore(config.responses_dir, config.responses_max_bytes),
        schedules=ScheduleController(pool, local_time, files.check),
        preloads=PreloadController(pool, store, local_time, files.check),
        pressure=PressureController(pool, memory, publisher.pool_event),
        files=files,
        store=store,
        discovery=Discovery(store, events.publish, time.time),
        jobs=jobs,
        pulls=Pulls(catalog, jobs, lambda: pool.config.models_folder),
        measurements=measurements,
    )
    return services, Recoverer(pool, workers, launcher, client, store), unreadable


def local_time() -> datetime:
    """Now, with its time zone."""
    return datetime.now().astimezone()


def _measuring(services: Services) -> MeasuringController:
    async def known(model_id: str, goal: str) -> Candidate:
        model = services.catalog.get(model_id)
        now = await conditions(model, services.estimator, services.engines)
        profiles = services.measurements.profiles(model_id)
        return Candidate(
            model_id,
            bool(profiles) and not stale_reason(profiles[0].conditions, now),
            services.measurements.was_searched(model_id, goal, now),
        )

    def is_measuring() -> bool:
        kinds = ("profile", "tune")
        return any(job.state.is_active for kind in kinds for job in services.jobs.list(kind))

    return MeasuringController(services.pool, services.jobs.create, is_measuring, known, host_load)


def _hot(pool: Pool, pool_id: str) -> Callable[[], dict[str, Record]]:
    node = platform.node()

    def records() -> dict[str, Record]:
        return hot_records(pool.holders, pool.config.host, pool_id, node)

    return records


def _gateway(services: Services) -> Gateway:
    meter = Meter(services.usage, services.metrics, services.pool.has)
    return Gateway(
        services.catalog,
        services.pool,
        services.files.check,
        services.upstream,
        meter,
        services.engines.surfaces,
        services.responses,
    )


def _entry(services: Services, mcp: McpEndpoint) -> Entry:
    config = services.pool.config
    api = AsgiApp(management_api(services))
    reports = WorkerReports(services.pool, services.pool_id, services.peaks, services.usage)
    ollama = OllamaApi(
        services.catalog, services.pool, services.copy, services.delete, services.jobs
    )
    inference = OpenInferenceApi(services.catalog, services.pool, services.files.check)
    return Entry(
        api,
        _gateway(services),
        services.guard,
        config.max_body_bytes,
        reports,
        (ollama, inference, mcp),
    )


def management_api(services: Services) -> FastAPI:
    """Everything on the manager's port but ``/v1``, and the description of both."""
    # Its pages need no foreign server: a pool runs without the internet, and a script from
    # elsewhere has no business on an address that drives it.
    api = FastAPIOffline(
        redoc_url=None,
        redirect_slashes=False,
        title="modelpool",
        version=__version__,
        summary="A machine as a pool of models",
        description="The management API. Models answer under `/v1`, by name.",
    )
    rooms = (
        *(system, service_discovery, jobs, discovery, pulls),
        *(model_manager, search, find, versions, measuring, models),
    )
    own = [route for route in api.routes if isinstance(route, Route)]
    ours = [route for room in rooms for route in room.routes(services).routes]
    error_handlers.install(api, (*own, *ours))
    openapi.describe(api)
    # To include routers would build each route a second time.
    api.router.routes += ours
    return api


async def _announce(services: Services, recovery: Recovery, unreadable: Warnings) -> None:
    report = services.catalog.config_report
    services.events.publish(
        "initialized",
        reason="the manager has started",
        models=len(services.catalog),
        adopted=len(recovery.adopted),
        ended=len(recovery.ended),
        config_models_added=list(report.added),
    )
    services.warn_of_config(services.configured.warnings)
    for model, text in unreadable:
        services.warn(model, text)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
