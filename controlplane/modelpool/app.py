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
from pathlib import Path

import aiohttp
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from modelpool_client import __version__
from modelpool_client.errors import ModelPoolError
from modelpool_client.guard import hosts_for

from modelpool import background
from modelpool.api import discovery, faults, internal, models, surface, system
from modelpool.catalog.describe import Estimator
from modelpool.catalog.event_rows import LAST_OF_A_RUN
from modelpool.catalog.store import Store
from modelpool.config import PoolConfig
from modelpool.engines import Engines
from modelpool.foresight.foresight import Foresight
from modelpool.front_door import FrontDoor
from modelpool.gateway.relay import Gateway
from modelpool.gateway.upstream import Upstream
from modelpool.launchers import Launcher, create
from modelpool.meter import Meter, counting_loads, reporting_missing
from modelpool.model_files import Warnings, open_catalog
from modelpool.narrator import Narrator
from modelpool.observe.events import EventBus
from modelpool.observe.history import History
from modelpool.observe.metrics import Metrics
from modelpool.observe.peaks import PeakMeter
from modelpool.observe.usage import UsageMeter
from modelpool.pool.comeback import Comeback
from modelpool.pool.crew import Crew
from modelpool.pool.link import HttpLink, base_url
from modelpool.pool.memory import HostMemory, read_pressure
from modelpool.pool.pool import Pool, Surroundings
from modelpool.pool.recovery import Recoverer, Recovery
from modelpool.registrars.metrics import RegistrarCollector
from modelpool.registrars.record import Record, hot_records
from modelpool.registrars.registrars import Registrars
from modelpool.restart import Restart
from modelpool.services import Services, with_warm_up

log = logging.getLogger(__name__)

# A worker's start is a few milliseconds; then it is on record and the next manager adopts it.
LAUNCH_SECONDS = 5.0
LOOK_SECONDS = 0.01
# Relays keep a connection no longer than workers do (75 s), or a request could meet a closing one.
KEEP_ALIVE_SECONDS = 30.0


@dataclass
class Running:
    """A pool in operation: the ASGI application and what its owner may ask of it."""

    app: FrontDoor
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
        slots = self.services.pool.slots
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAUNCH_SECONDS):
                while any(s.worker_id and s.worker is None for s in slots):  # noqa: ASYNC110
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
        await services.foresight.open()
        # The last saves, after those that save now and then were ended.
        stack.push_async_callback(services.foresight.save)
        stack.push_async_callback(services.usage.save, store)
        stack.push_async_callback(services.peaks.save, store)
        works = (
            background.sweep(services),
            background.save(services, store),
            background.watch_memory(services),
            services.foresight.run(),
            services.history.write_on(),
            services.warn_of_registered(),
        )
        for work in works:
            task = asyncio.ensure_future(work)
            stack.push_async_callback(_cancelled, task)
        background.warm_up(services)
        gateway = _gateway(services, upstream)
        yield Running(_front_door(services, gateway), gateway, services, recovery)


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
    estimator = Estimator()
    estimator.learn(await store.peaks())
    catalog, unreadable = await open_catalog(store, config.models, estimator)
    events, usage = EventBus(time.time), UsageMeter(time.time)
    history = events.archive = History(store, time.time, reporting_missing(events))
    events.listeners.append(history.note)
    link = HttpLink(session, config.host)
    comeback = Comeback(memory, lambda worker_id: pool.facts_of(worker_id))
    crew = Crew(launcher, link, store, config.state_dir, comeback)
    narrator = Narrator(events)
    world = Surroundings(
        pool_id=store.pool_id,
        manager_url=base_url(config.host, config.port),
        figures=estimator.figures,
        device_claims=estimator.devices,
        host_available=memory.available,
        emit=narrator.tell,
        bug=narrator.bug,
    )
    pool = Pool(config, crew, world)
    for model in catalog:
        pool.add(with_warm_up(model, config))
    metrics = Metrics(pool, store.pool_id)
    estimator.budgets = lambda: pool.config.device_budgets
    peaks = PeakMeter(pool, estimator, time.time)
    narrator.listeners += [metrics.count, counting_loads(usage)]
    registrars = Registrars(
        config.registrars, store.pool_id, session, _hot(pool, store.pool_id), events.publish
    )
    events.listeners.append(registrars.heard)
    metrics.add(RegistrarCollector(registrars))
    services = Services(
        catalog=catalog,
        pool=pool,
        crew=crew,
        events=events,
        history=history,
        metrics=metrics,
        usage=usage,
        engines=Engines(),
        estimator=estimator,
        peaks=peaks,
        session=session,
        pool_id=store.pool_id,
        memory=memory,
        said=config,
        registrars=registrars,
        restart=Restart(),
        foresight=Foresight(
            pool,
            store,
            lambda: datetime.now().astimezone(),
            lambda: memory.now,
            lambda name, reason: events.publish(name, reason=reason),
        ),
    )
    return services, Recoverer(pool, crew, launcher, link, store), unreadable


def _hot(pool: Pool, pool_id: str) -> Callable[[], dict[str, Record]]:
    node = platform.node()

    def records() -> dict[str, Record]:
        return hot_records(pool.slots, pool.config.host, pool_id, node)

    return records


def _gateway(services: Services, upstream: Upstream) -> Gateway:
    meter = Meter(services.usage, services.metrics, services.pool.has)
    return Gateway(services.catalog, services.pool, upstream, meter)


def _front_door(services: Services, gateway: Gateway) -> FrontDoor:
    hosts = hosts_for(services.pool.config.host)
    limit = services.pool.config.max_body_bytes
    return FrontDoor(management_api(services), gateway, hosts, limit)


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
    faults.install(api)
    surface.describe(api)
    for room in (internal, system, discovery, models):
        api.include_router(room.routes(services))
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
    services.warn_of_config(services.said.warnings)
    for model, text in unreadable:
        services.warn(model, text)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
