"""The pool: one slot per model, over one ledger. This is its side towards the outside."""

from __future__ import annotations

import asyncio

from modelpool_client.errors import LoadTimeout, ModelNotFound, ModelPoolError, PoolBusy
from modelpool_client.wire import Facts, FactsReply

from modelpool.catalog.model import Model
from modelpool.config import PoolConfig
from modelpool.pool.clock import Clock
from modelpool.pool.crew import Crew, Worker
from modelpool.pool.group import Group
from modelpool.pool.ledger import Ledger, Surroundings
from modelpool.pool.lifecycle import State
from modelpool.pool.replica import Replica
from modelpool.pool.scaler import Scaler
from modelpool.pool.slot import Slot
from modelpool.pool.waiters import PRIORITIES, Grant, Waiter

__all__ = ["Pool", "Surroundings"]


class Pool(Ledger):
    """Owns the slots, one for each copy of a model, and the groups that they form."""

    def __init__(
        self, config: PoolConfig, crew: Crew, world: Surroundings, clock: Clock | None = None
    ) -> None:
        super().__init__(config, crew, world, clock)
        self._groups: dict[str, Group] = {}
        self._scaler = Scaler(self.clock, self._groups)

    def __repr__(self) -> str:
        up = sum(slot.state.is_serving for slot in self.slots)
        return f"<Pool {up} of {len(self._slots)} serving, {len(self.line)} queued, {self.ports}>"

    @property
    def groups(self) -> list[Group]:
        """One for each model."""
        return list(self._groups.values())

    def add(self, model: Model) -> Slot:
        """A slot for a model that is new in the catalog."""
        self.ports.stand_for(model.model_id, model.names)
        first = self._slot_for(model, 1)
        self._groups[model.model_id] = Group(first, lambda n: self._slot_for(first.model, n))
        return first

    def _slot_for(self, model: Model, number: int) -> Slot:
        slot = Slot(model, self, number)
        self._slots[slot.key] = slot
        return slot

    def has(self, model_id: str) -> bool:
        return model_id in self._groups

    def group(self, model_id: str) -> Group:
        """The copies of a model, by its id.

        Raises:
            ModelNotFound: there is none, or it was deleted in this moment.
        """
        try:
            return self._groups[model_id]
        except KeyError:
            text = f"there is no model {model_id!r} in the pool"
            raise ModelNotFound(text, param="model") from None

    def slot(self, model_id: str) -> Slot:
        """The copy that speaks for a model, by the model's id.

        Raises:
            ModelNotFound: there is none, or it was deleted in this moment.
        """
        return self.group(model_id).best

    async def remove(self, model_id: str) -> None:
        """End the model's workers if it has any, then forget its slots."""
        group = self.group(model_id)
        await asyncio.gather(*(slot.remove("the model was deleted") for slot in group))
        for slot in group:
            await slot.close()
            self.leave_queue(slot)
            if self._slots.get(slot.key) is slot:
                del self._slots[slot.key]
        if self._groups.get(model_id) is group:
            del self._groups[model_id]

    async def acquire(
        self,
        model_id: str,
        *,
        priority: str = "normal",
        affinity: str = "",
        wait: float | None = None,
        had_worker: bool = False,
    ) -> Grant:
        """Permission to use a worker of the model; loads it if need be. Release it, once.

        ``had_worker``: there was a grant, and its worker is gone; it waits through a back-off.

        Raises:
            ModelPoolError: why there is none, at the latest after ``wait`` seconds,
                ``load_wait_seconds`` if that is None.
        """
        group = self.group(model_id)
        slot = group.serving(affinity) or group.to_wait_for()
        waiter = self._waiter(wants_grant=True, priority=priority)
        waiter.had_worker = had_worker
        slot.acquire(waiter)
        limit = self._config.load_wait_seconds if wait is None else wait
        grant = await self._outcome(slot, waiter, limit)
        assert grant is not None
        return grant

    def try_acquire(self, model_id: str, affinity: str = "") -> Grant | None:
        """A grant if the model is HOT or COOLING right now, else None and nothing happens.

        Requests with the same ``affinity`` go to the same copy while that is not much busier.
        """
        slot = self.group(model_id).serving(affinity)
        if slot is None:
            return None
        waiter = self._waiter(wants_grant=True, priority="normal")
        slot.acquire(waiter)
        return waiter.outcome.result() if waiter.outcome.done() else self._withdrawn(waiter)

    @staticmethod
    def _withdrawn(waiter: Waiter) -> None:
        waiter.outcome.cancel()

    async def load(self, model_id: str, reason: str, wait: float | None) -> None:
        """Start a load; with ``wait`` return when HOT, without it at once. The load goes on
        whoever leaves.

        Raises:
            ModelPoolError: why not.
        """
        group = self.group(model_id)
        slot = group.serving() or group.to_wait_for()
        waiter = self._waiter(wants_grant=False, priority="high")
        waiter.is_standing = not wait
        slot.load(waiter, reason, stay_up=slot.model.warmup)
        if wait:
            await self._outcome(slot, waiter, wait)
        elif waiter.outcome.done():
            if not waiter.outcome.cancelled():
                waiter.outcome.result()
        else:
            waiter.outcome.add_done_callback(_seen)
            limit = self._config.load_wait_seconds
            timer = self.clock.call_at(
                self.clock.now() + limit, lambda: slot.give_up(waiter, limit)
            )
            waiter.outcome.add_done_callback(lambda _: timer.cancel())

    def _waiter(self, *, wants_grant: bool, priority: str) -> Waiter:
        outcome: asyncio.Future[Grant | None] = asyncio.get_running_loop().create_future()
        return Waiter(outcome, wants_grant, PRIORITIES[priority], self.clock.now())

    async def _outcome(self, slot: Slot, waiter: Waiter, seconds: float) -> Grant | None:
        if waiter.outcome.done():  # HOT: no timer, no switch of tasks
            return waiter.outcome.result()
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(waiter.outcome)
        except TimeoutError:
            self._withdraw(waiter)
            raise self._waited_in_vain(slot, seconds) from None
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise

    def _waited_in_vain(self, slot: Slot, seconds: float) -> ModelPoolError:
        what = slot.waiting_for or slot.reason
        text = f"waited {seconds:.0f} s for {slot.model.model_id}, which is {slot.state}: {what}"
        place = self.line.place(slot)
        if place is None:
            return LoadTimeout(text, retry_after=10)
        where = f"it is number {place.position} of {place.length} that wait for room"
        return PoolBusy(f"{text}; {where}", retry_after=min(place.seconds, seconds))

    def _withdraw(self, waiter: Waiter) -> None:
        """Who leaves gives back what was granted in the same moment."""
        if waiter.outcome.done() and not waiter.outcome.cancelled():
            if waiter.outcome.exception() is None and (grant := waiter.outcome.result()):
                grant.release()
        else:
            waiter.outcome.cancel()
            self.changed()

    def ailment(self, grant: Grant) -> str:
        """Why the worker of a grant is being replaced; empty if it is not, as far as is known."""
        slot = self.slot_of(grant.worker_id)
        return slot.ailment if slot is not None else ""

    def heard(self, slot: Slot, facts: Facts) -> FactsReply:
        """Facts from the worker of a slot, which knew its secret; what it is told."""
        slot.heard(facts)
        return FactsReply(
            True,
            self._world.pool_id,
            slot.lease.remaining(self.clock.now()),
            slot.model.aliases,
            self._config.graceful_shutdown_seconds,
        )

    def facts_of(self, worker_id: str) -> Facts | None:
        """The newest facts of a worker of the pool."""
        slot = self.slot_of(worker_id)
        return slot.facts if slot is not None else None

    def slot_of(self, worker_id: str) -> Slot | None:
        """The slot whose present worker that is."""
        return next((s for s in self.slots if s.worker_id == worker_id), None)

    def adopt(self, worker: Worker, facts: Facts) -> bool:
        """Give a slot the worker that a former manager started for it; False if it has no use."""
        group = self._groups.get(worker.record.model_id)
        slot = group.spare(group.model.max_replicas) if group is not None else None
        if slot is None or slot.state is not State.COLD:
            return False
        self._reserved[slot.key] = self.need(slot)
        slot.adopt(worker, facts)
        return True

    def reconfigure(self, config: PoolConfig) -> None:
        """Live keys changed: leases and plans follow, what runs is not touched."""
        self._config = config
        self.ports.rest = config.port_rest_seconds
        for slot in self.slots:
            slot.config_changed()

    def look(self) -> None:
        """The repair sweep."""
        self._scaler.watch()
        for slot in self.slots:
            slot.look()
        self.changed()

    def moved(self, slot: Replica, previous: State) -> None:
        super().moved(slot, previous)
        group = self._groups.get(slot.model.model_id)
        if group is None or self._slots.get(slot.key) is not slot:
            return
        if slot.state is State.HOT:
            self.opened(slot)
            self._scaler.watch()
        elif slot.state is State.COOLING:  # others may have stayed for its sake
            for other in group:
                if other is not slot:
                    other.look()

    def opened(self, slot: Replica) -> None:
        group = self._groups.get(slot.model.model_id)
        if group is not None and len(group.slots) > 1:
            group.open_for(self._slots[slot.key])

    def keeps(self, slot: Replica) -> bool:
        group = self._groups.get(slot.model.model_id)
        if group is None or len(group.slots) == 1:
            return False
        return group.keeps(self._slots[slot.key])

    async def stop(self) -> None:
        """Refuse new work, let current work end, end every worker."""
        self.is_stopping = True
        self._scaler.stop()
        ending = [s.unload("the pool is shutting down", force=True) for s in self.slots]
        await asyncio.gather(*ending, return_exceptions=True)
        await self.strays.ended()
        await self.close()

    async def close(self) -> None:
        """Stop watching; workers, if any are left, go on."""
        self.is_stopping = True
        self.line.clear()
        self._scaler.stop()
        await asyncio.gather(self.strays.close(), *(slot.close() for slot in self.slots))


def _seen(outcome: asyncio.Future[Grant | None]) -> None:
    """Nobody waits for this load; its failure is in the events and the status."""
    if not outcome.cancelled():
        error = outcome.exception()
        assert error is None or isinstance(error, ModelPoolError)
