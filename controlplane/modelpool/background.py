"""What the manager does by itself: warm-ups at the start, the repair sweep, saving statistics."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import Awaitable, Callable, Collection

from modelpool_client import __version__

from modelpool.catalog.errors import StoreError
from modelpool.catalog.model import did_you_mean
from modelpool.catalog.store import Store
from modelpool.providers.discover import discover
from modelpool.services import Services
from modelpool.ticks import tick

log = logging.getLogger(__name__)

SAVE_SECONDS = 10.0
MEMORY_SECONDS = 1.0
# A process is started to ask.
DEVICE_SECONDS, QUIET_DEVICE_SECONDS = 5.0, 30.0
# Nobody plans with it: only memory pressure is looked for.
QUIET_MEMORY_SECONDS = 5.0
# How long it is rested after each look at a model that nobody asked for, times what that took.
PAUSE = 9
MANY_MODELS = 500
# So many more objects than were freed before a collection looks at them. A request has a dozen of
# its own: by Python's own count, 700, those of 200 requests at a time were looked at four hundred
# times a second, and every few tenths of a second whoever was served then waited for a whole
# collection.
YOUNG_OBJECTS = 10_000
# With fewer nothing is left behind that a sweep would look for.
FEW_OBJECTS = 700
# By which versions of engines it was said what their models can do.
JUDGED = "judged-with"
# The same failure again is news only after that long: rounds come every second.
TOLD_AGAIN_SECONDS = 600.0


def warm_up(services: Services) -> None:
    """Begin to load what is to be HOT from the start; failures are events, not the pool's end."""
    names = services.pool.config.warmup_models
    unknown = [name for name in names if name not in services.catalog]
    known = [name for model in services.catalog for name in model.names] if unknown else []
    services.warn_of_config(
        f"warmup_models names {name}, which is not in the catalog{did_you_mean(name, known)}"
        for name in unknown
    )
    pool = services.pool
    for model in [m for m in pool.models if m.warmup]:
        if not all(s.state.has_worker for s in pool.statuses(model.model_id)):
            loading = pool.load(model.model_id, "warm-up", None)
            task = asyncio.ensure_future(_quietly(loading))
            _WARMING.add(task)
            task.add_done_callback(_WARMING.discard)


async def discover_at_providers(services: Services) -> None:
    """Ask providers that say so for their models, once; what goes wrong is an event."""
    try:
        await discover(services)
    except StoreError as e:
        log.warning("what providers list could not be written down: %s", e)


_WARMING: set[asyncio.Task[None]] = set()


async def _quietly(work: Awaitable[None]) -> None:
    with contextlib.suppress(Exception):
        await work


