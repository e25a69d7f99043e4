"""Looks now and then whether there are to be more copies of a model, or fewer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from modelpool.pool.clock import Clock
from modelpool.pool.group import Group

SCALE_SECONDS = 1.0


class Scaler:
    """``groups`` by model id."""

    def __init__(self, clock: Clock, groups: Mapping[str, Group]) -> None:
        self._clock = clock
        self._groups = groups
        self._timer: asyncio.TimerHandle | None = None
        self._is_stopped = False

    def watch(self) -> None:
        """Look every second while a model runs that may have several copies."""
        runs = any(
            group.may_scale and any(s.state.has_worker for s in group)
            for group in self._groups.values()
        )
        if runs and self._timer is None and not self._is_stopped:
            self._timer = self._clock.call_at(self._clock.now() + SCALE_SECONDS, self._look)

    def stop(self) -> None:
        """For good."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        for group in tuple(self._groups.values()):
            if group.may_scale:
                group.scale(self._clock.now())
        self.watch()
