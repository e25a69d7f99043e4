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

import aiohttp
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from modelpool_client import __version__
from modelpool_client.errors import ModelPoolError
from modelpool_client.guard import hosts_for
from starlette.routing import Route

from modelpool import background
from modelpool.api import discovery, error_handlers, internal, models, openapi, system
from modelpool.catalog.described import Warnings, open_catalog
from modelpool.catalog.estimator import Estimator
from modelpool.catalog.event_rows import LAST_OF_A_RUN
from modelpool.catalog.store import Store
from modelpool.config import PoolConfig
from modelpool.controllers import loop
from modelpool.controllers.preloads import PreloadController
from modelpool.controllers.pressure import PressureController
from modelpool.controllers.schedules import ScheduleController
from modelpool.engines import Engines
from modelpool.gateway.relay import Gateway
from modelpool.gateway.upstream import Upstream
from modelpool.launchers import Launcher, create
from modelpool.middleware import GuardMiddleware
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
from modelpool.registrars.metrics import RegistrarCollector
from modelpool.registrars.pool_records import hot_records
from modelpool.registrars.record import Record
from modelpool.registrars.registrars import Registrars
from modelpool.restart import Restart
from modelpool.services import Services, put_in_pool, with_warm_up

log = logging.getLogger(__name__)

# A worker's start is a few milliseconds; then it is on record and the next manager adopts it.
LAUNCH_SECONDS = 5.0
LOOK_SECONDS = 0.01
# Relays keep a connection no longer than workers do (75 s), or a request could meet a closing one.
KEEP_ALIVE_SECONDS = 30.0


@dataclass
class Running:
    """A pool in operation: the ASGI application and what its owner may ask of it."""

    app: GuardMiddleware
    gateway: Gateway
    services: Services
    recovery: Recovery

    async def stop(self) -> None:
        """Drain and end every worker; readers of events are sent home."""
        await self.services.pool.stop()
        self.services.events.publish(LAST_OF_A_RUN, reason="the manager was told to stop")
        self.services.events.close()

    def cut(self, error: ModelPoolError) -> int:
        """End every request under way with that error; how many there were."""
        self.gateway.cut_by = error
        return self.app.cut(error)

    async def leave(self) -> None:
        """Workers go on; those that are just being started are written down first."""
        pool = self.services.pool
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAUNCH_SECONDS):
                while any(s.is_launching for s in pool.statuses()):  # noqa: ASYNC110
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
        session = await stack.enter_async_context(_session())
        upstream = Upstream()
        stack.callback(upstream.close)
        services, recoverer, unreadable = await _build(
            config, store, session, launcher or create("local"), memory or _host_memory()
        )
        stack.push_async_callback(services.pool.close)
        recovery = await recoverer.recover()
        await services.history.tidy()
        stack.push_async_callback(services.history.flush)
        await _announce(services, recovery, unreadable)
        services.registrars.begin()
        stack.push_async_callback(services.registrars.close)
        await services.preloads.open()
        # The last saves, after those that save now and then were ended.
        stack.push_async_callback(services.preloads.save)
        stack.push_async_callback(services.usage.save, store)
        stack.push_async_callback(services.peaks.save, store)
        works = (
            background.sweep(services),
            background.save(services, store),
            background.watch_memory(services),
            loop.run((services.pressure, services.schedules, services.preloads)),
            services.history.write_on(),
            services.warn_of_registered(),
        )
        for work in works:
            task = asyncio.ensure_future(work)
            stack.push_async_callback(_cancelled, task)
        background.warm_up(services)
        gateway = _gateway(services, upstream)
        yield Running(_guarded(services, gateway), gateway, services, recovery)


def _host_memory() -> HostMemory:
    root = Path(os.environ.get("MODELPOOL_TEST_HOST_ROOT") or "/")
    return HostMemory(lambda: read_pressure(root))


def _session() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS, force_close=False
    )
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


async def _build(
    config: PoolConfig,
    store: Store,
    session: aiohttp.ClientSession,
    launcher: Launcher,
    memory: HostMemory,
) -> tuple[Services, Recoverer, Warnings]:
    settings = Settings(config)
    estimator = Estimator(settings)
    estimator.learn(await store.peaks())
    catalog, unreadable = await open_catalog(store, config.models, estimator)
    events, usage = EventBus(time.time), UsageMeter(time.time)
    history = events.archive = History(store, time.time, reporting_missing(events))
    events.listeners.append(history.note)
    client = HttpWorkerClient(session, config.host)
    identity = PoolIdentity(store.pool_id, base_url(config.host, config.port))
    workers = Workers(identity, settings, launcher, client, store, MemoryRelease(memory))
    publisher = EventPublisher(events)
    pool = Pool(settings, workers, estimator, memory, publisher)
    for model in catalog:
        pool.add(with_warm_up(model, config))
    metrics = Metrics(pool, store.pool_id)
    engines = Engines()
    put = partial(put_in_pool, pool)
    files = ModelFiles(catalog, pool, estimator, engines, events, put)
    peaks = PeakMeter(pool, estimator, time.time)
    publisher.listeners += [metrics.count, counting_loads(usage)]
    registrars = Registrars(
        config.registrars, store.pool_id, session, _hot(pool, store.pool_id), events.publish
    )
    events.listeners.append(registrars.on_event)
    metrics.add(RegistrarCollector(registrars))
    services = Services(
        catalog=catalog,
        pool=pool,
        workers=workers,
        events=events,
        history=history,
        metrics=metrics,
        usage=usage,
        engines=engines,
        estimator=estimator,
        peaks=peaks,
        session=session,
        pool_id=store.pool_id,
        memory=memory,
        configured=config,
        registrars=registrars,
        restart=Restart(),
        schedules=ScheduleController(pool, local_time, files.check),
        preloads=PreloadController(pool, store, local_time, files.check),
        pressure=PressureController(pool, memory, publisher.pool_event),
        files=files,
    )
    return services, Recoverer(pool, workers, launcher, client, store), unreadable


def local_time() -> datetime:
    """Now, with its time zone."""
    return datetime.now().astimezone()


def _hot(pool: Pool, pool_id: str) -> Callable[[], dict[str, Record]]:
    node = platform.node()

    def records() -> dict[str, Record]:
        return hot_records(pool.statuses(), pool.config.host, pool_id, node)

    return records


def _gateway(services: Services, upstream: Upstream) -> Gateway:
    meter = Meter(services.usage, services.metrics, services.pool.has)
    return Gateway(services.catalog, services.pool, services.files.check, upstream, meter)


def _guarded(services: Services, gateway: Gateway) -> GuardMiddleware:
    hosts = hosts_for(services.pool.config.host)
    config = services.pool.config
    limit, timeout = config.max_body_bytes, config.client_body_timeout_seconds
    return GuardMiddleware(management_api(services), gateway, hosts, limit, timeout)


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
    routers = [room.routes(services) for room in (internal, system, discovery, models)]
    own = [route for route in api.routes if isinstance(route, Route)]
    error_handlers.install(api, (*own, *(route for router in routers for route in router.routes)))
    openapi.describe(api)
    for router in routers:
        api.include_router(router)
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
