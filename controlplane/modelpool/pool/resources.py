"""What the pool has to give: bytes of the host and of devices, ports and places for models.

Who asks plans and reserves in one synchronous step; nothing here waits or tells anybody.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from modelpool.catalog.memory_estimate import Claims, MemoryEstimate
from modelpool.catalog.model import Model
from modelpool.pool import usage
from modelpool.pool.admission import (
    Budget,
    Plan,
    Refuse,
    Requirements,
    Resident,
    SetPlan,
    Start,
    Wait,
    plan,
    plan_set,
    promised,
    protected,
    sleep_refusal,
    sleeping_part,
    to_yield,
    with_port,
)
from modelpool.pool.clock import Clock
from modelpool.pool.context import Settings
from modelpool.pool.ports import Ports
from modelpool.pool.rates import loss
from modelpool.pool.replica import Replica
from modelpool.pool.requirements import planned, with_more
from modelpool.pool.wait_queue import UNKNOWN_LOAD_SECONDS


class MemoryEstimates(Protocol):
    """What is known of the memory that models need."""

    def host_memory(self, model: Model) -> MemoryEstimate:
        """On the host."""
        ...

    def claims(self, model: Model) -> Claims:
        """What a start reserves."""
        ...

    def effective(self, model: Model) -> Model:
        """With the options that these are for."""
        ...

    def weights(self, model: Model) -> int | None:
        """Bytes of its weights, wherever they lie; None where that is not known."""
        ...


class AvailableMemory(Protocol):
    """The host's memory."""

    def available(self) -> int:
        """Bytes that the host could give now."""
        ...


class FreeDevices(Protocol):
    """The machine's devices."""

    def free(self) -> Mapping[str, int]:
        """Bytes that nobody holds now, by device, where that is known."""
        ...


