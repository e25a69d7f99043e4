"""What the manager does by itself: warm-ups at the start, the repair sweep, saving statistics."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Awaitable

from modelpool.catalog.store import Store
from modelpool.services import Services

log = logging.getLogger(__name__)

SAVE_SECONDS = 10.0
MEMORY_SECONDS = 1.0
# Nobody plans with it: only memory pressure is looked for.
QUIET_MEMORY_SECONDS = 5.0


def warm_up(services: Services) -> None:
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


async def sweep(services: Services) -> None:
    """Look whether anything is due, every ``check_interval_seconds``."""
    # What is there from the start stays: a collection need not go through it. That makes a whole
    # one cheap enough to have it often, and cycles do not pile up into memory that never shrinks.
    gc.collect()
    gc.freeze()
    while True:
        await asyncio.sleep(services.pool.config.check_interval_seconds)
        services.pool.look()
        gc.collect()


async def watch_memory(services: Services) -> None:
    """Read what the host could give; those that wait for room are planned again when it grew."""
    pool, memory = services.pool, services.memory
    while True:
        await asyncio.sleep(MEMORY_SECONDS if pool.is_moving else QUIET_MEMORY_SECONDS)
        before = memory.available()
        await memory.refresh()
        if memory.available() > before:
            pool.changed()


async def save(services: Services, store: Store) -> None:
    """Write down now and then what was counted, measured and learned."""
    while True:
        await asyncio.sleep(SAVE_SECONDS)
        await services.usage.save(store)
        await services.peaks.save(store)
        await services.foresight.save()
