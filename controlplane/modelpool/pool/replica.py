"""PURE: the data of a replica, which is one copy of a model, and of its present worker process.

``decide`` alone changes them. All that belongs to one worker process is its ``Run``, made when its
room is reserved and dropped at its end, so that news of a former worker reach nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from modelpool_client.wire import Facts, Failure, Progress

from modelpool.catalog.memory_estimate import runs_alike
from modelpool.catalog.model import ConcurrencyLimit, Model
from modelpool.pool.admission import Requirements
from modelpool.pool.concurrency import Search
from modelpool.pool.failures import FailureHistory
from modelpool.pool.rates import Rate
from modelpool.pool.states import Lease, State
from modelpool.pool.waiters import PRIORITIES, Outcome, Waiters
from modelpool.pool.worker import Worker
from modelpool.pool.yielding import Yielding

# Of all replicas that nothing has happened to.
NO_FAILURES, NEVER_USED, NOT_YIELDING = FailureHistory(), Rate(), Yielding()


@dataclass(eq=False, slots=True)
class Run:
    """One worker process, from the reservation of its room to its exit. Times are seconds of the
    pool's clock.

    Attributes:
        port: None where it is to come from a victim, or a stranger had the last one.
        model: the entry that it is started with; None where a former manager started it.
        is_speculative: started into spare room, and nobody has come for it yet.
        victims: the replicas whose memory it still waits for.
        is_launched: there is a process, or the start of one.
        worker: the handle of the process, once it is started and written down.
        granted: requests that the gateway was given a grant for and that have not ended.
        granted_at: when the last of them was.
        idle_grants: of these, those whose work is done or was never begun, as far as the worker
            can tell: a client that reads slowly keeps its grant, not its slot.
        direct: requests straight to its port, as it last reported.
        limit: places, for grants and for requests straight to its port; None: any number.
        limit_basis: the setting and the engine's slots from which the limit follows.
        search: what moves the limit; None where it is fixed.
        first_token_seconds: from grants to the first bytes of answers, a moving average; None where
            nothing was measured.
        requests_before_cooling: the worker's own count when COOLING began.
        drain_reason: why the worker was asked to drain if idle; empty when it was not, or has
            answered.
        has_drained: it said that it drains as it was asked to.
        is_eviction: it ends to make room.
        is_cut: its current work was told to end at once.
        is_reaping: its process has ended or is killed; what is left of it is being removed.
        is_asked_to_sleep: what it was asked is to fall asleep, not to end.
        falls_asleep_by: until when it has time for that; None where it does not fall asleep.
        asleep_since: when it had; None where it does not sleep.
        is_waking: its load is to wake it up.
        start_seconds: that it took to load, or to wake up.
        verdict: why it must end, known before its end.
        failed_at: when the worker itself said that it failed.
        check_began, checked_at: of the last health check; ``is_checking`` while it is under way.
        yields_to: the replica that has waited too long for the room of this one.
    """

    worker_id: str
    port: int | None
    lease: Lease
    began: float
    model: Model | None = None
    is_speculative: bool = False
    victims: set[str] = field(default_factory=set)
    ports_tried: frozenset[int] = frozenset()
    is_launched: bool = False
    worker: Worker | None = None
    progress: Progress | None = None
    progress_at: float = 0.0
    facts: Facts | None = None
    heard_at: float = 0.0
    granted: int = 0
    granted_at: float = 0.0
    idle_grants: int = 0
    direct: int = 0
    limit: int | None = None
    limit_basis: tuple[ConcurrencyLimit, int | None] | None = None
    search: Search | None = None
    hot_since: float | None = None
    last_used: float | None = None
    first_token_seconds: float | None = None
    cooling_since: float = 0.0
    requests_before_cooling: int = 0
    drain_reason: str = ""
    has_drained: bool = False
    is_eviction: bool = False
    is_cut: bool = False
    is_reaping: bool = False
    is_asked_to_sleep: bool = False
    falls_asleep_by: float | None = None
    asleep_since: float | None = None
    is_waking: bool = False
    start_seconds: float | None = None
    verdict: Failure | None = None
    failed_at: float | None = None
    is_checking: bool = False
    check_began: float = 0.0
    checked_at: float = 0.0
    yields_to: str = ""
    yielding: Yielding = NOT_YIELDING

    @property
    def is_busy(self) -> bool:
        """Work is in flight, as far as the manager knows."""
        return self.granted > 0 or (self.facts is not None and self.facts.in_flight > 0)

    @property
    def in_flight(self) -> int:
        """Requests on the worker: those that were granted and those that came to its port, or as
        many as it last reported, where that is more."""
        reported = self.facts.in_flight if self.facts is not None else 0
        return max(self.granted + self.direct, reported)

    @property
    def occupied(self) -> int:
        """Places that are taken, those by requests straight to its port as it last reported."""
        return self.granted - self.idle_grants + self.direct

    @property
    def room(self) -> float:
        """Grants that fit. One always does where none is at work: what its port takes directly
        must not keep the pool's own requests from it, and what it reported may be old."""
        if self.limit is None:
            return inf
        at_work = self.granted - self.idle_grants
        left = self.limit - at_work - self.direct
        return left if left > 0 else int(at_work == 0)


