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
from modelpool.pool.states import State
from modelpool.pool.status import ReplicaStatus
from modelpool_client.wire import Phase
from support.rules import fits_without, keys
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
    (State.COLD, State.ASLEEP),
    (State.UNLOADING, State.ASLEEP),
    (State.WARMING, State.ASLEEP),
    (State.ASLEEP, State.WARMING),
    (State.ASLEEP, State.UNLOADING),
    (State.ASLEEP, State.COLD),
}
ADOPTIONS = {
    (State.COLD, State.HOT),
    (State.COLD, State.UNLOADING),
    (State.COLD, State.ASLEEP),
}
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


def moves_are_legal(
    world: World, event: str, status: ReplicaStatus, previous: State, reason: str
) -> None:
    """Rule 1 and section 3: states change as the table says, one step after the other."""
    known = world.memory.states.get(status.key, State.COLD)
    assert previous is known, f"{status!r} was {known}, and changed from {previous}"
    move = (previous, status.core_state)
    assert event or move in MOVES, f"{status!r} from {previous}"
    is_adopted = reason.startswith("adopted")
    assert is_adopted or event or move not in ADOPTIONS, f"{status!r} from {previous}"
    world.memory.states[status.key] = status.core_state


def failures_cool_off(
    world: World, event: str, status: ReplicaStatus, previous: State, reason: str
) -> None:
    """Section 3: from FAILED only when the cooling-off is over, or by an explicit load."""
    if not event and (previous, status.state) == (State.FAILED, State.WARMING):
        assert world.now() >= status.failures.retry_at - EPSILON, f"{status!r} cools off"


def victims_may_go(
    world: World, event: str, status: ReplicaStatus, previous: State, reason: str
) -> None:
    """Rule 4: a busy, pinned or just loaded one is never evicted, nor a load that is waited for."""
    if event != "model-evicted":
        return
    assert not status.model.pinned, f"{status!r} is pinned"
    assert status.granted == 0, f"{status!r} is granted to {status.granted}"
    if status.asleep_since is not None and status.progress is None:
        return  # it slept, and was not to wake up
    if status.hot_since is None:
        assert status.is_speculative, f"{status!r} was loading"
        assert not status.waiting, f"{status!r} is waited for"
        return
    worker = world.by_id(status.worker_id)
    answers = not (worker.script.hangs or worker.was_told_to_end)
    assert not (answers and worker.in_flight), f"{status!r} is busy with {worker.in_flight}"
    loaded = min(status.start_seconds or 0.0, 1e9)

    def residency(config: PoolConfig) -> float:
        return max(config.min_residency_seconds, min(loaded, config.max_queue_wait_seconds))

    least = world.memory.least(world.now() - 10, residency) if not status.is_speculative else 0.0
    assert world.now() >= status.hot_since + least - EPSILON, f"{status!r} was just loaded"


def ends_have_a_cause(
    world: World, event: str, status: ReplicaStatus, previous: State, reason: str
) -> None:
    """Rule 10: what serves goes only when it was told to, is idle or evicted, or ends by itself."""
    if not event and previous.is_serving and status.state is State.UNLOADING:
        assert reason.startswith(CAUSES), f"{status!r} is unloaded because {reason}"


def leases_are_honoured(
    world: World, event: str, status: ReplicaStatus, previous: State, reason: str
) -> None:
    """Section 3, leases: COOLING begins when the lease is over and nobody uses it, not before."""
    if event or (previous, status.state) != (State.HOT, State.COOLING):
        return
    now, until = world.now(), status.lease.until
    assert until is not None, f"{status!r} has a lease without end"
    assert now >= until - EPSILON, f"{status!r} has a lease of {until - now} s more"
    promised = world.memory.leases.get(status.worker_id, now)
    assert now >= promised - EPSILON, f"{status!r} was granted {promised - now} s more"
    held = world.manager.held[status.worker_id]
    assert not held, f"{status!r} is in use by {held}"


def grace_is_honoured(
    world: World, event: str, status: ReplicaStatus, previous: State, reason: str
) -> None:
    """Section 3, grace: what is unloaded for idleness was idle for at least that long, by its own
    count, which includes requests that only it knows of."""
    is_idle_end = not event and status.state is State.UNLOADING and reason.startswith("idle: ")
    if not is_idle_end or "did not answer" in reason:
        return
    worker = world.by_id(status.worker_id)
    if not worker.is_alive:
        return
    assert worker.in_flight == 0, f"{status!r} is busy with {worker.in_flight}"
    least = world.memory.least(status.cooling_since, lambda c: c.grace_minutes * 60)
    idle = world.now() - worker.idle_since
    assert idle >= least - EPSILON, f"{status!r} was idle for {idle} s only"


def unloads_are_complete(
    world: World, event: str, status: ReplicaStatus, previous: State, reason: str
) -> None:
    """Rule 7: COLD means that the process is gone."""
    if event:
        return
    if status.state is State.UNLOADING:
        world.memory.ending[status.key] = status.worker_id
    elif (previous, status.core_state) == (State.UNLOADING, State.ASLEEP):
        world.memory.ending.pop(status.key, "")
    elif (previous, status.state) == (State.UNLOADING, State.COLD):
        ended = world.memory.ending.pop(status.key, "")
        left = [p for p in world.alive() if p.assignment.worker_id == ended]
        assert not left, f"{status!r}, but its process lives"


def refusals_are_true(
    world: World, event: str, status: ReplicaStatus, previous: State, reason: str
) -> None:
    """Rule 5: only what cannot fit, whatever else goes, is refused."""
    if event == "model-refused":
        replica = world.pool.supervisors[status.key].replica
        fits = fits_without(world, replica, keys(world.replicas))
        assert not fits, f"{status!r}, but it would fit"


def nobody_overtakes(
    world: World, event: str, status: ReplicaStatus, previous: State, reason: str
) -> None:
    """Rule 3: who starts takes no room that another has waited for beyond the limit."""
    if event or status.state is not State.WARMING or not reason.startswith("loading: "):
        return
    pool, now = world.pool, world.now()
    limit = pool.config.max_queue_wait_seconds + EPSILON
    waiting = [r for r in world.replicas if r.key in pool.scheduler and len(r.waiters)]
    late = sorted((min(w.since for w in r.waiters), r.key) for r in waiting)
    late = [pair for pair in late if now - pair[0] > limit]
    if not late or late[0][1] == status.key or (len(late) > 1 and late[0][0] == late[1][0]):
        return
    first = next(r for r in waiting if r.key == late[0][1])
    others = keys(world.replicas) - {status.key}
    could = fits_without(world, first, keys(world.replicas), twice=True)
    can = fits_without(world, first, others)
    assert can or not could, f"{status!r} took the room that {first.key} waits for"


def adoption_is_sound(
    world: World, status: ReplicaStatus, worker: SimProcess, lease_until: float | None
) -> None:
    """Rule 8: a new manager takes over the same worker, with its port and generation and no
    shorter a lease, and only one whose engine lived when it began to look."""
    assert status.port == worker.assignment.port, f"{status!r} is on {worker.assignment.port}"
    assert status.generation == worker.assignment.epoch, f"{status!r}: another generation"
    if not status.state.is_serving:
        return
    had_engine = worker.engine_lost_at > world.manager.began
    assert had_engine or worker.phase is not Phase.READY, f"{status!r} has no engine"
    if lease_until is not None and status.lease.ttl is not None:
        until = status.lease.until or 0.0
        assert until >= lease_until - EPSILON, (
            f"{status!r} lost {lease_until - until} s of its lease"
        )


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
