"""What the pool has to give: bytes of the host and of devices, ports and places for models.

Who asks plans and reserves in one synchronous step; nothing here waits or tells anybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from modelpool.catalog.memory_estimate import Claim, MemoryEstimate
from modelpool.catalog.model import Model
from modelpool.pool import usage
from modelpool.pool.admission import (
    Budget,
    Plan,
    Requirements,
    Resident,
    Start,
    plan,
    to_yield,
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

    def device_memory(self, model: Model) -> Mapping[str, Claim]:
        """On each device that has a budget."""
        ...

    def effective(self, model: Model) -> Model:
        """With the options that these are for."""
        ...


class AvailableMemory(Protocol):
    """The host's memory."""

    def available(self) -> int:
        """Bytes that the host could give now."""
        ...


class Resources:
    """Who holds what. ``replicas`` are those of the pool, by key."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        replicas: Mapping[str, Replica],
        estimates: MemoryEstimates,
        host: AvailableMemory,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._replicas = replicas
        self._estimates = estimates
        self._host = host
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

    def requirements(self, replica: Replica) -> Requirements:
        """What a start of it would take."""
        model = replica.model
        host, devices = self.memory_estimate(model).claim, self._estimates.device_memory(model)
        others = [r for r in self.holders if r is not replica]
        stay = [self.resident(r) for r in others if r.model.pinned and not r.is_leaving]
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
        return [*(self.resident(replica) for replica in self.holders), *self.orphans()]

    def budget(self) -> Budget:
        """What all starts together may use."""
        config = self._settings.config
        return Budget(
            config.max_concurrent_models,
            config.memory_limit_bytes,
            self._host.available(),
            config.device_budgets,
        )

    def resident(self, replica: Replica) -> Resident:
        """A replica that holds a reservation, as admission sees it."""
        now, config, run = self._clock.now(), self._settings.config, replica.run
        reserved = self._reserved[replica.key]
        facts = run.facts if run is not None else None
        hot_since = run.hot_since if run is not None else None
        last_used = run.last_used if run is not None else None
        size, pending = usage.of_host(reserved.bytes, facts, hot_since is not None)
        young_until = (now if hot_since is None else hot_since) + self.residency_seconds(replica)
        is_young, is_serving = now < young_until, replica.state.is_serving
        return Resident(
            replica.key,
            size,
            loss=(-replica.rank, self._loss(replica, size), last_used or 0.0),
            protected=replica.protection or ("just loaded" if is_young else ""),
            pinned=replica.model.pinned,
            leaving=replica.is_leaving,
            may_yield=is_serving and not is_young,
            free_at=young_until if is_serving and is_young else None,
            pending_bytes=pending,
            devices=usage.of_devices(reserved.devices, facts, config.device_budgets),
        )

    def residency_seconds(self, replica: Replica) -> float:
        """How long a loaded one is no victim: at least as long as it took to load, or two that
        take turns would load more than they serve; no longer than others are left to wait. Not at
        all for what nobody has come for."""
        if replica.run is not None and replica.run.is_speculative:
            return 0.0
        config = self._settings.config
        as_loaded = min(replica.load_seconds or 0.0, config.max_queue_wait_seconds)
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
        need, residents, budget = self.requirements(replica), self.residents(), self.budget()
        if first is None or first.key == replica.key:
            return plan(need, residents, budget)
        promised = self._promised(first)
        if plan(need, residents, budget) == Start():  # now, and beside the other later?
            yielding = to_yield(self.requirements(first), residents, budget)
            later = [replace(r, leaving=r.leaving or r.model_id in yielding) for r in residents]
            if isinstance(plan(need, [*later, promised], budget), Start):
                return Start()
        return plan(need, [*residents, promised], budget)

    def _promised(self, replica: Replica) -> Resident:
        """The room that it will have next."""
        need = self.requirements(replica)
        why = "has waited longest for that room"
        return Resident(
            replica.key, need.bytes, (), why, pending_bytes=need.bytes, devices=need.devices
        )

    def to_yield(self, replica: Replica) -> tuple[str, ...]:
        """Who has to finish and go for it: all of them are needed, or it is of no use."""
        useless = {r.key for r in self.holders if r.run is not None and r.run.yielding.is_useless}
        residents = [
            replace(r, may_yield=r.may_yield and r.model_id not in useless)
            for r in self.residents()
        ]
        return to_yield(self.requirements(replica), residents, self.budget())

    # -- changes ----------------------------------------------------------------------------------

    def reserve(self, replica: Replica) -> None:
        """Set aside what its start needs."""
        self._reserved[replica.key] = self.requirements(replica)

    def cancel(self, key: str) -> None:
        """A reservation was not used."""
        self._reserved.pop(key, None)

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
