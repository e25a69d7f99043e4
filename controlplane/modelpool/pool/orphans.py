"""Workers of a former manager that the pool has no use for: they end beside it while it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from modelpool_client.wire import Facts

from modelpool.pool.admission import Resident
from modelpool.pool.clock import Clock
from modelpool.pool.resources import Resources
from modelpool.pool.scheduler import Scheduler
from modelpool.pool.worker import ExitReport, Worker


class Orphans:
    """Until one is gone nobody gets its port, and what it takes counts as held by one that leaves.

    ``bug`` hears what went wrong with an end.
    """

    def __init__(
        self,
        clock: Clock,
        resources: Resources,
        scheduler: Scheduler,
        bug: Callable[[Exception], None],
    ) -> None:
        self._clock = clock
        self._resources = resources
        self._scheduler = scheduler
        self._bug = bug
        self._names: dict[str, str] = {}
        self._held: dict[str, int] = {}
        self._ending: dict[asyncio.Task[ExitReport], None] = {}  # in order

    def __repr__(self) -> str:
        return f"<Orphans {', '.join(self._names.values()) or 'none'}>"

    @property
    def worker_ids(self) -> frozenset[str]:
        return frozenset(self._names)

    @property
    def ports(self) -> list[int]:
        """Those that are held for them."""
        return list(self._held.values())

    def end(
        self, worker: Worker, facts: Facts | None, ending: Coroutine[Any, Any, ExitReport]
    ) -> None:
        """Let ``ending`` bring the worker to its end. No facts: it does not say what it takes."""
        worker_id, ports = worker.worker_id, self._resources.ports
        resident = _resident(worker, facts)
        self._names[worker_id] = resident.model_id
        self._resources.hold_orphan(worker_id, resident)
        # Another configuration may not have the port at all.
        if worker.port in ports.all and ports.claim(worker.port, worker_id):
            self._held[worker_id] = worker.port
        task = asyncio.ensure_future(ending)
        self._ending[task] = None
        task.add_done_callback(lambda done: self._ended(worker_id, done))

    def _ended(self, worker_id: str, done: asyncio.Task[ExitReport]) -> None:
        del self._ending[done]
        if done.cancelled():  # it is the next manager's
            return
        if isinstance(error := done.exception(), Exception):
            self._bug(error)
        if (port := self._held.pop(worker_id, None)) is not None:
            self._resources.ports.free(port, self._clock.now())
        self._resources.drop_orphan(worker_id)
        self._scheduler.room_freed(self._names.pop(worker_id))

    async def ended(self) -> None:
        """All are gone."""
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def close(self) -> None:
        """Leave them to themselves; they are on record, and the next manager finds them."""
        for task in self._ending:
            task.cancel()
        await self.ended()


def _resident(worker: Worker, facts: Facts | None) -> Resident:
    name = f"a worker of {worker.record.model_id} that is not needed ({worker.worker_id[:8]})"
    if facts is None:
        return Resident(name, 0, (), leaving=True)
    size = facts.taken_bytes or 0
    held = size if facts.memory_held_bytes is None else facts.memory_held_bytes
    pending = max(0, size - held)
    devices = facts.device_memory_bytes
    return Resident(name, size, (), leaving=True, pending_bytes=pending, devices=devices)
