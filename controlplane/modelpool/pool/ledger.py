"""The ledger of bytes, ports and count, and the queue of those that wait for them.

Planning and reserving is one synchronous step here; slots only ask. What they may ask is in
``house.House``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from modelpool_client.wire import Assignment

from modelpool.catalog.learned import Claim, Figures
from modelpool.catalog.model import Model
from modelpool.config import PoolConfig
from modelpool.pool import takings
from modelpool.pool.admission import Budget, Need, Plan, Resident, Start, plan, to_yield
from modelpool.pool.clock import Clock
from modelpool.pool.crew import Crew
from modelpool.pool.lifecycle import State
from modelpool.pool.line import Line
from modelpool.pool.needs import planned, with_more
from modelpool.pool.ports import Ports
from modelpool.pool.queueing import UNKNOWN_LOAD_SECONDS, Place
from modelpool.pool.rates import loss
from modelpool.pool.replica import Replica
from modelpool.pool.slot import Slot
from modelpool.pool.strays import Strays

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Surroundings:
    """What the pool needs to know of the world, as arguments.

    ``figures`` tells what is known of a model's memory on the host, ``device_claims`` what it
    will need of each device that has a budget, ``host_available`` the bytes the host could give
    now, ``manager_url`` where workers send their facts.
    """

    pool_id: str
    manager_url: str
    figures: Callable[[Model], Figures]
    host_available: Callable[[], int]
    emit: Callable[[str, Replica, State, str], None]
    bug: Callable[[Exception], None] = lambda e: log.error("bug: %r", e)
    device_claims: Callable[[Model], Mapping[str, Claim]] = lambda _: {}


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
        self._spare_from = float("-inf")
        self.line = Line(self._slots, self.clock, lambda: self._config, self._to_hold)
        span = config.port_range
        self.ports = Ports(span.start, span.end, rest=config.port_rest_seconds)
        self.ports.reserve_standing(config.warmup_models)
        self.strays = Strays(self.ports, self.clock, self._room_made, self.bug)

    @property
    def config(self) -> PoolConfig:
        return self._config

    @property
    def slots(self) -> list[Slot]:
        return list(self._slots.values())

    def reserved_bytes(self, model_id: str) -> int:
        reserved = self._reserved.get(model_id)
        return reserved.bytes if reserved is not None else 0

    def figures(self, model: Model) -> Figures:
        """What is known of the model's memory, and what of it a start reserves."""
        return self._world.figures(model)

    def need(self, slot: Replica) -> Need:
        """What a start of it would take."""
        host, devices = self.figures(slot.model).claim, self._world.device_claims(slot.model)
        others = [self._slots[key] for key in self._reserved if key != slot.key]
        stay = [self.resident(s) for s in others if s.model.pinned and not s.is_leaving]
        need = planned(slot.key, host, devices, stay, self.budget())
        return need if slot.fell_short is None else with_more(need, slot.fell_short)

    def held(self, slot: Replica) -> Need:
        """What it has reserved, or more where it took more."""
        resident = self.resident(slot)
        return Need(slot.key, resident.bytes, resident.devices)

    def admit(self, slot: Replica) -> Plan:
        decision = self.plan_for(slot)
        if isinstance(decision, Start):
            self._reserved[slot.key] = self.need(slot)
        return decision

    def admit_spare(self, slot: Replica) -> bool:
        if len(self.line) or not self.may_spare or self.plan_for(slot) != Start():
            return False
        self._reserved[slot.key] = self.need(slot)
        return True

    @property
    def may_spare(self) -> bool:
        """Starts that nobody waits for are made, where there is room."""
        return self.clock.now() >= self._spare_from

    def spare_nothing(self, seconds: float) -> None:
        """No start that nobody waits for in the next seconds; requests are not concerned."""
        self._spare_from = self.clock.now() + seconds

    def plan_for(self, slot: Replica) -> Plan:
        """What a load would do right now; nothing is reserved."""
        need, residents, budget = self.need(slot), self.residents(), self.budget()
        first = self.line.first_overdue()
        if first is None or first.key == slot.key:
            return plan(need, residents, budget)
        promised = self._promised(first)
        if plan(need, residents, budget) == Start():  # now, and beside the other later?
            yielding = self._to_yield(first)
            later = [replace(r, leaving=r.leaving or r.model_id in yielding) for r in residents]
            if isinstance(plan(need, [*later, promised], budget), Start):
                return Start()
        return plan(need, [*residents, promised], budget)

    def _promised(self, slot: Replica) -> Resident:
        """The room that the one who has waited longest will have next."""
        need = self.need(slot)
        why = "has waited longest for that room"
        return Resident(
            slot.key, need.bytes, (), why, pending_bytes=need.bytes, devices=need.devices
        )

    def _to_yield(self, slot: Replica) -> tuple[str, ...]:
        return to_yield(self.need(slot), self.residents(), self.budget())

    def _to_hold(self, slot: Slot) -> tuple[str, ...]:
        """Of those, who may still be asked: all of them are needed, or it is of no use."""
        useless = {s.key for s in self.slots if s.holding.is_useless}
        asked = [
            replace(r, may_yield=r.may_yield and r.model_id not in useless)
            for r in self.residents()
        ]
        return to_yield(self.need(slot), asked, self.budget())

    def residents(self) -> list[Resident]:
        """All that hold reservations, and what is about to end without one."""
        slots = [self.resident(self._slots[key]) for key in self._reserved]
        return [*slots, *self.strays.residents()]

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
        reserved = self._reserved[slot.key]
        was_loaded = slot.hot_since is not None
        size, pending = takings.of_host(reserved.bytes, slot.facts, was_loaded)
        young_until = (slot.hot_since or now) + self._residency(slot)
        is_young = now < young_until
        return Resident(
            slot.key,
            size,
            loss=(-slot.rank, self._loss(slot, size), slot.last_used or 0.0),
            protected=slot.protection or ("just loaded" if is_young else ""),
            pinned=slot.model.pinned,
            leaving=slot.is_leaving,
            may_yield=slot.state.is_serving and not is_young,
            free_at=young_until if slot.state.is_serving and is_young else None,
            pending_bytes=pending,
            devices=takings.of_devices(reserved.devices, slot.facts, self._config.device_budgets),
        )

    def _residency(self, slot: Replica) -> float:
        """Seconds that a loaded one is no victim: at least as long as it took to load, or two that
        take turns would load more than they serve; no longer than others have patience. None for
        what nobody has come for."""
        if slot.is_spare:
            return 0.0
        config = self._config
        as_loaded = min(slot.load_seconds or 0.0, config.max_queue_wait_seconds)
        return max(config.min_residency_seconds, as_loaded)

    def _loss(self, slot: Replica, size: int) -> float:
        if self._config.eviction_policy == "lru":
            return 0.0
        reload_seconds = slot.load_seconds or UNKNOWN_LOAD_SECONDS
        return loss(slot.rate.per_second(self.clock.now()), reload_seconds, size)

    def release(self, slot: Replica) -> None:
        self._reserved.pop(slot.key, None)
        if slot.port is not None:
            self.ports.free(slot.port, self.clock.now())
        self._room_made(slot.key)

    def _room_made(self, by: str) -> None:
        for slot in self.slots:
            slot.room_made(by)
        self.changed()

    def take_back(self, slot: Replica) -> None:
        self._reserved.pop(slot.key, None)

    def join_queue(self, slot: Replica, until: float | None) -> None:
        if self.line.join(slot.key, until):
            self.emit("model-waiting", slot, slot.waiting_for)

    def leave_queue(self, slot: Replica) -> None:
        self.line.leave(slot.key)

    @property
    def is_moving(self) -> bool:
        """Somebody waits for room, or is being loaded or unloaded."""
        ways = (State.WARMING, State.UNLOADING)
        return len(self.line) > 0 or any(slot.state in ways for slot in self._slots.values())

    def changed(self) -> None:
        self.line.changed()

    def place(self, slot: Replica) -> Place | None:
        return self.line.place(self._slots[slot.key])

    def wait_seconds(self, slot: Replica) -> float:
        return self.line.wait_seconds(self._slots[slot.key])

    def ask_to_leave(self, keys: tuple[str, ...], on_behalf_of: str) -> None:
        for key in keys:
            if key in self._slots:  # a stray was told to
                self._slots[key].evict(on_behalf_of)

    def refused_to_leave(self, slot: Replica) -> None:
        for other in self.slots:
            if other is not slot:
                other.room_denied(slot.key)

    def take_port(self, slot: Replica, avoid: frozenset[int]) -> int | None:
        return self.ports.take(slot.key, self.clock.now(), avoid=avoid)

    def claim_port(self, slot: Replica, port: int) -> None:
        self.ports.claim(port, slot.key)

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
