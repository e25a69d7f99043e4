"""The copies of one model: which takes a request, and when there are to be more or fewer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator

from modelpool.catalog.model import Model
from modelpool.pool import messages as m
from modelpool.pool.balance import Copy, choose
from modelpool.pool.clock import Clock
from modelpool.pool.replica import Replica
from modelpool.pool.scaling import Bounds, Load, Trend, step
from modelpool.pool.states import State
from modelpool.pool.supervisor import Siblings, Supervisor
from modelpool.pool.waiters import Waiter

# For whoever asks how the model is: the best copy speaks for it.
BEST_FIRST = (
    State.HOT,
    State.COOLING,
    State.WARMING,
    State.UNLOADING,
    State.ASLEEP,
    State.FAILED,
    State.COLD,
)


# No other copies are wanted.
STEADY = Trend()


class ReplicaSet:
    """The first copy is always there, further ones from when they are first wanted.

    ``make`` gives a new copy its owner; ``on_hot`` is called whenever one begins to serve.

    Attributes:
        shut: keys of copies that get no requests while another takes some.
    """

    __slots__ = ("_clock", "_last", "_make", "_on_hot", "_trend", "shut", "supervisors")

    def __init__(
        self,
        model: Model,
        make: Callable[[Replica, Siblings], Supervisor],
        clock: Clock,
        on_hot: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._make = make
        self._on_hot = on_hot
        self._trend = STEADY
        self._last = ""
        self.shut: frozenset[str] = frozenset()
        self.supervisors: list[Supervisor] = []
        self.supervisors.append(make(Replica(model), self))

    def __repr__(self) -> str:
        return f"<ReplicaSet {self.first.key}: {', '.join(r.state for r in self.replicas)}>"

    def __iter__(self) -> Iterator[Supervisor]:
        return iter(self.supervisors)

    def __len__(self) -> int:
        return len(self.supervisors)

    @property
    def replicas(self) -> list[Replica]:
        return [s.replica for s in self.supervisors]

    @property
    def first(self) -> Supervisor:
        return self.supervisors[0]

    @property
    def only(self) -> Supervisor | None:
        """The one that there is; None of several."""
        return self.supervisors[0] if len(self.supervisors) == 1 else None

    @property
    def model(self) -> Model:
        return self.first.replica.model

    @property
    def best(self) -> Supervisor:
        """The copy that speaks for the model."""
        if len(self.supervisors) == 1:
            return self.first
        return min(self.supervisors, key=lambda s: BEST_FIRST.index(s.replica.state))

    @property
    def may_scale(self) -> bool:
        """There may be several copies, or there are, from when there might."""
        return self.model.max_replicas > 1 or len(self) > 1

    # -- requests ---------------------------------------------------------------------------------

    def serving(
        self, affinity: str = "", avoid: Collection[str] = frozenset()
    ) -> Supervisor | None:
        """The copy that takes a request now; None where none can. One whose key is in ``avoid`` is
        chosen where no other has a place."""
        if len(self.supervisors) == 1:
            return self.first if self.first.replica.has_room else None
        found = {s.key: s for s in self.supervisors if s.replica.has_room}
        if self.shut and self._healthy():
            found = {key: s for key, s in found.items() if key not in self.shut}
        if avoid:
            found = {key: s for key, s in found.items() if key not in avoid} or found
        if not found:
            return None
        model = self.model
        copies = [_copy(s.replica) for s in found.values()]
        self._last = choose(copies, affinity, model.balance, self._last).key
        return found[self._last]

    def to_wait_for(self) -> Supervisor:
        """The copy that a request waits for where none can take it: for a place on one that serves,
        all at the same, so that there is one order among them; else for one that loads already."""
        if (full := self._open()) is not None:
            return full
        loading = [s for s in self.supervisors if s.replica.state is State.WARMING]
        yielding = [
            s for s in self.supervisors if s.replica.state.is_serving and not s.replica.is_leaving
        ]
        asleep = [s for s in self.supervisors if s.replica.is_asleep]
        return (loading or yielding or asleep or self.supervisors)[0]

    def _open(self) -> Supervisor | None:
        found = (s for s in self.supervisors if s.replica.is_open)
        return self._healthy() if self.shut and self._healthy() else next(found, None)

    def _healthy(self) -> Supervisor | None:
        """One that takes requests and is not shut out."""
        supervisors = self.supervisors
        return next((s for s in supervisors if s.replica.is_open and s.key not in self.shut), None)

    def post(self, message: m.Message) -> None:
        """To every copy."""
        for supervisor in tuple(self.supervisors):
            supervisor.post(message)

    def unload(self, reason: str, *, force: bool = False, cut: bool = False) -> asyncio.Future[str]:
        """End every copy. ``force`` overrules warm-up and pins, ``cut`` ends current work.
        Resolves when all are COLD."""
        loop = asyncio.get_running_loop()
        ending: list[asyncio.Future[str]] = []
        for supervisor in self.supervisors:
            outcome: asyncio.Future[str] = loop.create_future()
            ending.append(outcome)
            supervisor.post(m.Unload(reason, force, cut, outcome))
        if all(e.done() for e in ending):
            for other in ending[1:]:
                other.exception()  # refused for the same reason as the first
            return ending[0]
        return asyncio.ensure_future(_first_of_all(ending))

    def extend(self, seconds: float) -> float:
        """Add to the lease of every copy; the seconds granted to the best.

        Raises:
            Conflict: not loaded.
        """
        best = self.best
        granted = _extend(best, seconds)
        for supervisor in self.supervisors:
            if supervisor is not best and supervisor.replica.is_open:
                _extend(supervisor, seconds)
        return granted

    # -- as one of the copies sees the others -----------------------------------------------------

    def keeps(self, key: str) -> bool:
        """It stays, idle as it is, for it is one of the least number while others are used."""
        if len(self.supervisors) == 1:
            return False
        now = self._clock.now()
        up = [r for r in self.replicas if r.state is State.HOT]
        others = any(r.key != key and r.is_in_use(now) for r in up)
        return others and len(up) <= self.model.min_replicas

    def moved(self, key: str, state: State) -> None:
        """That copy is in a new state."""
        if state is State.HOT:
            self._on_hot()
        elif state is State.COOLING:  # others may have stayed for its sake
            for other in self._others(key):
                other.post(m.Tick())
        else:
            self.closed(key)

    def opened(self, key: str) -> None:
        """A copy has places: who waits for another of them need not."""
        run = self._copy(key).replica.run
        room = run.room if run is not None else 0
        for other in self._others(key):
            waiting = len(other.replica.waiters)
            if waiting and room > 0:
                other.post(m.HandOver(int(min(waiting, room))))
                room -= waiting

    def closed(self, key: str) -> None:
        """A copy takes no requests: who waits for it does so at one that does."""
        copy = self._copy(key)
        waiting = len(copy.replica.waiters)
        if waiting and self._open() is not None:
            copy.post(m.HandOver(waiting))

    def forward(self, waiter: Waiter, key: str) -> None:
        """To a copy that has a place or will have one, else back to the one that it waited for."""
        chosen = self.serving() or self._open() or self._copy(key)
        chosen.post(m.Acquire(waiter, is_forwarded=True))

    def _copy(self, key: str) -> Supervisor:
        return next(s for s in self.supervisors if s.key == key)

    def _others(self, key: str) -> list[Supervisor]:
        return [s for s in self.supervisors if s.key != key]

    # -- more and fewer ---------------------------------------------------------------------------

    def startable(self, most: int) -> Supervisor | None:
        """A copy that could be started; None where there are enough."""
        startable = [s for s in self.supervisors if s.may_start]
        asleep = [s for s in startable if s.replica.is_asleep]
        found = next(iter(asleep or startable), None)
        if found is None and len(self) < most:
            found = self._make(Replica(self.model, len(self) + 1), self)
            self.supervisors.append(found)
        return found

    def scale(self, now: float) -> None:
        """Start a copy where there is spare room for it, or let one go that is idle."""
        model = self.model
        limits = [r.run.limit for r in self.replicas if r.run is not None and r.run.limit]
        bounds = Bounds(model.min_replicas, model.max_replicas, min([model.per_replica, *limits]))
        copies = [
            s
            for s in self.supervisors
            if s.replica.state.is_serving or s.replica.state is State.WARMING
        ]
        load = Load(
            len(copies),
            sum(r.in_flight for r in self.replicas),
            sum(len(r.waiters) for r in self.replicas),
        )
        self._trend, change = step(self._trend, load, bounds, now)
        busy = f"{load.in_flight} in flight and {load.waiting} waiting on {load.copies} copies"
        if change > 0 and (startable := self.startable(bounds.most)) is not None:
            startable.post(m.LoadSpeculatively(f"scaled up: {busy}"))
        elif change < 0:
            # One that is to be kept warm would be loaded again.
            idle = [
                s
                for s in copies
                if s.replica.is_open and not (s.replica.is_busy or s.replica.keep_warm)
            ]
            if idle:
                idle[-1].post(m.StopIfIdle(f"scaled down: {busy}"))


def _copy(replica: Replica) -> Copy:
    run, model = replica.run, replica.model
    pace = run.first_token_seconds if run is not None else None
    limit = run.limit if run is not None else None
    target = min(model.per_replica, limit or model.per_replica)
    return Copy(replica.key, replica.in_flight, pace, target)


def _extend(supervisor: Supervisor, seconds: float) -> float:
    outcome: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    supervisor.post(m.Extend(seconds, outcome))
    return outcome.result()


async def _first_of_all(ending: list[asyncio.Future[str]]) -> str:
    return (await asyncio.gather(*ending))[0]
