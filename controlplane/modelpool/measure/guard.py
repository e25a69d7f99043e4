"""Measures only while nobody else is at work, and gives way at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from modelpool_client.errors import Conflict
from modelpool_client.http1.upstream_connection import UpstreamError
from modelpool_client.wire import Facts

from modelpool.pool.pool import Pool
from modelpool.pool.status import ReplicaStatus
from modelpool.pool.worker import Worker

from .asking import Asking
from .quiet import Served, disturbance, unseen_requests

T = TypeVar("T")

WATCH_SECONDS = 0.05
QUIET_SECONDS = 60.0
# In which a worker tells that its last request is over.
SETTLE_SECONDS = 15.0

Sleep = Callable[[float], Awaitable[object]]


class WorkerFacts(Protocol):
    """Asks a worker how it is."""

    async def facts(self, worker: Worker) -> Facts: ...


class Disturbed(Exception):
    """Somebody else is at work: what is measured now says nothing. The text says who."""


async def unload_if_unused(
    pool: Pool, model_id: str, reason: str, seconds: float = SETTLE_SECONDS
) -> None:
    """As soon as the model's workers tell that they are idle, if nobody uses it until then; they
    are waited for so many seconds."""
    deadline = pool.clock.now() + seconds
    while pool.has(model_id) and any(status.is_busy for status in pool.statuses(model_id)):
        if pool.clock.now() >= deadline:
            return
        await pool.clock.sleep(WATCH_SECONDS)
    if pool.has(model_id):
        pool.unload_if_unused(model_id, pool.clock.now(), reason)


class Guard:
    """For one measurement of one model, whose requests ``asking`` makes; ``client`` asks workers
    how many they had."""

    def __init__(
        self,
        pool: Pool,
        asking: Asking,
        client: WorkerFacts,
        subject: str,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._pool = pool
        self._asking = asking
        self._client = client
        self._subject = subject
        self._sleep = sleep

    def disturbance(self) -> str:
        """Who is at work besides it, in words; empty where nobody is."""
        return disturbance(self._awake(), self._asking.own, self._subject)

    def _awake(self) -> list[ReplicaStatus]:
        awake = (m for m in self._pool.awake_models if self._pool.has(m))
        return [status for model_id in awake for status in self._pool.statuses(model_id)]

    async def _served(self) -> Mapping[str, Served]:
        """By worker."""
        up = [(s, s.worker) for s in self._awake() if s.worker is not None and s.state.is_serving]
        counts = await asyncio.gather(*(self._count(worker) for _, worker in up))
        return {
            status.worker_id: Served(status.model.model_id, count)
            for (status, _), count in zip(up, counts, strict=True)
        }

    async def _count(self, worker: Worker) -> int | None:
        try:
            return (await self._client.facts(worker)).requests_total
        except (UpstreamError, TimeoutError, ValueError, OSError):
            return None

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

    async def undisturbed(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The outcome of the work.

        Raises:
            Disturbed: somebody else came: the work was given up at once, or where their requests
                were too short to be seen, it is worth nothing.
            ModelPoolError: the work failed.
        """
        before, made = await self._served(), Counter(self._asking.made)
        found = await self._watched(work())
        own = Counter(self._asking.made) - made
        if reason := unseen_requests(before, await self._served(), own, self._subject):
            raise Disturbed(reason)
        return found

    async def _watched(self, work: Coroutine[Any, Any, T]) -> T:
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
