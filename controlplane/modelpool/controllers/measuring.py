"""Measures and tunes loaded models while nobody is at work, if the configuration asks for it."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from modelpool_client.errors import ModelPoolError

from modelpool.catalog.model import is_trial
from modelpool.controllers.idle_measuring import Candidate, Wish, next_job
from modelpool.pool.pool import Pool

Begin = Callable[[str, Mapping[str, Any]], Awaitable[object]]


class MeasuringController:
    """``begin`` starts a job of a kind; ``is_measuring`` says whether one is under way; ``known``
    gives what is known of a model that is loaded; ``host_load`` is of each core."""

    def __init__(
        self,
        pool: Pool,
        begin: Begin,
        is_measuring: Callable[[], bool],
        known: Callable[[str, str], Awaitable[Candidate]],
        host_load: Callable[[], float],
    ) -> None:
        self._pool = pool
        self._begin = begin
        self._is_measuring = is_measuring
        self._known = known
        self._host_load = host_load
        self._tried: dict[tuple[str, str], float] = {}

    async def reconcile(self) -> None:
        """Begin one job, if the time is right for it."""
        config, now = self._pool.config, self._pool.clock.now()
        goal = "" if config.tune_when_idle == "off" else config.tune_when_idle
        wish = Wish(config.profile_when_idle, goal, config.measure_idle_minutes * 60)
        if not (wish.profiles or wish.goal) or self._is_measuring() or self._pool.is_moving:
            return
        awake = [status for status in self._pool.holders if not status.is_asleep]
        up = [status for status in awake if not is_trial(status.model.model_id)]
        idle = 0.0
        if not any(s.is_busy or s.waiting for s in up):
            used = (s.last_used or s.hot_since or now for s in up)
            idle = now - max(used, default=now)
        found = [await self._known(m, goal) for m in sorted({s.model.model_id for s in up})]
        load = self._host_load()
        chosen = next_job(
            wish, found, idle_seconds=idle, host_load=load, tried=self._tried, now=now
        )
        if chosen is None:
            return
        kind, model_id = chosen
        self._tried[chosen] = now
        data = {"model": model_id, "wait_seconds": 0} | ({"goal": goal} if kind == "tune" else {})
        with contextlib.suppress(ModelPoolError):  # the job itself says it where it was begun
            await self._begin(kind, data)
