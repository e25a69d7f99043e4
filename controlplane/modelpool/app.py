"""The composition root: builds every object once, starts them in order, ends them in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from modelpool_client import __version__
from modelpool_client.guard import Guard
from modelpool_client.http1.upstream import Upstream
from modelpool_client.http1.upstream_connection import UpstreamError
from modelpool_client.response_store import ResponseStore
from modelpool_client.tracing.sampling import Sampler as TraceSampler
from modelpool_client.wire import CaptureOrder, EndedRequest
from starlette.routing import Route

from modelpool import background
from modelpool.alerts.alerts import Alerts
from modelpool.alerts.costs import Costs
from modelpool.alerts.deliveries import Deliveries
from modelpool.alerts.metrics import AlertCollector
from modelpool.alerts.sampler import Sampler
from modelpool.api import (
    alerts as alerts_api,
)
from modelpool.api import (
    breakers,
    discovery,
    error_handlers,
    find,
    jobs,
    load_sets,
    measuring,
    model_manager,
    models,
    openapi,
    presets,
    pulls,
    requests,
    routing,
    search,
    service_discovery,
    system,
    versions,
    virtual_models,
    web_page,
)
from modelpool.api import (
    outcomes as outcome_routes,
)
from modelpool.asgi import AsgiApp
from modelpool.catalog.capability_book import CapabilityBook
from modelpool.catalog.catalog import Catalog
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
from modelpool.describing import Describer
from modelpool.discovery.discovery import Discovery
from modelpool.discovery.watching import DiscoveryController, run_watcher
from modelpool.engines import Engines
from modelpool.entry import Entry
from modelpool.environments.environment import Environments
from modelpool.gateway.breaker import Rules, State
from modelpool.gateway.breaker_metrics import BreakerCollector
from modelpool.gateway.breakers import Breakers
from modelpool.gateway.classify import Classifiers
from modelpool.gateway.ollama import OllamaApi
from modelpool.gateway.open_inference import OpenInferenceApi
from modelpool.gateway.relay import Gateway
from modelpool.gateway.shortcut import Note, Shortcut
from modelpool.gateway.virtual import VirtualAnswers
from modelpool.jobs import registry
from modelpool.jobs.runner import Jobs
from modelpool.launchers import Launcher, create
from modelpool.mcp_server.endpoint import McpEndpoint
from modelpool.measure.conditions import conditions, host_load
from modelpool.measure.records import Measurements
from modelpool.model_files import ModelFiles
from modelpool.observe.access_log import AccessLog
from modelpool.observe.captures import Captures
from modelpool.observe.ended import EndedRequests
from modelpool.observe.events import Event, EventBus
from modelpool.observe.history import History
from modelpool.observe.meter import Meter, counting_loads, reporting_missing
from modelpool.observe.metrics import Metrics
from modelpool.observe.otlp import OtlpExporter
from modelpool.observe.peaks import PeakMeter
from modelpool.observe.publisher import EventPublisher
from modelpool.observe.requests import RequestLog, each
from modelpool.observe.tracer import Tracer
from modelpool.observe.usage import UsageMeter
from modelpool.observe.usage_hours import UsageHours
from modelpool.ollama_server.look import OllamaServersController
from modelpool.ollama_server.servers import with_ollama_servers
from modelpool.pool.context import Settings
from modelpool.pool.devices import Devices
from modelpool.pool.memory import HostMemory, read_pressure
from modelpool.pool.memory_release import MemoryRelease
from modelpool.pool.pool import Pool
from modelpool.pool.recovery import Recoverer, Recovery
from modelpool.pool.status import ReplicaStatus
from modelpool.pool.worker_client import HttpWorkerClient, base_url
from modelpool.pool.workers import PoolIdentity, Workers
from modelpool.pulling.pulls import Pulls
from modelpool.registrars.client import RegistryClient
from modelpool.registrars.metrics import RegistrarCollector
from modelpool.registrars.pool_records import hot_records
from modelpool.registrars.record import Record
from modelpool.registrars.registrars import Registrars
from modelpool.restart import Restart
from modelpool.routing.conversations import Conversations
from modelpool.routing.kinds.auto import FACT as ROUTER
from modelpool.routing.kinds.registry import kind
from modelpool.routing.known import PoolKnown
from modelpool.routing.outcomes import Outcomes
from modelpool.routing.outcomes import Rules as OutcomeRules
from modelpool.routing.pool_table import table_of_pool
from modelpool.routing.resolve import Resolver
from modelpool.routing.router import Router
from modelpool.routing.virtual_models import VirtualModels
from modelpool.services import Services, put_in_pool, with_warm_up
from modelpool.sites import ModelSites
from modelpool.worker_reports import WorkerReports

log = logging.getLogger(__name__)

# A worker's start is a few milliseconds; then it is on record and the next manager adopts it.
LAUNCH_SECONDS = 5.0
LOOK_SECONDS = 0.01
# How much later than its beat a worker may tell of a request.
ROW_SECONDS = 5.0


@dataclass
class Running:
    """A pool in operation: what answers requests, and what its owner may ask of it."""

    entry: Entry
    shortcut: Shortcut | None
    access_log: AccessLog | None
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
    config: PoolConfig,
    launcher: Launcher | None = None,
    memory: HostMemory | None = None,
    describer: Describer | None = None,
) -> AsyncIterator[Running]:
    """A pool from an opened store to recovered workers and begun warm-ups.

    ``describer`` is ended here. ``memory`` takes the place of the host's own; so does, for tests
    with real processes, a folder in the environment variable MODELPOOL_TEST_HOST_ROOT.

    On exit workers that still run are left alone: whoever wants them ended calls ``stop`` first.

    Raises:
        StoreError: the database cannot be used, or another manager has it.
        BadRegistrar: a registrar of the configuration cannot be made.
    """
    async with AsyncExitStack() as stack:
        if describer is not None:
            stack.callback(describer.end)
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
            describer,
        )
        stack.push_async_callback(services.devices.close)
        stack.push_async_callback(services.pool.close)
        await services.remove_unwanted_prompts()
        await services.virtual_models.open()
        await asyncio.to_thread(services.responses.make_room)
        recovery = await recoverer.recover()
        await services.history.tidy()
        stack.push_async_callback(services.history.flush)
        await _announce(services, recovery, unreadable)
        await services.jobs.open(registry.kinds(services))
        stack.push_async_callback(services.jobs.close)
        services.registrars.begin()
        stack.push_async_callback(services.registrars.close)
        stack.callback(services.captures.close)
        await services.alerts.open()
        stack.push_async_callback(services.alerts.close)
        await services.preloads.open()
        # The last saves, after those that save now and then were ended.
        stack.push_async_callback(services.preloads.save)
        stack.push_async_callback(services.usage.save, store)
        stack.push_async_callback(services.usage_hours.save, store)
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
                    *(finding, _measuring(services), OllamaServersController(services)),
                    services.alerts,
                )
            ),
            services.history.write_on(),
            background.look_at_registered(services, {model.model_id for model, _ in unreadable}),
            background.judge_found(services),
            background.look_at_engines(services),
            background.watch_devices(services),
        )
        for work in works:
            task = asyncio.ensure_future(work)
            stack.push_async_callback(_cancelled, task)
        background.warm_up(services)
        asking = asyncio.ensure_future(background.discover_at_providers(services))
        stack.push_async_callback(_cancelled, asking)
        mcp = McpEndpoint(base_url(config.host, config.port), config.max_body_bytes)
        stack.push_async_callback(mcp.close)
        tracer = _tracer(services, config, stack)
        meter = Meter(services.usage, services.metrics, services.pool.has)
        gateway = _gateway(services, meter, tracer)
        entry = _entry(services, gateway, mcp, tracer)
        access_log = _access_log(services, config, stack)
        # What goes by the shortcut is no exchange of which the server tells.
        note = None if access_log is None else access_log.noted
        shortcut = _shortcut(services, gateway, meter, entry, note)
        yield Running(entry, shortcut, access_log, services, recovery)


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
    describer: Describer | None,
) -> tuple[Services, Recoverer, Warnings]:
    settings = Settings(config)
    environments, devices = Environments(settings), Devices()
    with_servers = partial(with_ollama_servers, servers=config.ollama_servers)
    engines = Engines(
        describer, environments, settings=config.engine_settings, started_with=with_servers
    )
    capabilities = CapabilityBook(engines.facts, store)
    await capabilities.open()
    measurements = Measurements(store, TunedOptions())
    await measurements.open()
    events = EventBus(time.time)
    discovery = Discovery(store, events.publish, time.time)
    await discovery.open()  # what is adopted takes the memory that its files let expect
    estimator = Estimator(
        settings,
        capabilities,
        tuned=measurements.tuned,
        found=discovery.reading,
        uuids=devices.uuids,
    )
    estimator.learn(await store.peaks())
    running = {row.model_id for row in await store.workers()}
    catalog, unreadable = await open_catalog(
        store,
        config.models,
        estimator,
        lambda model: model.model_id in running or with_warm_up(model, config).warmup,
    )
    usage = UsageMeter(time.time)
    history = events.archive = History(store, time.time, reporting_missing(events))
    events.listeners.append(history.note)
    client = HttpWorkerClient(upstream, config.host)
    identity = PoolIdentity(store.pool_id, base_url(config.host, config.port))
    workers = Workers(
        identity,
        settings,
        launcher,
        client,
        store,
        MemoryRelease(memory, devices=devices),
        lambda model: with_servers(estimator.effective(model)),
        ModelSites(engines, devices),
    )
    publisher = EventPublisher(events)
    pool = Pool(settings, workers, estimator, memory, publisher, devices=devices)
    for model in catalog:
        pool.add(with_warm_up(model, config))
    metrics = Metrics(pool, store.pool_id)
    usage_hours = UsageHours(
        f"manager:{uuid.uuid4()}",
        partial(_prices, catalog),
        metrics,
        time.time,
        lambda: pool.config.usage_keep_days,
        lambda: pool.worker_ids,
    )
    await usage_hours.open(store)
    request_log = RequestLog(
        lambda: pool.config.request_log_entries,
        lambda: pool.config.request_log == "facts",
        lambda: pool.worker_ids,
    )
    loop = asyncio.get_running_loop()
    tell = partial(_tell_of_capture, pool, client)
    captures = Captures(tell, events.publish, loop.time, time.time)
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
    virtual = VirtualModels(store, kind, catalog.__contains__)
    resolver = Resolver(kind, virtual.find, virtual.preset)
    known = PoolKnown(catalog, pool, local_time)
    table = table_of_pool(catalog, pool, measurements, usage, estimator)
    events.listeners.append(table.on_event)
    conversations = Conversations()
    watched = Breakers(lambda: breaker_rules(settings.config), pool, events.publish)
    outcomes = Outcomes(lambda: outcome_rules(settings.config), table.learn, time.time)
    await outcomes.open(store)
    router = Router(table, conversations, watched.refused, outcomes.keep_up)
    known.facts[ROUTER] = lambda: router
    classifiers = Classifiers()
    events.listeners.append(classifiers.on_event)
    metrics.add(BreakerCollector(watched))

    pressure = PressureController(pool, memory, publisher.pool_event)
    sampler = Sampler(
        pool, lambda: open_breakers(watched), lambda: pressure.complaint, Costs(store)
    )

    def on_ended(worker_id: str, model_id: str, request: EndedRequest) -> None:
        metrics.told(model_id, request)
        sampler.heard(model_id, request)

    request_log.listeners.append(each(on_ended))
    publisher.listeners.append(partial(_sampled, sampler))
    alerts = Alerts(
        lambda: pool.config.alerts,
        sampler,
        Deliveries(store.pool_id, identity.manager_url, events.publish),
        store,
        events.publish,
        time.time,
        lambda: request_log.is_wanted,
    )
    metrics.add(AlertCollector(alerts))
    services = Services(
        alerts=alerts,
        breakers=watched,
        virtual_models=virtual,
        virtual_answers=VirtualAnswers(
            resolver,
            known,
            conversations,
            events.publish,
            refusal=watched.refusal,
            classifiers=classifiers,
            outcomes=outcomes,
        ),
        outcomes=outcomes,
        known=known,
        catalog=catalog,
        pool=pool,
        guard=Guard(config.host, config.allowlist),
        workers=workers,
        events=events,
        publisher=publisher,
        history=history,
        metrics=metrics,
        usage=usage,
        usage_hours=usage_hours,
        requests=request_log,
        captures=captures,
        ended=EndedRequests(catalog, request_log, usage_hours, captures),
        engines=engines,
        environments=environments,
        devices=devices,
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
        pressure=pressure,
        files=files,
        store=store,
        discovery=discovery,
        jobs=jobs,
        pulls=Pulls(catalog, jobs, lambda: pool.config.models_folder),
        measurements=measurements,
    )
    return services, Recoverer(pool, workers, launcher, client, store), unreadable


def outcome_rules(config: PoolConfig) -> OutcomeRules:
    """As the configuration has them now."""
    days = config.outcome_half_life_days
    return OutcomeRules(config.learn_from_outcomes, 86_400.0 * days)


def breaker_rules(config: PoolConfig) -> Rules:
    """As the configuration has them now."""
    return Rules(
        config.breaker_failures,
        config.breaker_failure_share,
        config.breaker_window_seconds,
        config.breaker_open_seconds,
        config.breaker_successes,
    )


def open_breakers(breakers: Breakers) -> Iterator[tuple[str, str]]:
    """Models that a breaker is open for, each once, and why."""
    models = {v.model_id: v.breaker.reason for v in breakers if v.breaker.state is State.OPEN}
    yield from models.items()


def _sampled(sampler: Sampler, event: Event) -> None:
    sampler.on_event(event, time.time())


def _prices(catalog: Catalog, model_id: str) -> Mapping[str, Any]:
    model = catalog.find(model_id)
    return model.prices if model is not None else {}


async def _tell_of_capture(
    pool: Pool, client: HttpWorkerClient, order_for: Callable[[str], CaptureOrder]
) -> None:
    """Workers that do not answer hear of it with their next beat."""

    async def tell(status: ReplicaStatus) -> None:
        if status.worker is not None:
            with contextlib.suppress(UpstreamError, TimeoutError, ValueError):
                await client.capture(status.worker, order_for(status.model.model_id))

    await asyncio.gather(*map(tell, pool.holders))


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


def _tracer(services: Services, config: PoolConfig, stack: AsyncExitStack) -> Tracer | None:
    """None where nothing is traced.

    Raises:
        NoTraces: it cannot be.
    """
    wanted = config.worker_tracing
    if not wanted.is_on:
        return None
    endpoint, instance = config.traces_endpoint, services.pool_id
    exporter = OtlpExporter(endpoint, instance, __version__, os.environ)
    stack.push_async_callback(asyncio.to_thread, exporter.close)
    tracer = Tracer(TraceSampler(wanted.ratio, wanted.per_second), exporter.put)

    def ended(worker_id: str, model_id: str, request: EndedRequest) -> None:
        model = services.catalog.find(model_id)
        tracer.ended(worker_id, model_id, model.engine if model is not None else "", request)

    services.requests.listeners.append(each(ended))
    services.requests.is_needed = True
    services.publisher.listeners.append(tracer.on_event)
    return tracer


def _access_log(services: Services, config: PoolConfig, stack: AsyncExitStack) -> AccessLog | None:
    """None where none is kept."""
    if config.access_log == "off":
        return None
    patience = config.beat_seconds + ROW_SECONDS
    access_log = AccessLog(config.access_log, config.access_log_path, config.log_limits, patience)
    stack.push_async_callback(access_log.close)
    services.requests.listeners.append(each(access_log.told))
    services.requests.is_needed = True
    task = asyncio.ensure_future(access_log.write_on())
    stack.push_async_callback(_cancelled, task)
    return access_log


def _gateway(services: Services, meter: Meter, tracer: Tracer | None) -> Gateway:
    return Gateway(
        services.catalog,
        services.pool,
        services.files.check,
        services.upstream,
        meter,
        services.engines.surfaces,
        services.engines.support,
        services.responses,
        services.engines,
        services.capabilities.reason,
        services.engines.asked_once,
        services.virtual_answers,
        services.virtual_models,
        services.breakers,
        services.ended.refused,
        tracer,
    )


def _shortcut(
    services: Services, gateway: Gateway, meter: Meter, entry: Entry, note: Note | None
) -> Shortcut:
    return Shortcut(
        entry.admits,
        lambda: services.guard.allowlist,
        gateway,
        services.catalog,
        services.pool,
        services.upstream,
        meter,
        note,
    )


def _entry(services: Services, gateway: Gateway, mcp: McpEndpoint, tracer: Tracer | None) -> Entry:
    config = services.pool.config
    api = AsgiApp(management_api(services))
    reports = WorkerReports(
        services.pool,
        services.pool_id,
        services.peaks,
        services.usage,
        services.warn,
        services.chat_failed,
        services.ended,
        None if tracer is None else tracer.on_facts,
    )
    ollama = OllamaApi(
        services.catalog,
        services.pool,
        services.copy,
        services.delete,
        services.jobs,
        services.virtual_models,
    )
    inference = OpenInferenceApi(
        services.catalog,
        services.pool,
        services.files.check,
        services.upstream,
        services.virtual_models,
    )
    return Entry(
        api,
        gateway,
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
        *(system, service_discovery, jobs, discovery, pulls, requests),
        *(model_manager, search, find, versions, measuring, load_sets, models),
        *(routing, outcome_routes, virtual_models, presets, breakers, alerts_api),
    )
    own = [route for route in api.routes if isinstance(route, Route)]
    ours = [route for room in rooms for route in room.routes(services).routes]
    error_handlers.install(api, (*own, *ours))
    openapi.describe(api)
    # To include routers would build each route a second time.
    api.router.routes += ours
    web_page.add_to(api)
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
    await services.adopt_virtual_models(services.configured, "the config file has it")
    for model, text in unreadable:
        services.warn(model, text)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
