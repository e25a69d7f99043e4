"""What must hold in the very moment of an event, whatever the state is afterwards.

One function for each rule, called with every event of the pool: the world, the event (empty for a
change of state), the copy that it concerns, the state that it was in, and the reason. Each raises
``AssertionError`` with what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelpool.config import PoolConfig
from modelpool.pool.lifecycle import State
from modelpool.pool.replica import Replica
from modelpool.pool.slot import Slot
from modelpool_client.wire import Phase
from support.rules import fits_without
from support.sim import SimProcess

if TYPE_CHECKING:
    from simulation.world import World

EPSILON = 0.01

# Section 3 of the specification, as pairs.
MOVES = {
    (State.COLD, State.WARMING),
    (State.COLD, State.HOT),
    (State.COLD, State.UNLOADING),
    (State.WARMING, State.COLD),
    (State.WARMING, State.HOT),
    (State.WARMING, State.FAILED),
    (State.WARMING, State.UNLOADING),
    (State.HOT, State.COOLING),
    (State.HOT, State.UNLOADING),
    (State.HOT, State.FAILED),
    (State.COOLING, State.HOT),
    (State.COOLING, State.UNLOADING),
    (State.COOLING, State.FAILED),
    (State.UNLOADING, State.COLD),
    (State.FAILED, State.WARMING),
    (State.FAILED, State.COLD),
}
ADOPTIONS = {(State.COLD, State.HOT), (State.COLD, State.UNLOADING)}
# Why a copy that serves may be made to go.
CAUSES = (
    "asked",
    "evicted to make room for ",
    "idle: ",
    "scaled down: ",
    "the model was deleted",
    "the pool is shutting down",
    "the worker is draining by itself",
    "the worker ended by itself",
)


@dataclass
class Memory:
    """What the rules remember from one event to the next."""

    states: dict[str, State] = field(default_factory=dict)
    ending: dict[str, str] = field(default_factory=dict)  # the worker that is unloaded, by copy
    leases: dict[str, float] = field(default_factory=dict)  # promised until, by worker
    configs: list[tuple[float, PoolConfig]] = field(default_factory=list)
    hung: dict[str, float] = field(default_factory=dict)  # since when, by worker

    def new_manager(self) -> None:
        """It has its own idea of the states, and begins with none."""
        self.states.clear()
        self.ending.clear()
        self.leases.clear()  # a worker knows only what it was told with its last report

    def least(self, since: float, what: Callable[[PoolConfig], float]) -> float:
        """The least value that a setting had since then."""
        times = [at for at, _ in self.configs]
        first = max((i for i, at in enumerate(times) if at <= since), default=0)
        return min(what(config) for _, config in self.configs[first:])


def moves_are_legal(world: World, event: str, slot: Replica, previous: State, reason: str) -> None:
    """Rule 1 and section 3: states change as the table says, one step after the other."""
    known = world.memory.states.get(slot.key, State.COLD)
    assert previous is known, f"{slot!r} was {known}, and changed from {previous}"
    move = (previous, slot.state)
    assert event or move in MOVES, f"{slot!r} from {previous}"
    is_adopted = reason.startswith("adopted")
    assert is_adopted or event or move not in ADOPTIONS, f"{slot!r} from {previous}"
    world.memory.states[slot.key] = slot.state


def failures_cool_off(
    world: World, event: str, slot: Replica, previous: State, reason: str
) -> None:
    """Section 3: from FAILED only when the cooling-off is over, or by an explicit load."""
    if not event and (previous, slot.state) == (State.FAILED, State.WARMING):
        assert world.now() >= slot.trouble.retry_at - EPSILON, f"{slot!r} cools off"


def victims_may_go(world: World, event: str, slot: Replica, previous: State, reason: str) -> None:
    """Rule 4: a busy, pinned or just loaded one is never evicted, nor a load that is waited for."""
    if event != "model-evicted":
        return
    assert not slot.model.pinned, f"{slot!r} is pinned"
    assert slot.granted == 0, f"{slot!r} is granted to {slot.granted}"
    if slot.hot_since is None:
        assert slot.is_spare, f"{slot!r} was loading"
        assert not len(slot.waiters), f"{slot!r} is waited for"
        return
    worker = world.by_id(slot.worker_id)
    answers = not (worker.script.hangs or worker.was_told_to_end)
    assert not (answers and worker.in_flight), f"{slot!r} is busy with {worker.in_flight}"
    loaded = min(slot.load_seconds or 0.0, 1e9)

    def residency(config: PoolConfig) -> float:
        return max(config.min_residency_seconds, min(loaded, config.max_queue_wait_seconds))

    least = world.memory.least(world.now() - 10, residency) if not slot.is_spare else 0.0
    assert world.now() >= slot.hot_since + least - EPSILON, f"{slot!r} was just loaded"


def ends_have_a_cause(
    world: World, event: str, slot: Replica, previous: State, reason: str
) -> None:
    """Rule 10: what serves goes only when it was told to, is idle or evicted, or ends by itself."""
    if not event and previous.is_serving and slot.state is State.UNLOADING:
        assert reason.startswith(CAUSES), f"{slot!r} is unloaded because {reason}"


def leases_are_honoured(
    world: World, event: str, slot: Replica, previous: State, reason: str
) -> None:
    """Section 3, leases: COOLING begins when the lease is over and nobody uses it, not before."""
    if event or (previous, slot.state) != (State.HOT, State.COOLING):
        return
    now, until = world.now(), slot.lease.until
    assert until is not None, f"{slot!r} has a lease without end"
    assert now >= until - EPSILON, f"{slot!r} has a lease of {until - now} s more"
    promised = world.memory.leases.get(slot.worker_id, now)
    assert now >= promised - EPSILON, f"{slot!r} was granted {promised - now} s more"
    held = world.manager.held[slot.worker_id]
    assert not held, f"{slot!r} is in use by {held}"


def grace_is_honoured(
    world: World, event: str, slot: Replica, previous: State, reason: str
) -> None:
    """Section 3, grace: what is unloaded for idleness was idle for at least that long, by its own
    count, which includes requests that only it knows of."""
    is_idle_end = not event and slot.state is State.UNLOADING and reason.startswith("idle: ")
    if not is_idle_end or "did not answer" in reason:
        return
    worker = world.by_id(slot.worker_id)
    if not worker.is_alive:
        return
    assert worker.in_flight == 0, f"{slot!r} is busy with {worker.in_flight}"
    least = world.memory.least(slot._cooling_since, lambda c: c.grace_minutes * 60)
    idle = world.now() - worker.idle_since
    assert idle >= least - EPSILON, f"{slot!r} was idle for {idle} s only"


def unloads_are_complete(
    world: World, event: str, slot: Replica, previous: State, reason: str
) -> None:
    """Rule 7: COLD means that the process is gone."""
    if event:
        return
    if slot.state is State.UNLOADING:
        world.memory.ending[slot.key] = slot.worker_id
    elif (previous, slot.state) == (State.UNLOADING, State.COLD):
        ended = world.memory.ending.pop(slot.key, "")
        left = [p for p in world.alive() if p.assignment.worker_id == ended]
        assert not left, f"{slot!r}, but its process lives"


def refusals_are_true(
    world: World, event: str, slot: Replica, previous: State, reason: str
) -> None:
    """Rule 5: only what cannot fit, whatever else goes, is refused."""
    if event == "model-refused":
        assert isinstance(slot, Slot)
        fits = fits_without(world, slot, world.pool.slots)
        assert not fits, f"{slot!r}, but it would fit"


def nobody_overtakes(world: World, event: str, slot: Replica, previous: State, reason: str) -> None:
    """Rule 3: who starts takes no room that another has waited for beyond the patience."""
    if event or slot.state is not State.WARMING or not reason.startswith("loading: "):
        return
    pool, now = world.pool, world.now()
    patience = pool.config.max_queue_wait_seconds + EPSILON
    waiting = [s for s in pool.slots if s.key in pool.line and len(s.waiters)]
    late = sorted((min(w.since for w in s.waiters), s.key) for s in waiting)
    late = [pair for pair in late if now - pair[0] > patience]
    if not late or late[0][1] == slot.key or (len(late) > 1 and late[0][0] == late[1][0]):
        return
    first = next(s for s in waiting if s.key == late[0][1])
    others = [s for s in pool.slots if s.key != slot.key]
    could = fits_without(world, first, pool.slots, twice=True)
    can = fits_without(world, first, others)
    assert can or not could, f"{slot!r} took the room that {first.key} waits for"


def adoption_is_sound(
    world: World, slot: Slot, worker: SimProcess, lease_until: float | None
) -> None:
    """Rule 8: a new manager takes over the same worker, with its port and generation and no
    shorter a lease, and only one whose engine lived when it began to look."""
    assert slot.port == worker.assignment.port, f"{slot!r} is on {worker.assignment.port}"
    assert slot.generation == worker.assignment.epoch, f"{slot!r}: another generation"
    if not slot.state.is_serving:
        return
    had_engine = worker.engine_lost_at > world.manager.began
    assert had_engine or worker.phase is not Phase.READY, f"{slot!r} has no engine"
    if lease_until is not None and slot.lease.ttl is not None:
        until = slot.lease.until or 0.0
        assert until >= lease_until - EPSILON, f"{slot!r} lost {lease_until - until} s of its lease"


MOMENTS = (
    moves_are_legal,
    failures_cool_off,
    victims_may_go,
    ends_have_a_cause,
    leases_are_honoured,
    grace_is_honoured,
    unloads_are_complete,
    refusals_are_true,
    nobody_overtakes,
)
