"""The composition root: builds every object once, starts them in order, ends them in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp
import psutil
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from modelpool_client import __version__
from modelpool_client.guard import hosts_for

from modelpool.api import faults, internal, models, surface, system
from modelpool.catalog.catalog import Catalog
from modelpool.catalog.describe import Estimator
from modelpool.catalog.store import Store
from modelpool.config import PoolConfig
from modelpool.engines import Engines
from modelpool.front_door import FrontDoor
from modelpool.gateway.relay import Gateway
from modelpool.gateway.upstream import Upstream
from modelpool.launchers import Launcher, create
from modelpool.narrator import Narrator
from modelpool.observe.events import Event, EventBus
from modelpool.observe.metrics import Metrics
from modelpool.observe.usage import UsageMeter
from modelpool.pool.crew import Crew
from modelpool.pool.link import HttpLink, base_url
from modelpool.pool.pool import Pool, Surroundings
from modelpool.pool.recovery import Recoverer, Recovery
from modelpool.services import (
    Services,
    described_config,
    described_if_possible,
    with_warm_up,
)

log = logging.getLogger(__name__)

SAVE_SECONDS = 10.0
# Relays keep a connection no longer than workers do (75 s), or a request could meet a closing one.
KEEP_ALIVE_SECONDS = 30.0


@dataclass
class Running:
    """A pool in operation: the ASGI application and what its owner may ask of it."""

    app: FrontDoor
    services: Services
    recovery: Recovery

    async def stop(self) -> None:
        """Drain and end every worker; readers of events are sent home."""
        await self.services.pool.stop()
        self.services.events.close()


@asynccontextmanager
async def running(config: PoolConfig, launcher: Launcher | None = None) -> AsyncIterator[Running]:
    """A pool from an opened store to recovered workers and begun warm-ups.

    On exit workers that still run are left alone: whoever wants them ended calls ``stop`` first.

    Raises:
        StoreError: the database cannot be used, or another manager has it.
    """
    async with AsyncExitStack() as stack:
        store = await Store.open(config.database)
        stack.push_async_callback(store.close)
        session = await stack.enter_async_context(_session())
        upstream = Upstream()
        stack.callback(upstream.close)
        services, recoverer = await _build(config, store, session, launcher or create("local"))
        stack.push_async_callback(services.pool.close)
        recovery = await recoverer.recover()
        await _announce(services, recovery)
        for work in (_sweeping(services), _saving(services, store)):
            task = asyncio.ensure_future(work)
            stack.push_async_callback(_cancelled, task)
        stack.push_async_callback(services.usage.save, store)
        _warm_up(services)
        yield Running(_application(services, upstream), services, recovery)


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
    config: PoolConfig, store: Store, session: aiohttp.ClientSession, launcher: Launcher
) -> tuple[Services, Recoverer]:
    estimator = Estimator()
    catalog = await Catalog.open(store, await described_config(config, estimator))
    for model in catalog:
        if model.origin == "api":
            await described_if_possible(model, estimator)
    events, usage = EventBus(time.time), UsageMeter(time.time)
    link = HttpLink(session, config.host)
    crew = Crew(launcher, link, store, config.state_dir)
    narrator = Narrator(events)
    world = Surroundings(
        pool_id=store.pool_id,
        manager_url=base_url(config.host, config.port),
        estimate=estimator,
        host_available=lambda: psutil.virtual_memory().available,
        emit=narrator.tell,
        bug=narrator.bug,
    )
    pool = Pool(config, crew, world)
    for model in catalog:
        pool.add(with_warm_up(model, config))
    metrics = Metrics(pool)
    narrator.listeners += [metrics.count, _counting_loads(usage)]
    services = Services(
        catalog, pool, crew, events, metrics, usage, Engines(), estimator, session, store.pool_id
    )
    return services, Recoverer(pool, crew, launcher, link, store)


def _counting_loads(usage: UsageMeter) -> Callable[[Event], None]:
    def count(event: Event) -> None:
        if event.name == "model-loaded":
            usage.loaded(event.data["model_id"])

    return count


class _Meter:
    """What the gateway counts goes to the statistics and to Prometheus."""

    def __init__(self, usage: UsageMeter, metrics: Metrics) -> None:
        self.began = usage.began
        self._usage = usage
        self._metrics = metrics

    def ended(self, model_id: str, status: int, seconds: float) -> None:
        self._usage.ended(model_id, status, seconds)
        self._metrics.ended(model_id, status, seconds)


def _application(services: Services, upstream: Upstream) -> FrontDoor:
    meter = _Meter(services.usage, services.metrics)
    gateway = Gateway(services.catalog, services.pool, upstream, meter)
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
    for room in (internal, system, models):
        api.include_router(room.routes(services))
    return api


async def _announce(services: Services, recovery: Recovery) -> None:
    report = services.catalog.config_report
    services.events.publish(
        "initialized",
        reason="the manager has started",
        models=len(services.catalog),
        adopted=len(recovery.adopted),
        ended=len(recovery.ended),
        config_models_added=list(report.added),
    )


def _warm_up(services: Services) -> None:
    """Begin to load what is to be HOT from the start; failures are events, not the pool's end."""
    for name in services.pool.config.warmup_models:
        if services.catalog.find(name) is None:
            log.warning("warmup_models names %s, which is not in the catalog", name)
    for slot in services.pool.slots:
        if slot.model.warmup and not slot.state.has_worker:
            loading = services.pool.load(slot.model.model_id, "warm-up", None)
            task = asyncio.ensure_future(_quietly(loading))
            _WARMING.add(task)
            task.add_done_callback(_WARMING.discard)


_WARMING: set[asyncio.Task[None]] = set()


async def _quietly(work: Awaitable[None]) -> None:
    with contextlib.suppress(Exception):
        await work


async def _sweeping(services: Services) -> None:
    while True:
        await asyncio.sleep(services.pool.config.check_interval_seconds)
        services.pool.look()


async def _saving(services: Services, store: Store) -> None:
    while True:
        await asyncio.sleep(SAVE_SECONDS)
        await services.usage.save(store)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
