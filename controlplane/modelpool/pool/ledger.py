"""The ledger of bytes, ports and count, and the queue of those that wait for them.

Planning and reserving is one synchronous step here; slots only ask. What they may ask is in
``house.House``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from modelpool_client.wire import Assignment

from modelpool.catalog.model import Model
from modelpool.config import PoolConfig
from modelpool.pool.admission import Budget, Need, Plan, Resident, Start, plan
from modelpool.pool.clock import Clock
from modelpool.pool.crew import Crew
from modelpool.pool.lifecycle import State
from modelpool.pool.ports import Ports
from modelpool.pool.replica import Replica
from modelpool.pool.slot import Slot
from modelpool.pool.waiters import PRIORITIES

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Surroundings:
    """What the pool needs to know of the world, as arguments.

    ``estimate`` gives the bytes of host memory that a model will need, ``estimate_devices`` those
    of each device that has a budget, ``host_available`` the bytes the host could give now,
    ``manager_url`` where workers send their facts.
    """

    pool_id: str
    manager_url: str
    estimate: Callable[[Model], int]
    host_available: Callable[[], int]
    emit: Callable[[str, Replica, State, str], None]
    bug: Callable[[Exception], None] = lambda e: log.error("bug: %r", e)
    estimate_devices: Callable[[Model], Mapping[str, int]] = lambda _: {}


class Ledger:
    """Who holds what, and who waits for it."""

    def __init__(
        self, config: PoolConfig, crew: Crew, world: Surroundings, clock: Clock | None = None
    ) -> None:
        self.clock = clock or Clock()
        self.crew = crew
        self.is_stopping = False
        self._config = config
        self._world = world
        self._slots: dict[str, Slot] = {}
        self._reserved: dict[str, Need] = {}
        self._queue: dict[str, asyncio.TimerHandle | None] = {}
        self._replan_is_due = False
        span = config.port_range
        self.ports = Ports(span.start, span.end, rest=config.port_rest_seconds)
        self.ports.reserve_standing(config.warmup_models)

    @property
    def config(self) -> PoolConfig:
        return self._config

    @property
    def slots(self) -> list[Slot]:
        return list(self._slots.values())

    @property
    def queued(self) -> tuple[str, ...]:
        """Models whose start waits for room, in the order in which they came."""
        return tuple(self._queue)

    def reserved_bytes(self, model_id: str) -> int:
        reserved = self._reserved.get(model_id)
        return reserved.bytes if reserved is not None else 0

    def need(self, model: Model) -> Need:
        """What a start of the model would take."""
        world = self._world
        return Need(model.model_id, world.estimate(model), world.estimate_devices(model))

    def admit(self, slot: Replica) -> Plan:
        decision = self.plan_for(slot)
        if isinstance(decision, Start):
            self._reserved[slot.model.model_id] = self.need(slot.model)
        return decision

    def plan_for(self, slot: Replica) -> Plan:
        """What a load would do right now; nothing is reserved."""
        need = self.need(slot.model)
        return plan(need, [self.resident(s) for s in self._holders()], self.budget())

    def _holders(self) -> Iterable[Slot]:
        return (self._slots[model_id] for model_id in self._reserved)

    def budget(self) -> Budget:
        """What all starts together may use."""
        config = self._config
        return Budget(
            config.max_concurrent_models,
            config.memory_limit_bytes,
            self._world.host_available(),
            config.device_budgets,
        )

    def resident(self, slot: Replica) -> Resident:
        """A slot that holds a reservation, as admission sees it."""
        now = self.clock.now()
        reserved = self._reserved[slot.model.model_id]
        young_until = (slot.hot_since or now) + self._config.min_residency_seconds
        return Resident(
            slot.model.model_id,
            reserved.bytes,
            loss=(-PRIORITIES[slot.model.priority], slot.last_used or 0.0),
            protected=slot.protection or ("just loaded" if now < young_until else ""),
            pinned=slot.model.pinned,
            leaving=slot.is_leaving,
            free_at=young_until if slot.state.is_serving and not slot.is_busy else None,
            pending_bytes=reserved.bytes if slot.state is State.WARMING else 0,
            devices=reserved.devices,
        )

    def release(self, slot: Replica) -> None:
        model_id = slot.model.model_id
        self._reserved.pop(model_id, None)
        if slot.port is not None:
            self.ports.free(slot.port, self.clock.now())
        for other in self.slots:
            if other is not slot:
                other.room_made(model_id)
        self.changed()

    def join_queue(self, slot: Replica, until: float | None) -> None:
        self._cancel_timer(slot)
        timer = None if until is None else self.clock.call_at(until, self.changed)
        is_new = slot.model.model_id not in self._queue
        self._queue[slot.model.model_id] = timer
        if is_new:
            self.emit("model-waiting", slot)

    def leave_queue(self, slot: Replica) -> None:
        self._cancel_timer(slot)
        self._queue.pop(slot.model.model_id, None)

    def _cancel_timer(self, slot: Replica) -> None:
        timer = self._queue.get(slot.model.model_id)
        if timer is not None:
            timer.cancel()

    def changed(self) -> None:
        if self._queue and not self._replan_is_due:
            self._replan_is_due = True
            asyncio.get_running_loop().call_soon(self._replan)

    def _replan(self) -> None:
        """In the order in which they came; one that cannot start does not hold up the rest."""
        self._replan_is_due = False
        for model_id in list(self._queue):
            if model_id in self._slots:
                self._slots[model_id].retry_admission()

    def ask_to_leave(self, model_ids: tuple[str, ...], on_behalf_of: str) -> None:
        for model_id in model_ids:
            self._slots[model_id].evict(on_behalf_of)

    def refused_to_leave(self, slot: Replica) -> None:
        for other in self.slots:
            if other is not slot:
                other.room_denied(slot.model.model_id)

    def take_port(self, slot: Replica, avoid: frozenset[int]) -> int | None:
        return self.ports.take(slot.model.model_id, self.clock.now(), avoid=avoid)

    def claim_port(self, slot: Replica, port: int) -> None:
        self.ports.claim(port, slot.model.model_id)

    def port_is_strange(self, slot: Replica, port: int) -> None:
        self.ports.free(port, self.clock.now())

    def assignment(
        self, model: Model, worker_id: str, port: int, lease: float | None
    ) -> Assignment:
        config = self._config
        return Assignment(
            worker_id=worker_id,
            secret="",  # the crew makes it, together with the epoch
            pool_id=self._world.pool_id,
            epoch=0,
            manager_url=self._world.manager_url,
            model_id=model.model_id,
            engine=model.engine,
            source=model.source,
            port=port,
            aliases=model.aliases,
            options=model.options,
            host=config.host,
            lease_seconds=lease,
            beat_seconds=config.beat_seconds,
            drain_seconds=config.graceful_shutdown_seconds,
            orphan_seconds=config.orphan_seconds,
        )

    def moved(self, slot: Replica, previous: State) -> None:
        self._world.emit("", slot, previous, slot.reason)

    def emit(self, event: str, slot: Replica, reason: str = "") -> None:
        self._world.emit(event, slot, slot.state, reason or slot.reason)

    def bug(self, error: Exception) -> None:
        self._world.bug(error)
