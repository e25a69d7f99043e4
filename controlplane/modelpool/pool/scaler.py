"""Looks now and then whether there are to be more copies of a model, or fewer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from modelpool.pool.clock import Clock
from modelpool.pool.replica_set import ReplicaSet

SCALE_SECONDS = 1.0


class Scaler:
    """``running`` gives the sets that have a worker."""

    def __init__(self, clock: Clock, running: Callable[[], Iterable[ReplicaSet]]) -> None:
        self._clock = clock
        self._running = running
        self._timer: asyncio.TimerHandle | None = None
        self._is_stopped = False

    def watch(self) -> None:
        """Look every second while a model runs that may have several copies."""
        if self._timer is not None or self._is_stopped:
            return
        if any(each.may_scale for each in self._running()):
            self._timer = self._clock.call_at(self._clock.now() + SCALE_SECONDS, self._look)

    def stop(self) -> None:
        """For good."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        for each in self._running():
            if each.may_scale:
                each.scale(self._clock.now())
        self.watch()
