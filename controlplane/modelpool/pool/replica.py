"""A running copy of a model: its state, what is known of its worker, and how that reads."""

from __future__ import annotations

import asyncio

from modelpool_client.wire import Facts, Failure, Progress

from modelpool.catalog.model import Model
from modelpool.pool.admission import Need
from modelpool.pool.crew import Worker
from modelpool.pool.failures import Trouble
from modelpool.pool.holding import Holding
from modelpool.pool.house import House
from modelpool.pool.lifecycle import Lease, State, Trigger, transition
from modelpool.pool.mailbox import Mailbox
from modelpool.pool.queueing import Place
from modelpool.pool.rates import Rate
from modelpool.pool.waiters import PRIORITIES, Waiters


class Replica(Mailbox):
    """Reads of its attributes from outside are for display only."""

    def __init__(self, model: Model, house: House, number: int = 1) -> None:
        self.model = model
        self.number = number
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
        self.rate = Rate()
        self.uses = 0  # requests that its workers have begun, as far as they were heard of
        self.load_seconds: float | None = None  # of the last load that succeeded
        self.fell_short: Need | None = None  # what was too little when it ran out of memory
        self.yields_to = ""
        self._unloads: list[asyncio.Future[str]] = []
        self._forget_worker()
        self.lease = Lease(self._ttl())

    def __repr__(self) -> str:
        port = f" on {self.port}" if self.port else ""
        return f"<Slot {self.key} {self.state}{port}: {self.reason}>"

    @property
    def key(self) -> str:
        """Its name in the ledger: the model's id, with a number from the second copy on."""
        return self.model.model_id if self.number == 1 else f"{self.model.model_id}#{self.number}"

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
        self._failed_at: float | None = None  # when its worker said so
        self.heard_at = 0.0
        self._looked_at = 0.0
        self._look_began = 0.0
        self._is_looking = False
        self._is_burying = False
        self._is_cut = False
        self.holding = Holding()
        self.is_spare = False  # started into spare room, and nobody has come for it yet
        self.launched: Model | None = None  # the entry that it was started with; None: adopted
        self._began = 0.0

    @property
    def rank(self) -> int:
        """The class of the model: 0 is the highest."""
        return PRIORITIES[self.model.priority]

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
        has_failed = self._is_burying or self._failed_at is not None
        is_dead = has_failed and self.state is not State.WARMING
        return self.state is State.UNLOADING or bool(self._draining_for) or is_dead

    @property
    def is_open(self) -> bool:
        """A request would be granted at once."""
        return self.state.is_serving and not self.is_leaving and not self.yields_to

    @property
    def is_in_use(self) -> bool:
        """It works, or its lease is not over."""
        left = self.lease.remaining(self._clock.now())
        return self.is_busy or left is None or left > 0

    @property
    def may_start(self) -> bool:
        """It is down, and nothing forbids to start it."""
        cools_off = self._clock.now() < self.trouble.retry_at
        is_down = self.state is State.COLD or (self.state is State.FAILED and not cools_off)
        return is_down and not (self._is_burying or self._house.is_stopping or self.is_removed)

    @property
    def ailment(self) -> str:
        """Why its worker is to be replaced; empty if it is not."""
        return self._verdict.message if self._verdict is not None else ""

    @property
    def is_mere_guess(self) -> bool:
        """A load that nobody asked for: whoever asks for another model goes first."""
        return self.is_spare and self.state is State.WARMING

    @property
    def protection(self) -> str:
        """Why it may not be evicted now; empty if it may."""
        if self.is_busy:
            return "busy"
        may_go = self.state.is_serving or self.is_mere_guess
        return "" if may_go else self.state.lower()

    @property
    def place(self) -> Place | None:
        """Where it stands among those that wait for room; None if it does not."""
        return self._house.place(self)

    def describe_wait(self) -> str:
        """For whoever waits: what for, and how far it is."""
        if self.progress is None:
            place = self.place
            where = f" (number {place.position} of {place.length})" if place is not None else ""
            return f"{self.key} is {self.state}, waiting for {self.waiting_for}{where}"
        share = self.progress.fraction
        percent = "" if share is None else f" {share:.0%}"
        about = " (estimated)" if percent and self.progress.estimated else ""
        return f"{self.key} is {self.state}: {self.progress.stage}{percent}{about}"

    def _ttl(self) -> float | None:
        minutes = self.model.lease_minutes(self._house.config.default_ttl_minutes)
        return None if minutes is None else minutes * 60

    def _may_idle_out(self) -> bool:
        own = self.model.auto_unload
        return self._house.config.auto_unload if own is None else own

    def _become(self, trigger: Trigger, reason: str) -> None:
        previous = self.state
        self.state = transition(previous, trigger)
        self.reason = reason
        self.since = self._clock.wall()
        self._house.moved(self, previous)
