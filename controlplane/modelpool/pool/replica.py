"""A running copy of a model as its owner sees it: state, use, lease."""

from __future__ import annotations

import asyncio
from abc import abstractmethod

from modelpool_client.errors import Conflict, ModelNotFound, ModelPoolError, PoolStopping
from modelpool_client.wire import Facts, Failure, Phase, Progress

from modelpool.catalog.model import Model
from modelpool.pool.crew import Worker
from modelpool.pool.failures import Trouble, load_error
from modelpool.pool.house import House
from modelpool.pool.lifecycle import Lease, State, Trigger, transition
from modelpool.pool.mailbox import Mailbox
from modelpool.pool.waiters import Grant, Waiter, Waiters

REQUEST = "a request came"


class Replica(Mailbox):
    """State, use and lease. Reads of its attributes from outside are for display only."""

    def __init__(self, model: Model, house: House) -> None:
        self.model = model
        self._house = house
        super().__init__(house.clock, house.bug)
        self.state = State.COLD
        self.reason = "not loaded yet"
        self.since = self._clock.wall()
        self.generation = 0
        self.waiters = Waiters()
        self.waiting_for = ""
        self.trouble = Trouble()
        self.is_removed = False
        self.stay_up = False
        self._wish = REQUEST
        self._unloads: list[asyncio.Future[str]] = []
        self._forget_worker()
        self.lease = Lease(self._ttl())

    def __repr__(self) -> str:
        port = f" on {self.port}" if self.port else ""
        return f"<Slot {self.model.model_id} {self.state}{port}: {self.reason}>"

    def _forget_worker(self) -> None:
        self.worker_id = ""
        self.worker: Worker | None = None
        self.port: int | None = None
        self.facts: Facts | None = None
        self.granted = 0
        self.progress: Progress | None = None
        self.hot_since: float | None = None
        self.last_used: float | None = None
        self._progress_at = 0.0
        self._cooling_since = 0.0
        self._used_before_cooling = 0
        self._draining_for = ""
        self._room_from: set[str] = set()
        self._ports_tried: frozenset[int] = frozenset()
        self._verdict: Failure | None = None  # why it is to end, known before its end
        self.heard_at = 0.0
        self._looked_at = 0.0
        self._is_looking = False
        self._is_burying = False
        self._is_cut = False

    def heard(self, facts: Facts) -> None:
        self._post(self._on_facts, facts)

    def extend(self, seconds: float) -> float:
        """Add to the lease; the seconds granted.

        Raises:
            Conflict: not loaded.
        """
        if not self.state.is_serving or self.is_leaving:
            raise Conflict(
                f"{self.model.model_id} is {self.state}; only a loaded model has a lease to extend",
                code="not_loaded",
            )
        granted: list[float] = []
        self._post(self._on_extend, seconds, granted)
        return granted[0]

    def replace_model(self, model: Model) -> None:
        """Another entry for the same id; its options count from the next load on."""
        self._post(self._on_replace_model, model)

    def config_changed(self) -> None:
        self._post(self._on_config_changed)

    @property
    def is_busy(self) -> bool:
        """Work is in flight, as far as the manager knows."""
        return self.granted > 0 or (self.facts is not None and self.facts.in_flight > 0)

    @property
    def in_flight(self) -> int:
        """Requests on the worker; its own figure includes those that came to its port."""
        return max(self.granted, self.facts.in_flight if self.facts is not None else 0)

    @property
    def is_leaving(self) -> bool:
        """Its worker is ending, dead, or being asked whether it could go.

        A load whose worker just died is not: it may go on at another port.
        """
        is_dead = self._is_burying and self.state is not State.WARMING
        return self.state is State.UNLOADING or bool(self._draining_for) or is_dead

    @property
    def ailment(self) -> str:
        """Why its worker is to be replaced; empty if it is not."""
        return self._verdict.message if self._verdict is not None else ""

    @property
    def protection(self) -> str:
        """Why it may not be evicted now; empty if it may."""
        if self.is_busy:
            return "busy"
        return "" if self.state.is_serving else self.state.lower()

    def describe_wait(self) -> str:
        """For whoever waits: what for, and how far it is."""
        if self.progress is None:
            return f"{self.model.model_id} is {self.state}, waiting for {self.waiting_for}"
        share = self.progress.fraction
        percent = "" if share is None else f" {share:.0%}"
        about = " (estimated)" if percent and self.progress.estimated else ""
        return f"{self.model.model_id} is {self.state}: {self.progress.stage}{percent}{about}"

    def _on_acquire(self, waiter: Waiter) -> None:
        if self._house.is_stopping:
            waiter.outcome.set_exception(PoolStopping("the pool is shutting down"))
        elif self.is_removed:
            waiter.outcome.set_exception(
                ModelNotFound(f"{self.model.model_id} was deleted", param="model")
            )
        elif self.state.is_serving and not self.is_leaving:
            self._grant(waiter, was_hot=True)
        elif self.state is State.FAILED and self._clock.now() < self.trouble.retry_at:
            waiter.outcome.set_exception(self._failed_error())
        else:
            self.waiters.add(waiter)
            self._start_if_wanted()

    def _failed_error(self) -> ModelPoolError:
        left = self.trouble.retry_at - self._clock.now()
        return load_error(self.model.model_id, self.trouble, left)

    def _grant(self, waiter: Waiter, *, was_hot: bool) -> None:
        if waiter.is_gone:
            return
        if self.state is State.COOLING:
            self._become(Trigger.USED, "used while cooling")
        if not waiter.wants_grant:
            waiter.outcome.set_result(None)
            return
        assert self.worker is not None
        self.granted += 1
        grant = Grant(
            self.model.model_id,
            self.worker_id,
            self.worker.port,
            self.generation,
            was_hot,
            self._release,
        )
        waiter.outcome.set_result(grant)

    def _release(self, worker_id: str) -> None:
        self._post(self._on_release, worker_id)

    def _on_release(self, worker_id: str) -> None:
        if worker_id != self.worker_id or self.granted == 0:
            return
        self.granted -= 1
        if self.granted == 0:
            self._used(self._clock.now())
            self._house.changed()

    def _used(self, at: float) -> None:
        self.last_used = max(self.last_used or 0.0, at)
        self.lease = self.lease.used(at)

    def _on_facts(self, facts: Facts) -> None:
        if facts.worker_id != self.worker_id:
            return
        if self.facts is not None and facts.sequence <= self.facts.sequence:
            return
        was_busy, self.facts = self.is_busy, facts
        self.heard_at = self._clock.now()
        if facts.phase is Phase.LOADING:
            self._note_progress(facts.progress)
        elif facts.phase is Phase.FAILED:
            self._verdict = facts.failure
        elif facts.phase is Phase.READY:
            self._ready_if_known()
        elif facts.phase is Phase.DRAINING and self.state.is_serving and not self._draining_for:
            self._stop("the worker is draining by itself")
        self._note_use(facts)
        if was_busy and not self.is_busy:
            self._house.changed()

    def _note_use(self, facts: Facts) -> None:
        if not self.state.is_serving:
            return
        if facts.in_flight == 0 and facts.requests_total > 0:
            self._used(self._clock.now() - facts.idle_seconds)
        used = facts.in_flight > 0 or facts.requests_total > self._used_before_cooling
        if self.state is State.COOLING and used:
            self._become(Trigger.USED, "used while cooling, on the worker's own port")

    def _note_progress(self, progress: Progress | None) -> None:
        if progress is None or progress == self.progress:
            return
        self.progress = progress
        self._progress_at = self._clock.now()
        self._house.emit("model-progress", self)

    def _ttl(self) -> float | None:
        minutes = self.model.lease_minutes(self._house.config.default_ttl_minutes)
        return None if minutes is None else minutes * 60

    def _on_replace_model(self, model: Model) -> None:
        self.model = model
        self._on_config_changed()

    def _on_config_changed(self) -> None:
        ttl = self._ttl()
        if ttl != self.lease.ttl:
            self.lease = Lease(ttl).used(self.last_used or self._clock.now())
        self._house.changed()

    def _on_extend(self, seconds: float, granted: list[float]) -> None:
        longest = self._house.config.max_ttl_minutes * 60
        self.lease, added = self.lease.extended(seconds, self._clock.now(), longest)
        if self.state is State.COOLING:
            self._become(Trigger.USED, "lease extended while cooling")
        granted.append(added)

    def _may_idle_out(self) -> bool:
        own = self.model.auto_unload
        return self._house.config.auto_unload if own is None else own

    def _become(self, trigger: Trigger, reason: str) -> None:
        previous = self.state
        self.state = transition(previous, trigger)
        self.reason = reason
        self.since = self._clock.wall()
        self._house.moved(self, previous)

    @abstractmethod
    def _start_if_wanted(self) -> None:
        """Start if someone waits and it may."""

    @abstractmethod
    def _ready_if_known(self) -> None:
        """The worker says that it is ready."""

    @abstractmethod
    def _stop(self, reason: str, *, cut: bool = False) -> None:
        """End the worker."""