class Resources:
    """Who holds what. ``replicas`` are those of the pool, by key; without ``devices`` nothing is
    known of those beyond their budgets."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        replicas: Mapping[str, Replica],
        estimates: MemoryEstimates,
        host: AvailableMemory,
        devices: FreeDevices | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._replicas = replicas
        self._estimates = estimates
        self._host = host
        self._devices = devices
        self._reserved: dict[str, Requirements] = {}
        self._orphans: dict[str, Resident] = {}
        config = settings.config
        span = config.port_range
        self.ports = Ports(span.start, span.end, rest=config.port_rest_seconds)
        self.ports.reserve_standing(config.warmup_models)

    # -- what is known ----------------------------------------------------------------------------

    def reserved_bytes(self, key: str) -> int:
        """Of the host, for a replica; 0 where it has no reservation."""
        reserved = self._reserved.get(key)
        return reserved.bytes if reserved is not None else 0

    def memory_estimate(self, model: Model) -> MemoryEstimate:
        """What is known of the model's memory on the host, and what of it a start reserves."""
        return self._estimates.host_memory(model)

    @property
    def holders(self) -> list[Replica]:
        """The replicas that hold a reservation: all that have a worker, and no other."""
        return [self._replicas[key] for key in self._reserved]

    def effective(self, model: Model) -> Model:
        """With the options that a worker of it is started with."""
        return self._estimates.effective(model)

    def requirements(self, replica: Replica, *, is_least: bool = False) -> Requirements:
        """What a start of it would take; ``is_least``: without any margin."""
        model = replica.model
        host, devices = self._estimates.claims(model)
        others = [r for r in self.holders if r is not replica]
        stay = [self.resident(r) for r in others if r.model.pinned and not r.is_leaving]
        if is_least:
            host = replace(host, bytes=host.least)
            devices = {name: replace(each, bytes=each.least) for name, each in devices.items()}
        needed = planned(replica.key, host, devices, stay, self.budget())
        short = replica.insufficient
        return needed if short is None else with_more(needed, short)

    def held(self, replica: Replica) -> Requirements:
        """What it has reserved, or more where it took more."""
        if replica.key not in self._reserved:
            return Requirements(replica.key, 0)
        resident = self.resident(replica)
        return Requirements(replica.key, resident.bytes, resident.devices)

    def residents(self) -> list[Resident]:
        """All that hold reservations, and orphans that are about to end without one."""
        falling = [r for r in self.holders if r.falls_asleep]
        parts = [sleeping_part(self.held_asleep(replica)) for replica in falling]
        return [*self.by_key().values(), *parts]

    def by_key(self) -> dict[str, Resident]:
        """Each of them by its name, without what will be left of one that falls asleep."""
        found = [*(self.resident(replica) for replica in self.holders), *self.orphans()]
        return {resident.model_id: resident for resident in found}

    def budget(self) -> Budget:
        """What all starts together may use."""
        config = self._settings.config
        return Budget(
            config.max_concurrent_models,
            config.memory_limit_bytes,
            self._host.available(),
            config.device_budgets,
            self._free_on_devices(config.device_budgets),
        )

    def _free_on_devices(self, budgeted: Collection[str]) -> dict[str, int]:
        free = self._devices.free() if self._devices is not None else {}
        return {device: size for device, size in free.items() if device in budgeted}

    def resident(self, replica: Replica) -> Resident:
        """A replica that holds a reservation, as admission sees it."""
        now, config, run = self._clock.now(), self._settings.config, replica.run
        reserved = self._reserved[replica.key]
        facts = run.facts if run is not None else None
        hot_since = run.hot_since if run is not None else None
        last_used = run.last_used if run is not None else None
        is_there, sleeps = hot_since is not None or replica.is_asleep, replica.is_asleep
        size, pending = usage.of_host(reserved.bytes, facts, is_there)
        on_devices = usage.of_devices(reserved.devices, facts, config.device_budgets)
        young_until = (now if hot_since is None else hot_since) + self.residency_seconds(replica)
        is_young, is_serving = now < young_until and not sleeps, replica.state.is_serving
        may_sleep = is_serving and replica.can_sleep and config.may_sleep
        # What sleeps goes first, unless it is wanted.
        rank = float("-inf") if sleeps and not len(replica.waiters) else float(-replica.rank)
        return Resident(
            replica.key,
            size,
            loss=(rank, self._loss(replica, size), last_used or 0.0),
            protected=replica.protection or ("just loaded" if is_young else ""),
            pinned=replica.model.pinned and not sleeps,
            leaving=replica.is_leaving,
            may_yield=is_serving and not is_young,
            free_at=young_until if is_serving and is_young else None,
            pending_bytes=pending,
            devices=on_devices,
            pending_devices=usage.pending_on_devices(on_devices, facts, is_there),
            is_asleep=sleeps,
            asleep=self.held_asleep(replica) if may_sleep else None,
        )

    def held_asleep(self, replica: Replica) -> Requirements:
        """What one that can sleep holds then, as far as is known."""
        run = replica.run
        assert run is not None
        assert run.facts is not None
        facts, remembered = run.facts, replica.held_asleep
        awake = max(self.reserved_bytes(replica.key), facts.memory_bytes or 0)
        weights = None if remembered else self._estimates.weights(replica.model)
        return usage.asleep(replica.key, awake, facts, remembered, weights)

    def sleep_refusal(self, replica: Replica) -> str:
        """Why it had better be unloaded than sleep; empty where it may."""
        others = [r for r in self.residents() if r.model_id != replica.key]
        resident = self.resident(replica)
        return sleep_refusal(resident, others, self.budget(), self.ports.available)

    def surplus_sleepers(self) -> list[str]:
        """Those that sleep beyond ``max_sleeping_models``, which nobody waits for."""
        asleep = [r for r in self.holders if r.is_asleep and not r.is_leaving]
        many = len(asleep) - self._settings.config.max_sleeping_models
        unwanted = [self.resident(r) for r in asleep if not len(r.waiters)]
        unwanted.sort(key=lambda resident: resident.loss)
        return [resident.model_id for resident in unwanted[: max(0, many)]]

    def residency_seconds(self, replica: Replica) -> float:
        """How long a loaded one is no victim: at least as long as it took to load or to wake up, or
        two that take turns would load more than they serve; no longer than others are left to wait.
        Not at all for what nobody has come for."""
        run = replica.run
        if run is not None and run.is_speculative:
            return 0.0
        config = self._settings.config
        seconds = run.start_seconds if run is not None else None
        as_loaded = min(seconds or 0.0, config.max_queue_wait_seconds)
        return max(config.min_residency_seconds, as_loaded)

    def _loss(self, replica: Replica, size: int) -> float:
        if self._settings.config.eviction_policy == "lru":
            return 0.0
        reload_seconds = replica.load_seconds or UNKNOWN_LOAD_SECONDS
        return loss(replica.rate.per_second(self._clock.now()), reload_seconds, size)

    # -- plans ------------------------------------------------------------------------------------

    def plan(self, replica: Replica, first: Replica | None = None) -> Plan:
        """What a start would do right now; nothing is reserved. Room that ``first`` has waited for
        longest is not taken from it."""
        waiters = replica.waiters
        found = self._plan(replica, waiters.beside, first)
        if isinstance(found, Wait) and waiters.beside.issuperset(found.on):
            return self._plan(replica, waiters.first_beside, first)
        return found

    def _plan(self, replica: Replica, beside: Collection[str], first: Replica | None) -> Plan:
        found = self._plan_memory(replica, beside, first)
        has_port = replica.run is not None or self.ports.available > 0
        if has_port or not isinstance(found, Start):
            return found
        return with_port(found, self.residents())

    def _plan_memory(
        self, replica: Replica, beside: Collection[str], first: Replica | None
    ) -> Plan:
        need = self.requirements(replica)
        others, budget = self._seen_by(replica)
        residents = protected(others, beside)
        if first is None or first.key == replica.key:
            return plan(need, residents, budget)
        # What sleeps and is to have room next has that already.
        others, beside_first = self._seen_by(replica, first)
        next_room, without_first = self._promised(first), protected(others, beside)
        if plan(need, residents, budget) == Start():  # now, and beside the other later?
            yielding = to_yield(self.requirements(first), *self._seen_by(first))
            later = [replace(r, leaving=r.leaving or r.model_id in yielding) for r in without_first]
            if isinstance(plan(need, [*later, next_room], beside_first), Start):
                return Start()
        return plan(need, [*without_first, next_room], beside_first)

    def _seen_by(self, *wanted: Replica) -> tuple[list[Resident], Budget]:
        """The others and what there is, as starts of these see them: what one of them holds asleep
        is its own, to hold awake."""
        own = [self.resident(r) for r in wanted if r.is_asleep and r.key in self._reserved]
        budget = self.budget()
        for resident in own:
            budget = budget.without(resident)
        keys = {resident.model_id for resident in own}
        return [r for r in self.residents() if r.model_id not in keys], budget

    def plan_set(
        self, replicas: Sequence[Replica], kept: Collection[str], first: Replica | None = None
    ) -> SetPlan:
        """What starts of all of them would do right now, beside those in ``kept``, which are there;
        see ``admission.plan_set``. Room that ``first`` has waited for longest is not theirs."""
        residents, budget = self._seen_by(*replicas)
        if first is not None and first not in replicas:
            residents.append(self._promised(first))
        needs = [self.requirements(replica) for replica in replicas]
        found = plan_set(needs, residents, budget, kept)
        if isinstance(found, Refuse):  # what ran beside the others may do so again
            needs = [self.requirements(replica, is_least=True) for replica in replicas]
            found = plan_set(needs, residents, budget, kept)
        return found

    def _promised(self, replica: Replica) -> Resident:
        """The room that it will have next."""
        return promised(self.requirements(replica), "has waited longest for that room")

    def to_yield(self, replica: Replica) -> tuple[str, ...]:
        """Who has to finish and go for it: all of them are needed, or it is of no use."""
        others, budget = self._seen_by(replica)
        useless = {r.key for r in self.holders if r.run is not None and r.run.yielding.is_useless}
        for beside in (replica.waiters.beside, replica.waiters.first_beside):
            residents = [
                replace(r, may_yield=r.may_yield and r.model_id not in useless)
                for r in protected(others, beside)
            ]
            if found := to_yield(self.requirements(replica), residents, budget):
                return found
        return ()

    # -- changes ----------------------------------------------------------------------------------

    def reserve(self, replica: Replica, need: Requirements | None = None) -> None:
        """Set aside what its start needs, or what was planned for it."""
        self._reserved[replica.key] = need or self.requirements(replica)

    def cancel(self, key: str) -> None:
        """A reservation was not used; what sleeps on holds what it did."""
        replica = self._replicas.get(key)
        if replica is not None and replica.is_asleep:
            self.settle_asleep(replica)
        else:
            self._reserved.pop(key, None)

    def settle_asleep(self, replica: Replica) -> None:
        """It sleeps: it holds that, and the rest is free."""
        self._reserved[replica.key] = self.held_asleep(replica)

    def release(self, key: str, port: int | None) -> None:
        """Give back a reservation and its port."""
        self._reserved.pop(key, None)
        if port is not None:
            self.ports.free(port, self._clock.now())

    def take_port(self, key: str, avoid: frozenset[int]) -> int | None:
        """None where all are taken, but for those to avoid."""
        return self.ports.take(key, self._clock.now(), avoid=avoid)

    def orphans(self) -> list[Resident]:
        """Workers of a former manager that end beside the pool."""
        return list(self._orphans.values())

    def hold_orphan(self, worker_id: str, resident: Resident) -> None:
        """What it takes counts as held by one that leaves."""
        self._orphans[worker_id] = resident

    def drop_orphan(self, worker_id: str) -> None:
        """It is gone."""
        del self._orphans[worker_id]
