"""Looks ahead now and then: schedules, habits, pressure. What comes of it, the pool decides."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from modelpool_client.errors import ModelPoolError

from modelpool.catalog.errors import StoreError
from modelpool.foresight.habits import Habit, hour_since_epoch
from modelpool.foresight.pressure import Limits, complaint, victim
from modelpool.foresight.schedule import due
from modelpool.pool.admission import MB
from modelpool.pool.memory import Pressure
from modelpool.pool.pool import Pool
from modelpool.pool.states import State

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
# Pressure is an average over 10 s: what an eviction did is seen only then.
RELIEF_SECONDS = 10.0
# So long after pressure nothing is loaded that nobody asked for: it might bring it back.
CALM_SECONDS = 120.0
# A preload is worth it a little before the hour in which the model is used.
AHEAD = timedelta(minutes=5)


class HabitStore(Protocol):
    """Where habits outlive the manager."""

    async def habits(self) -> Mapping[str, str]: ...
    async def save_habits(self, habits: Mapping[str, str]) -> None: ...


class Foresight:
    """``wall`` gives local time, ``read`` the host's memory, ``tell`` publishes an event;
    ``prepare`` is awaited before a load, and raises why there can be none."""

    def __init__(
        self,
        pool: Pool,
        store: HabitStore,
        wall: Callable[[], datetime],
        read: Callable[[], Pressure],
        tell: Callable[[str, str], object],
        prepare: Callable[[str], Awaitable[None]],
    ) -> None:
        self._pool = pool
        self._store = store
        self._wall = wall
        self._read = read
        self._tell = tell
        self._prepare = prepare
        self._habits: dict[str, Habit] = {}
        self._changed: set[str] = set()
        self._counted: dict[str, int] = {}
        self._preloaded: dict[str, int] = {}
        self._looked = wall()
        self._relieved = float("-inf")
        self.pressure = ""

    def __repr__(self) -> str:
        return f"<Foresight {len(self._habits)} habits, {self.pressure or 'no pressure'}>"

    async def open(self) -> None:
        """Remember what a former manager learned."""
        for model_id, text in (await self._store.habits()).items():
            usual = {int(hour): float(uses) for hour, uses in json.loads(text).items()}
            self._habits[model_id] = Habit(usual)

    async def save(self) -> None:
        """Write down what changed since the last time."""
        changed, self._changed = self._changed, set()
        texts = {m: json.dumps(self._habits[m].usual) for m in changed if m in self._habits}
        if not texts:
            return
        try:
            await self._store.save_habits(texts)
        except StoreError as e:
            self._changed |= changed
            log.warning("what was learned of the models' use is not saved: %s", e)

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except Exception:  # a bug here must not be the end of it
                log.exception("a bug of the pool: a look ahead failed")

    async def look(self) -> None:
        """One look; failures of loads are in the models' own state and events."""
        now, since = self._wall(), self._looked
        self._looked = now
        self._relieve()
        for model in self._pool.models:
            self._learn(model.model_id, now)
            for action in due(model.schedule, since, now):
                await self._act(model.model_id, action)
            if self._pool.config.enable_speculative_loading and self._pool.may_preload:
                await self._preload(model.model_id, now)
        self._forget_deleted()

    # -- schedules -------------------------------------------------------------------------------

    async def _act(self, model_id: str, action: str) -> None:
        with contextlib.suppress(ModelPoolError):
            if action == "load":
                await self._prepare(model_id)
                await self._pool.load(model_id, "scheduled", None)
            else:
                ending = self._pool.unload(model_id, "scheduled")
                ending.add_done_callback(_seen)

    # -- habits ----------------------------------------------------------------------------------

    def _learn(self, model_id: str, now: datetime) -> None:
        if not self._pool.has(model_id):  # it was deleted in the meantime
            return
        uses = sum(status.uses for status in self._pool.statuses(model_id))
        times = uses - self._counted.get(model_id, 0)
        self._counted[model_id] = uses
        before = self._habits.get(model_id, Habit())
        after = before.used(times, now) if times > 0 else before.until(now)
        if after is not before:
            self._habits[model_id] = after
        if after.usual is not before.usual:
            self._changed.add(model_id)

    async def _preload(self, model_id: str, now: datetime) -> None:
        """Once for each hour, or what idles out within it would be loaded over and over."""
        if not self._pool.has(model_id):
            return
        soon = now + AHEAD
        hour = hour_since_epoch(soon)
        expected = self._habits.get(model_id, Habit()).expected(soon)
        is_down = all(s.state is State.COLD for s in self._pool.statuses(model_id))
        was_tried = self._preloaded.get(model_id) == hour
        if not is_down:  # what ends in this hour was to end
            self._preloaded[model_id] = hour
        elif not was_tried and expected >= self._pool.config.preload_threshold:
            self._preloaded[model_id] = hour
            with contextlib.suppress(ModelPoolError):
                await self._prepare(model_id)
                reason = f"preloaded: used {expected:.0f} times in this hour of weeks"
                self._pool.preload(model_id, reason)

    def _forget_deleted(self) -> None:
        for model_id in [m for m in self._counted if not self._pool.has(m)]:
            for known in (self._counted, self._habits, self._preloaded):
                known.pop(model_id, None)
            self._changed.discard(model_id)

    # -- pressure --------------------------------------------------------------------------------

    def _relieve(self) -> None:
        config, now = self._pool.config, self._pool.clock.now()
        limits = Limits(config.pressure_percent, int(config.pressure_available_mb * MB))
        said, self.pressure = self.pressure, complaint(self._read(), limits)
        if bool(said) != bool(self.pressure):
            self._tell("memory-pressure", self.pressure or "memory is no longer short")
        if self.pressure:
            self._pool.pause_preloads(CALM_SECONDS)
        if not self.pressure or now - self._relieved < RELIEF_SECONDS:
            return
        key = victim(list(self._pool.residents().values()))
        if key is not None:
            self._relieved = now
            self._pool.evict_if_idle(key, f"evicted: {self.pressure}")


def _seen(ending: asyncio.Future[str]) -> None:
    """A plain unload of what is pinned or a warm-up model is refused; nobody waits to hear it."""
    if not ending.cancelled() and (error := ending.exception()) is not None:
        log.warning("scheduled unload: %s", error)
