"""Models that are usually used at this time are loaded a little before, into spare memory."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from modelpool_client.errors import ModelPoolError

from modelpool.catalog.errors import StoreError
from modelpool.controllers.usage_patterns import UsagePattern, hour_since_epoch
from modelpool.pool.pool import Pool
from modelpool.pool.states import State

log = logging.getLogger(__name__)

# A preload is worth it a little before the hour in which the model is used.
AHEAD = timedelta(minutes=5)


class PatternStore(Protocol):
    """Where usage patterns outlive the manager."""

    async def usage_patterns(self) -> Mapping[str, str]: ...
    async def save_usage_patterns(self, patterns: Mapping[str, str]) -> None: ...


class PreloadController:
    """``wall`` gives local time; ``prepare`` is awaited before a load, and raises why there can be
    none."""

    def __init__(
        self,
        pool: Pool,
        store: PatternStore,
        wall: Callable[[], datetime],
        prepare: Callable[[str], Awaitable[None]],
    ) -> None:
        self._pool = pool
        self._store = store
        self._wall = wall
        self._prepare = prepare
        self._patterns: dict[str, UsagePattern] = {}
        self._changed: set[str] = set()
        self._counted: dict[str, int] = {}
        self._preloaded: dict[str, int] = {}
        self._known: set[str] = set()

    def __repr__(self) -> str:
        return f"<PreloadController, {len(self._patterns)} usage patterns>"

    async def open(self) -> None:
        """Remember what a former manager learned."""
        for model_id, text in (await self._store.usage_patterns()).items():
            usual = {int(hour): float(uses) for hour, uses in json.loads(text).items()}
            self._patterns[model_id] = UsagePattern(usual)
            self._known.add(model_id)

    async def save(self) -> None:
        """Write down what changed since the last time."""
        changed, self._changed = self._changed, set()
        known = self._patterns
        texts = {m: json.dumps(known[m].usual) for m in changed if m in known}
        if not texts:
            return
        try:
            await self._store.save_usage_patterns(texts)
        except StoreError as e:
            self._changed |= changed
            log.warning("what was learned of the models' use is not saved: %s", e)

    async def reconcile(self) -> None:
        """Learn from how the models are used, and load what will be."""
        now = self._wall()
        is_on = self._pool.config.enable_speculative_loading
        self._known |= self._pool.awake_models  # of a large catalog most are never used
        for model_id in sorted(self._known):
            if self._pool.has(model_id):  # or it was deleted meanwhile
                self._learn(model_id, now)
            if is_on and self._pool.may_preload and self._pool.has(model_id):
                await self._preload(model_id, now)
        self._forget_deleted()

    def _learn(self, model_id: str, now: datetime) -> None:
        uses = self._pool.uses(model_id)
        times = uses - self._counted.get(model_id, 0)
        if not times and model_id not in self._patterns:
            return
        self._counted[model_id] = uses
        before = self._patterns.get(model_id, UsagePattern())
        after = before.used(times, now) if times > 0 else before.until(now)
        if after is not before:
            self._patterns[model_id] = after
        if after.usual is not before.usual:
            self._changed.add(model_id)

    async def _preload(self, model_id: str, now: datetime) -> None:
        """Once for each hour, or what idles out within it would be loaded over and over."""
        soon = now + AHEAD
        hour = hour_since_epoch(soon)
        if model_id not in self._patterns:
            return
        expected = self._patterns.get(model_id, UsagePattern()).expected(soon)
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
        for model_id in [m for m in self._known if not self._pool.has(m)]:
            for known in (self._counted, self._patterns, self._preloaded):
                known.pop(model_id, None)
            for marked in (self._changed, self._known):
                marked.discard(model_id)
