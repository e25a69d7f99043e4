"""Workers of a former manager that the pool has no use for: they end beside it while it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from modelpool_client.wire import Facts

from modelpool.pool.admission import Resident
from modelpool.pool.clock import Clock
from modelpool.pool.crew import Burial, Worker
from modelpool.pool.ports import Ports


class Strays:
    """Until one is gone nobody gets its port, and what it takes counts as held by one that leaves.

    ``on_gone`` hears its name among the residents, ``bug`` what went wrong with its end.
    """

    def __init__(
        self,
        ports: Ports,
        clock: Clock,
        on_gone: Callable[[str], None],
        bug: Callable[[Exception], None],
    ) -> None:
        self._ports = ports
        self._clock = clock
        self._on_gone = on_gone
        self._bug = bug
        self._residents: dict[str, Resident] = {}
        self._held: dict[str, int] = {}
        self._ending: dict[asyncio.Task[Burial], None] = {}  # in order

    def __repr__(self) -> str:
        return f"<Strays {', '.join(r.model_id for r in self.residents()) or 'none'}>"

    @property
    def worker_ids(self) -> frozenset[str]:
        return frozenset(self._residents)

    @property
    def ports(self) -> list[int]:
        """Those that are held for them."""
        return list(self._held.values())

    def residents(self) -> list[Resident]:
        """As admission sees them."""
        return list(self._residents.values())

    def end(self, worker: Worker, facts: Facts | None, ending: Coroutine[Any, Any, Burial]) -> None:
        """Let ``ending`` bring the worker to its end. No facts: it does not say what it takes."""
        worker_id = worker.worker_id
        self._residents[worker_id] = _resident(worker, facts)
        # Another configuration may not have the port at all.
        if worker.port in self._ports.all and self._ports.claim(worker.port, worker_id):
            self._held[worker_id] = worker.port
        task = asyncio.ensure_future(ending)
        self._ending[task] = None
        task.add_done_callback(lambda done: self._ended(worker_id, done))

    def _ended(self, worker_id: str, done: asyncio.Task[Burial]) -> None:
        del self._ending[done]
        if done.cancelled():  # it is the next manager's
            return
        if isinstance(error := done.exception(), Exception):
            self._bug(error)
        if (port := self._held.pop(worker_id, None)) is not None:
            self._ports.free(port, self._clock.now())
        self._on_gone(self._residents.pop(worker_id).model_id)

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
