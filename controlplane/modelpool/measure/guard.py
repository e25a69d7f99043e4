"""Measures only while nobody else is at work, and gives way at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from modelpool_client.errors import Conflict

from modelpool.pool.pool import Pool

from .quiet import disturbance

T = TypeVar("T")

WATCH_SECONDS = 0.05
QUIET_SECONDS = 60.0
# In which a worker tells that its last request is over.
SETTLE_SECONDS = 15.0

Sleep = Callable[[float], Awaitable[object]]


class Disturbed(Exception):
    """Somebody else is at work: what is measured now says nothing. The text says who."""


async def unload_if_unused(pool: Pool, model_id: str, reason: str) -> None:
    """As soon as the model's workers tell that they are idle, if nobody uses it until then."""
    deadline = pool.clock.now() + SETTLE_SECONDS
    while any(status.is_busy for status in pool.statuses(model_id)):
        if pool.clock.now() >= deadline:
            return
        await pool.clock.sleep(WATCH_SECONDS)
    pool.unload_if_unused(model_id, pool.clock.now(), reason)


class Guard:
    """For one measurement of one model; ``own`` are its requests, see ``quiet``."""

    def __init__(
        self, pool: Pool, own: Mapping[str, int], subject: str, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._pool = pool
        self._own = own
        self._subject = subject
        self._sleep = sleep

    def disturbance(self) -> str:
        """Who is at work besides it, in words; empty where nobody is."""
        awake = (m for m in self._pool.awake_models if self._pool.has(m))
        statuses = [status for model_id in awake for status in self._pool.statuses(model_id)]
        return disturbance(statuses, self._own, self._subject)

    async def quiet(self, seconds: float) -> None:
        """Wait until nobody else is at work.

        Raises:
            Conflict: somebody still is after that many seconds.
        """
        deadline = self._pool.clock.now() + seconds
        while reason := self.disturbance():
            if self._pool.clock.now() >= deadline:
                text = f"{self._subject} is not measured: {reason}; it was waited for {seconds:g} s"
                raise Conflict(f"{text}. Try again when the machine is idle", code="machine_busy")
            await self._sleep(WATCH_SECONDS)

    async def undisturbed(self, work: Coroutine[Any, Any, T]) -> T:
        """The outcome of the work.

        Raises:
            Disturbed: somebody else came; the work was given up at once.
            ModelPoolError: the work failed.
        """
        task = asyncio.ensure_future(work)
        watch = asyncio.ensure_future(self._disturbed())
        try:
            await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                raise Disturbed(watch.result())
            return await task
        finally:
            for each in (task, watch):
                each.cancel()
            await asyncio.gather(task, watch, return_exceptions=True)

    async def _disturbed(self) -> str:
        while True:
            if reason := self.disturbance():
                return reason
            await self._sleep(WATCH_SECONDS)
