"""What must hold of a simulated pool whenever nothing is left to do in this moment.

One function for each rule; its docstring names the rule of the house that it guards. Each raises
``AssertionError`` with what is wrong.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from math import inf
from typing import TYPE_CHECKING

from modelpool.pool.admission import Start
from modelpool.pool.context import Context
from modelpool.pool.decide.sleeping import sleep_due
from modelpool.pool.decide.watching import may_idle_out
from modelpool.pool.replica import Replica
from modelpool.pool.requirements import OOM_HEADROOM
from modelpool.pool.states import State
from modelpool_client.wire import Phase

if TYPE_CHECKING:
    from .sim import SimProcess, SimWorld

LATE = 1.0  # so much later than it is due something may happen


def of_the_pool(world: SimWorld) -> list[SimProcess]:
    """The living, but for late ones, which are ended in the moment in which they come, and
    orphans, which nobody needs."""
    others = world.pool_workers.late | world.pool.orphans.worker_ids
    return [p for p in world.alive() if p.assignment.worker_id not in others]


def no_handler_fails(world: SimWorld) -> None:
    """Rule 1: the owner of a state handles every message; one that fails is a bug of ours."""
    assert not world.bugs, f"bugs: {world.bugs}"


def events_have_reasons(world: SimWorld) -> None:
    """Rule 10: every event and every change of state carries a reason."""
    assert all(reason for *_, reason in world.events[world.checked_events :]), "no reason"
    world.checked_events = len(world.events)


def one_worker_per_copy(world: SimWorld) -> None:
    """Rules 1 and 3: never two workers of the same copy, and none that nobody owns."""
    living = of_the_pool(world)
    alive = Counter(world.key_of(p) for p in living)
    assert all(n == 1 for n in alive.values()), f"two workers of one copy: {alive}"
    owned = {r.run.worker_id for r in world.replicas if r.run is not None}
    stray = [p for p in living if p.assignment.worker_id not in owned]
    assert not stray, f"processes without an owner: {[p.assignment.model_id for p in stray]}"


def within_limits(world: SimWorld) -> None:
    """Rule 5 and admission: count, bytes and host are kept; what a limit was lowered under stays,
    but nothing comes to it."""
    pool = world.pool
    living = [p for p in world.alive() if p.assignment.worker_id not in world.pool_workers.late]
    reserved = [pool.reserved_bytes(r.key) for r in world.replicas]
    asleep = sum(r.is_asleep for r in world.replicas)
    promised, count = sum(reserved), sum(1 for r in reserved if r) - asleep
    # One that waits for room to wake up holds a place, and none yet.
    awake = sum(not (p.is_asleep or world.is_waking(p)) for p in living)
    size = sum(p.resident if p.was_ready else p.size for p in living)
    config = pool.config
    limits: list[tuple[str, float, int, int]] = [
        ("models", config.max_concurrent_models, awake, count),
        ("bytes", config.memory_limit_bytes, size, promised),
        ("bytes of the host", world.host_bytes, world.used_bytes(), promised),
    ]
    for device in sorted({d for needs in world.device_needs.values() for d in needs}):
        used = sum(p.devices.get(device, 0) for p in living)
        held = sum(r.devices.get(device, 0) for r in pool.residents().values())
        limits.append((device, config.device_budgets.get(device, inf), used, held))
    for name, limit, used, held in limits:
        before = world.ceilings.get(name, limit)
        ceiling = world.ceilings[name] = max(limit, min(before, max(used, held)))
        assert used <= ceiling, f"over the limit of {name}: {used} of {ceiling}"


def reservations_are_true(world: SimWorld) -> None:
    """Rules 5 and 6: who has a worker has a reservation of the size that was planned, nobody else
    has one."""
    for replica in world.replicas:
        reserved = world.pool.reserved_bytes(replica.key)
        right = bool(reserved) == replica.state.has_worker
        assert right, f"a reservation too many or lost: {replica!r}"
    for process in of_the_pool(world):
        reserved = world.pool.reserved_bytes(world.key_of(process))
        taken = process.resident if process.was_ready else process.size
        short = 0 < reserved < taken and not process.is_adopted
        assert not short, f"less is reserved than it takes: {process.assignment.model_id}"
    for replica in world.replicas:
        run = replica.run
        slept = run is not None and run.asleep_since is not None  # and holds no more until it wakes
        if run is not None and not (slept and replica.state is not State.WARMING):
            needs = world.device_needs.get(replica.model.model_id, {})
            devices = world.pool.resources.resident(replica).devices
            # One that ran out of memory has more set aside.
            right = devices.keys() == needs.keys() and all(
                size <= devices[device] <= size * OOM_HEADROOM for device, size in needs.items()
            )
            assert right, f"of devices {replica!r} has {devices}, not {needs}"


def ports_are_kept(world: SimWorld) -> None:
    """Section 3, ports: each is held once and within the range, and none is lost."""
    pool = world.pool
    late = world.pool_workers.late  # they find their port taken, or are ended before
    ports = [p.assignment.port for p in world.alive() if p.assignment.worker_id not in late]
    assert len(ports) == len(set(ports)), "two workers on one port"
    assert all(p in pool.config.port_range for p in ports), "a port out of the range"
    held = [r.run.port for r in world.replicas if r.run is not None and r.run.port is not None]
    held += pool.orphans.ports
    assert len(held) == len(set(held)), "two workers hold one port"
    free = len(pool.config.port_range) - len(held)
    assert pool.ports.available == free, f"ports lost: {pool.ports}, {held}"
    wrong = [r for r in world.replicas if (r.run is not None) != r.state.has_worker]
    assert not wrong, f"a port without a worker: {wrong}"


def no_work_is_cut(world: SimWorld) -> None:
    """Rule 4: current work ends; only what was told to end, or hangs, may be cut."""
    cut = [p for p in world.processes if p.cut and not (p.was_told_to_end or p.script.hangs)]
    assert not cut, f"work was cut: {[p.assignment.model_id for p in cut]}"


def records_are_true(world: SimWorld) -> None:
    """Rule 8: who serves is written down, so that a later manager finds it; what is gone is not."""
    others = world.pool_workers.late | world.pool.orphans.worker_ids
    to_forget = world.pool_workers._to_forget.keys() | others
    runs = [r.run for r in world.replicas if r.run is not None]
    for replica in world.replicas:
        if replica.state.is_serving and not replica.is_leaving:
            assert replica.run is not None
            assert replica.run.worker_id in world.records, f"not written down: {replica!r}"
    owned = {run.worker_id for run in runs}
    left = [r for r in world.records.values() if r.worker_id not in owned]
    gone = [r.model_id for r in left if r.worker_id not in to_forget]
    assert not gone, f"records of what is gone: {gone}"


def waiters_wait_for_something(world: SimWorld) -> None:
    """Rule 3: whoever waits waits for something that will come."""
    now, scheduler = asyncio.get_running_loop().time(), world.pool.scheduler
    for supervisor in world.pool.supervisors.values():
        replica = supervisor.replica
        if not len(replica.waiters):
            continue
        is_queued = replica.key in scheduler
        retry_at = replica.failures.retry_at
        backs_off = replica.state is State.FAILED and now < retry_at
        is_due = supervisor.timer_at <= retry_at
        moves = replica.state in (State.WARMING, State.UNLOADING) or replica.is_leaving
        run = replica.run
        held_until = run.yielding.until if run and run.yields_to in scheduler else None
        yields = held_until is not None and (now <= held_until + LATE)
        is_full = replica.is_open and not replica.has_room
        works = is_full and run is not None and run.granted > 0
        assert moves or is_queued or yields or works or (backs_off and is_due), (
            f"waits for nothing: {replica!r}"
        )


def places_are_used(world: SimWorld) -> None:
    """Rule 3: nobody waits for a model of which a copy has a place."""
    for copies in world.pool.sets:
        free = [r for r in copies.replicas if r.has_room]
        waiting = [r for r in copies.replicas if len(r.waiters)]
        assert not (free and waiting), f"{waiting} could be served by {free}"


def leases_end(world: SimWorld) -> None:
    """Section 3: a lease and a grace that are over are acted on; no deadline is forgotten."""
    now = asyncio.get_running_loop().time()
    for replica in world.replicas:
        if (due := _idle_until(world, replica)) is not None:
            assert now <= due + LATE, f"its time is over: {replica!r}"


def _idle_until(world: SimWorld, replica: Replica) -> float | None:
    run, config = replica.run, world.pool.config
    is_idle = not (replica.is_busy or replica.is_leaving)
    if run is None or not is_idle or not may_idle_out(replica, Context(0.0, 0.0, config, False)):
        return None
    if replica.state is State.HOT:
        return run.lease.until
    if replica.state is State.COOLING:
        return run.cooling_since + config.grace_minutes * 60
    return None


def sleeps_end(world: SimWorld) -> None:
    """To sleep, and to fall asleep, have their limits, and no more sleep than may."""
    now, config = asyncio.get_running_loop().time(), world.pool.config
    for replica in world.replicas:
        context = Context(now, 0.0, config, False)
        due = sleep_due(replica, context)
        assert due is None or now <= due + LATE, f"it has slept for too long: {replica!r}"
    asleep = [r for r in world.replicas if r.is_asleep and not r.is_leaving]
    unwanted = [r for r in asleep if not len(r.waiters)]
    assert len(unwanted) <= config.max_sleeping_models, f"too many sleep: {unwanted}"


def what_sleeps_holds_little(world: SimWorld) -> None:
    """What sleeps has no memory of a device, as the pool counts and as it is, and serves nobody."""
    for process in of_the_pool(world):
        replica = world.replica_of(process.assignment.worker_id)
        if replica is None or not replica.is_asleep or replica.is_leaving:
            continue
        held = world.pool.resources.resident(replica).devices
        assert not any(held.values()), f"{replica!r} holds {held}"
        assert process.phase is not Phase.READY, f"{replica!r} is awake"
        assert replica.run is not None
        assert not replica.run.granted, f"{replica!r} serves"


def is_reaping(replica: Replica) -> bool:
    """What is left of its dead worker is being removed."""
    return replica.run is not None and replica.run.is_reaping


def room_is_used(world: SimWorld) -> None:
    """Rule 3: nobody waits for room that is there, unless the end of another will wake him."""
    if any(r.is_leaving or is_reaping(r) for r in world.replicas):
        return
    scheduler = world.pool.scheduler
    for replica in world.replicas:
        if replica.key in scheduler:
            decision = scheduler.plan(replica)
            assert not isinstance(decision, Start), f"{replica.key} waits, but {decision}"


def nobody_starves(world: SimWorld) -> None:
    """Rule 3: who has waited for room beyond ``max_queue_wait_seconds`` has what serves in his way
    yield, just loaded ones excepted, if he is the first and that would help. Who has yielded in
    vain need not again while what he worked on then goes on. What just died is planned with once it
    is reaped."""
    pool, replicas = world.pool, world.replicas
    if any(is_reaping(r) for r in replicas):
        return
    now = asyncio.get_running_loop().time()
    limit = pool.config.max_queue_wait_seconds + LATE
    queued = [r for r in replicas if r.key in pool.scheduler and len(r.waiters)]
    late = [(min(w.since for w in r.waiters), r) for r in queued]
    late = sorted(((t, r) for t, r in late if now - t > limit), key=lambda pair: pair[0])
    if not late or (len(late) > 1 and late[0][0] == late[1][0]):  # nobody is the first
        return
    first = late[0][1]
    serving = [
        r
        for r in replicas
        if r.state.is_serving
        and r.run is not None
        and now > (r.run.hot_since or now) + pool.resources.residency_seconds(r) + LATE
        and not (r.is_busy and r.run.yielding.is_useless)
    ]
    going = [r for r in replicas if r.is_leaving or r.yields_to or is_reaping(r)]
    helps = fits_without(world, first, keys(serving), twice=True)
    is_helped = fits_without(world, first, keys(going))
    assert is_helped or not helps, f"{first.key} has waited for too long, nobody yields: {serving}"


def keys(replicas: Iterable[Replica]) -> set[str]:
    """Their names in the pool."""
    return {r.key for r in replicas}


def fits_without(
    world: SimWorld, wanted: Replica, gone: Collection[str], *, twice: bool = False
) -> bool:
    """Whether the start would fit if those were gone, pinned ones excepted. That fewer residents
    never make it fit worse spares a search through their subsets.

    ``twice``: as admission sees the host, which counts what a load has by now once as taken and
    once as still to be taken.
    """
    pool = world.pool
    stay = [
        other
        for other in world.replicas
        if pool.reserved_bytes(other.key)
        and other.key != wanted.key
        and (other.key not in gone or (other.model.pinned and not other.is_leaving))
    ]
    held = sum(pool.reserved_bytes(other.key) for other in stay)
    in_memory = [other for other in stay if not other.is_asleep]
    requirements = pool.resources.requirements(wanted)
    need, devices = requirements.bytes, requirements.devices
    config = pool.config
    for device in devices.keys() & config.device_budgets.keys():
        taken = sum(pool.resources.resident(other).devices.get(device, 0) for other in stay)
        if taken + devices[device] > config.device_budgets[device]:
            return False
    warming = {r.run.worker_id for r in stay if r.run and r.state is State.WARMING}
    loading = warming if twice else set()
    counted = sum(p.resident for p in world.alive() if p.assignment.worker_id in loading)
    return (
        len(in_memory) < config.max_concurrent_models
        and held + need <= config.memory_limit_bytes
        and held + need + counted <= world.host_bytes
    )


RULES: tuple[Callable[[SimWorld], None], ...] = (
    no_handler_fails,
    events_have_reasons,
    one_worker_per_copy,
    within_limits,
    reservations_are_true,
    ports_are_kept,
    no_work_is_cut,
    records_are_true,
    waiters_wait_for_something,
    places_are_used,
    leases_end,
    sleeps_end,
    what_sleeps_holds_little,
)
# Only when the loop has nothing to do right now.
SETTLED = (room_is_used, nobody_starves)