class Rounds(contextlib.AbstractContextManager[None]):
    """Around each round of a loop, so that one that fails is not the loop's end.

    ``tell`` hears of a failure; of one of the same kind again only after ``TOLD_AGAIN_SECONDS``.
    """

    def __init__(
        self, tell: Callable[[Exception], object], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._now = now
        self._told: dict[type[Exception], float] = {}

    def __exit__(self, kind: object, error: object, _: object) -> bool:
        if not isinstance(error, Exception):
            return False
        now = self._now()
        told = self._told.get(type(error))
        if told is None or now - told >= TOLD_AGAIN_SECONDS:
            self._told[type(error)] = now
            self._tell(error)
        return True


async def sweep(services: Services) -> None:
    """Look whether anything is due, every ``check_interval_seconds``."""
    # What is there from the start stays: a collection need not go through it. That makes a whole
    # one cheap enough to have it often, and cycles do not pile up into memory that never shrinks.
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    rounds, seen, frozen = Rounds(services.pool.report_bug), 0, len(services.catalog)
    while True:
        await tick(services.pool.config.check_interval_seconds)
        with rounds:
            services.pool.repair()
        # Who has made nothing has left nothing behind, and a walk through cold memory is dear.
        made = gc.get_stats()[0]["collections"]
        if made != seen or gc.get_count()[0] >= FEW_OBJECTS:
            gc.collect()
            seen = made
            # A scan may have brought ten thousand, which are to stay as well. Not for many that
            # came and went: each time a cycle that is in use is kept for good.
            frozen = min(frozen, len(services.catalog))
            if len(services.catalog) - frozen >= MANY_MODELS:
                frozen = len(services.catalog)
                gc.freeze()


async def watch_memory(services: Services) -> None:
    """Read what the host could give; those that wait for room are planned again when it grew."""
    pool, memory = services.pool, services.memory
    rounds = Rounds(pool.report_bug)
    while True:
        await tick(MEMORY_SECONDS if pool.is_moving else QUIET_MEMORY_SECONDS)
        with rounds:
            before = memory.available()
            await memory.refresh()
            if memory.available() > before:
                pool.capacity_changed()


async def watch_devices(services: Services) -> None:
    """Where the pool has budgets for devices, see how much of them is free; those that wait for
    room are planned again when that grew. Without budgets they are looked at when somebody asks."""
    pool, devices = services.pool, services.devices
    rounds, was_asked = Rounds(pool.report_bug), False
    while True:
        if pool.config.device_budgets and (devices.are_there or not was_asked):
            was_asked = True
            with rounds:
                before = devices.free()
                free = (await devices.refresh()).free()
                if any(size > before.get(device, 0) for device, size in free.items()):
                    pool.capacity_changed()
        await tick(DEVICE_SECONDS if pool.is_moving else QUIET_DEVICE_SECONDS)


async def look_at_engines(services: Services) -> None:
    """Ask what engines there are, and tell of models whose engine cannot be used."""
    models = [model for model in services.catalog if model.origin != "discovered"]
    if models:
        await services.engines.all()
    for model in models:
        if problem := services.engines.problem(model):
            services.warn(model, problem)


async def look_at_registered(services: Services, unreadable: Collection[str]) -> None:
    """Read the files of the models that somebody registered, here or in the config file, unless the
    start has done so, and tell what could not be loaded; of ``unreadable`` it has been told. There
    may be many, so requests are answered meanwhile; a load looks at its own files.

    Models that were found are left alone: nobody asked for them yet, and a disk may hold thousands
    that this pool is too small for."""
    catalog, count = services.catalog, 0
    for model in catalog:
        if model.origin == "discovered" or model.model_id in unreadable:
            continue
        if services.estimator.reading(model) is None:
            await services.describe(model.model_id)
            count += 1
    # Those that were found are asked about at their load.
    await services.ask_for_memory([m for m in catalog if m.origin != "discovered"])
    for model in catalog:
        if model.origin == "discovered":
            continue
        began = time.perf_counter()
        services.warn_if_it_never_fits(model)
        # Requests are answered meanwhile as if nothing were going on.
        await asyncio.sleep((time.perf_counter() - began) * PAUSE)
    await services.warn_of_engines([m for m in catalog if m.origin == "api"])
    if count:
        text = f"the files of {count} registered models were looked at"
        services.events.publish("catalog-checked", models=count, reason=text)


async def judge_found(services: Services) -> None:
    """Say anew what models can do that were found, where their engine is another than when that was
    last said, or we are. Nothing is read for it."""
    found = [m for m in services.catalog if m.origin == "discovered" and not m.served_by]
    if not found:
        return
    engines = await services.engines.all()
    now = {e["name"]: [__version__, e["version"], e["capabilities"]] for e in engines}
    try:
        before = await services.store.documents(JUDGED)
        for model in found:
            if model.engine in now and now[model.engine] != before.get(model.engine):
                began = time.perf_counter()
                await services.judge(model)
                await asyncio.sleep((time.perf_counter() - began) * PAUSE)
        await services.store.write_documents(JUDGED, now)
    except StoreError as e:
        log.warning("what models that were found can do is looked at again: %s", e)


async def save(services: Services, store: Store) -> None:
    """Write down now and then what was counted, measured and learned."""
    rounds = Rounds(services.pool.report_bug)
    while True:
        await tick(SAVE_SECONDS)
        with rounds:
            await services.usage.save(store)
        with rounds:
            await services.usage_hours.save(store)
        with rounds:
            await services.peaks.save(store)
        with rounds:
            await services.preloads.save()