@dataclass(eq=False, slots=True)
class Replica:
    """One copy of a model.

    Attributes:
        since: when it came into its state, seconds since 1970.
        generation: the epoch of its present or last worker.
        waiting_for: in words, what who waits for it waits for.
        unloads: who asked for its unload and waits for the end of it.
        keep_warm: it is loaded again whenever it is down, as a warm-up model is.
        uses: requests that its workers have begun, as far as they were heard of.
        load_seconds: of the last load that succeeded.
        held_asleep: what its worker took when it last slept.
        cannot_sleep: why it is put to sleep no more; empty where it may be.
        insufficient: what was too little when it ran out of memory.
        limit_after_oom: where the search for its worker's limit begins after that.
    """

    model: Model
    number: int = 1
    state: State = State.COLD
    reason: str = "not loaded yet"
    since: float = 0.0
    generation: int = 0
    run: Run | None = None
    waiters: Waiters = field(default_factory=Waiters)
    waiting_for: str = ""
    unloads: list[Outcome] = field(default_factory=list)
    keep_warm: bool = False
    is_deleted: bool = False
    failures: FailureHistory = NO_FAILURES
    rate: Rate = NEVER_USED
    uses: int = 0
    load_seconds: float | None = None
    held_asleep: Requirements | None = None
    cannot_sleep: str = ""
    insufficient: Requirements | None = None
    limit_after_oom: int | None = None

    def __repr__(self) -> str:
        port = f" on {self.run.port}" if self.run is not None and self.run.port else ""
        return f"<Replica {self.key} {self.state}{port}: {self.reason}>"

    @property
    def key(self) -> str:
        """Its name in the pool: the model's id, with a number from the second copy on."""
        return self.model.model_id if self.number == 1 else f"{self.model.model_id}#{self.number}"

    @property
    def rank(self) -> int:
        """The class of the model: 0 is the highest."""
        return PRIORITIES[self.model.priority]

    @property
    def is_busy(self) -> bool:
        """Work is in flight, as far as the manager knows."""
        return self.run is not None and self.run.is_busy

    @property
    def in_flight(self) -> int:
        """Requests on its worker."""
        return self.run.in_flight if self.run is not None else 0

    @property
    def yields_to(self) -> str:
        """The replica for whose sake new requests wait; empty where they need not."""
        return self.run.yields_to if self.run is not None else ""

    @property
    def is_leaving(self) -> bool:
        """Its worker is ending, dead, or being asked whether it could go.

        A load whose worker just died is not: it may go on at another port.
        """
        run = self.run
        if run is None:
            return False
        has_failed = run.is_reaping or run.failed_at is not None
        is_dead = has_failed and self.state is not State.WARMING
        return self.state is State.UNLOADING or bool(run.drain_reason) or is_dead

    @property
    def is_asleep(self) -> bool:
        """Its worker waits without device memory."""
        return self.state is State.ASLEEP

    @property
    def falls_asleep(self) -> bool:
        """It leaves, but its worker is to stay."""
        run = self.run
        return run is not None and (run.is_asked_to_sleep or run.falls_asleep_by is not None)

    @property
    def can_sleep(self) -> bool:
        """Its worker knows how, and would be of use once it woke up."""
        run = self.run
        if run is None or run.facts is None or not run.facts.sleep_level:
            return False
        started_with = run.model or self.model
        is_current = started_with is self.model or runs_alike(started_with, self.model)
        return is_current and not (self.cannot_sleep or self.is_deleted)

    @property
    def is_open(self) -> bool:
        """It takes requests, now or as soon as a place is free."""
        run = self.run  # not by the properties of its parts: every request asks
        if run is None or not self.state.is_serving:
            return False
        has_failed = run.is_reaping or run.failed_at is not None
        return not (has_failed or run.drain_reason or run.yields_to)

    @property
    def has_room(self) -> bool:
        """A request would be granted at once."""
        run = self.run  # first what costs least: every request asks
        return run is not None and run.room > 0 and self.is_open

    @property
    def is_dormant(self) -> bool:
        """COLD, and nobody wants it: nothing is ever due by itself."""
        return self.state is State.COLD and self.run is None and not len(self.waiters)

    @property
    def is_speculative_load(self) -> bool:
        """A load that nobody asked for: whoever asks for another model goes first."""
        return self.state is State.WARMING and self.run is not None and self.run.is_speculative

    @property
    def protection(self) -> str:
        """Why it may not be evicted now; empty if it may."""
        if self.is_busy:
            return "busy"
        may_go = self.state.is_serving or self.is_asleep or self.is_speculative_load
        return "" if may_go else self.state.lower()

    def is_in_use(self, now: float) -> bool:
        """It works, or its lease is not over."""
        if self.run is None:
            return False
        left = self.run.lease.remaining(now)
        return self.run.is_busy or left is None or left > 0
