"""What must hold of a simulated pool whenever nothing is left to do in this moment.

One function for each rule; its docstring names the rule of the house that it guards. Each raises
``AssertionError`` with what is wrong.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from modelpool.pool.admission import Start
from modelpool.pool.lifecycle import State
from modelpool.pool.needs import OOM_HEADROOM
from modelpool.pool.slot import Slot

if TYPE_CHECKING:
    from .sim import SimProcess, SimWorld

LATE = 1.0  # so much later than it is due something may happen


def of_the_pool(world: SimWorld) -> list[SimProcess]:
    """The living, but for late ones, which are ended in the moment in which they come, and strays,
    which nobody needs."""
    others = world.crew.late | world.pool.strays.worker_ids
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
    owned = {s.worker_id for s in world.pool.slots if s.state.has_worker or s._is_burying}
    stray = [p for p in living if p.assignment.worker_id not in owned]
    assert not stray, f"processes without an owner: {[p.assignment.model_id for p in stray]}"


def within_limits(world: SimWorld) -> None:
    """Rule 5 and admission: count, bytes and host are kept; what a limit was lowered under stays,
    but nothing comes to it."""
    pool = world.pool
    living = [p for p in world.alive() if p.assignment.worker_id not in world.crew.late]
    reserved = [pool.reserved_bytes(s.key) for s in pool.slots]
    promised, count = sum(reserved), sum(1 for r in reserved if r)
    size = sum(p.size for p in living)
    config = pool.config
    limits: list[tuple[str, float, int, int]] = [
        ("models", config.max_concurrent_models, len(living), count),
        ("bytes", config.memory_limit_bytes, size, promised),
        ("bytes of the host", world.host_bytes, world.used_bytes(), promised),
    ]
    for device in sorted({d for needs in world.device_needs.values() for d in needs}):
        used = sum(p.devices.get(device, 0) for p in living)
        held = sum(r.devices.get(device, 0) for r in pool.residents())
        limits.append((device, config.device_budgets.get(device, inf), used, held))
    for name, limit, used, held in limits:
        before = world.ceilings.get(name, limit)
        ceiling = world.ceilings[name] = max(limit, min(before, max(used, held)))
        assert used <= ceiling, f"over the limit of {name}: {used} of {ceiling}"


def ledger_is_true(world: SimWorld) -> None:
    """Rules 5 and 6: who has a worker has a reservation of the size that was planned, nobody else
    has one."""
    for slot in world.pool.slots:
        reserved = world.pool.reserved_bytes(slot.key)
        right = bool(reserved) == slot.state.has_worker
        assert right, f"a reservation too many or lost: {slot!r}"
    for process in of_the_pool(world):
        reserved = world.pool.reserved_bytes(world.key_of(process))
        short = 0 < reserved < process.size and not process.is_adopted
        assert not short, f"less is reserved than it takes: {process.assignment.model_id}"
    for slot in world.pool.slots:
        if world.pool.reserved_bytes(slot.key):
            needs = world.device_needs.get(slot.model.model_id, {})
            devices = world.pool.resident(slot).devices
            # One that ran out of memory has more set aside.
            right = devices.keys() == needs.keys() and all(
                size <= devices[device] <= size * OOM_HEADROOM for device, size in needs.items()
            )
            assert right, f"of devices {slot!r} has {devices}, not {needs}"


def ports_are_kept(world: SimWorld) -> None:
    """Section 3, ports: each is held once and within the range, and none is lost."""
    pool = world.pool
    late = world.crew.late  # they find their port taken, or are ended before
    ports = [p.assignment.port for p in world.alive() if p.assignment.worker_id not in late]
    assert len(ports) == len(set(ports)), "two workers on one port"
    assert all(p in pool.config.port_range for p in ports), "a port out of the range"
    held = [slot.port for slot in pool.slots if slot.port is not None] + pool.strays.ports
    assert len(held) == len(set(held)), "two workers hold one port"
    free = len(pool.config.port_range) - len(held)
    assert pool.ports.available == free, f"ports lost: {pool.ports}, {held}"
    wrong = [s for s in pool.slots if s.port is not None and not s.state.has_worker]
    assert not wrong, f"a port without a worker: {wrong}"


def no_work_is_cut(world: SimWorld) -> None:
    """Rule 4: current work ends; only what was told to end, or hangs, may be cut."""
    cut = [p for p in world.processes if p.cut and not (p.was_told_to_end or p.script.hangs)]
    assert not cut, f"work was cut: {[p.assignment.model_id for p in cut]}"


def records_are_true(world: SimWorld) -> None:
    """Rule 8: who serves is written down, so that a later manager finds it; what is gone is not."""
    to_forget = world.crew._to_forget.keys() | world.crew.late | world.pool.strays.worker_ids
    for slot in world.pool.slots:
        if slot.state.is_serving and not slot.is_leaving:
            assert slot.worker_id in world.records, f"not written down: {slot!r}"
    owned = {s.worker_id for s in world.pool.slots if s.state.has_worker or s._is_burying}
    left = [r for r in world.records.values() if r.worker_id not in owned]
    gone = [r.model_id for r in left if r.worker_id not in to_forget]
    assert not gone, f"records of what is gone: {gone}"


def waiters_wait_for_something(world: SimWorld) -> None:
    """Rule 3: whoever waits waits for something that will come."""
    now = asyncio.get_running_loop().time()
    for slot in world.pool.slots:
        if not len(slot.waiters):
            continue
        is_queued = slot.key in world.pool.line
        cools_off = slot.state is State.FAILED and now < slot.trouble.retry_at
        is_due = slot._alarm is not None and slot._alarm_at <= slot.trouble.retry_at
        moves = slot.state in (State.WARMING, State.UNLOADING) or slot.is_leaving
        held_until = slot.holding.until if slot.yields_to in world.pool.line else None
        yields = held_until is not None and (now <= held_until + LATE)
        assert moves or is_queued or yields or (cools_off and is_due), (
            f"waits for nothing: {slot!r}"
        )


def leases_end(world: SimWorld) -> None:
    """Section 3: a lease and a grace that are over are acted on; no deadline is forgotten."""
    now = asyncio.get_running_loop().time()
    for slot in world.pool.slots:
        if (due := _idle_until(world, slot)) is not None:
            assert now <= due + LATE, f"its time is over: {slot!r}"


def _idle_until(world: SimWorld, slot: Slot) -> float | None:
    if slot.is_busy or slot.is_leaving or not slot._may_idle_out():
        return None
    if slot.state is State.HOT:
        return slot.lease.until
    if slot.state is State.COOLING:
        return slot._cooling_since + world.pool.config.grace_minutes * 60
    return None


def room_is_used(world: SimWorld) -> None:
    """Rule 3: nobody waits for room that is there, unless the end of another will wake him."""
    pool = world.pool
    if any(slot.is_leaving or slot._is_burying for slot in pool.slots):
        return
    for slot in pool.slots:
        if slot.key in pool.line:
            decision = pool.plan_for(slot)
            assert not isinstance(decision, Start), f"{slot.key} waits, but {decision}"


def nobody_starves(world: SimWorld) -> None:
    """Rule 3: who has waited for room beyond ``max_queue_wait_seconds`` has what serves in his way
    yield, just loaded ones excepted, if he is the first and that would help. Who has yielded in
    vain need not again while what he worked on then goes on. What just died is planned with once it
    is buried."""
    pool = world.pool
    if any(slot._is_burying for slot in pool.slots):
        return
    now = asyncio.get_running_loop().time()
    patience = pool.config.max_queue_wait_seconds + LATE
    queued = [s for s in pool.slots if s.key in pool.line and len(s.waiters)]
    late = [(min(w.since for w in s.waiters), s) for s in queued]
    late = sorted(((t, s) for t, s in late if now - t > patience), key=lambda pair: pair[0])
    if not late or (len(late) > 1 and late[0][0] == late[1][0]):  # nobody is the first
        return
    first = late[0][1]
    serving = [
        s
        for s in pool.slots
        if s.state.is_serving
        and now > (s.hot_since or now) + pool._residency(s) + LATE
        and not (s.is_busy and s.holding.is_useless)
    ]
    going = [s for s in pool.slots if s.is_leaving or s.yields_to or s._is_burying]
    helps = fits_without(world, first, serving, twice=True)
    is_helped = fits_without(world, first, going)
    assert is_helped or not helps, f"{first.key} has waited for too long, nobody yields: {serving}"


def fits_without(world: SimWorld, slot: Slot, gone: list[Slot], *, twice: bool = False) -> bool:
    """Whether the start would fit if those were gone, pinned ones excepted. That fewer residents
    never make it fit worse spares a search through their subsets.

    ``twice``: as admission sees the host, which counts what a load has by now once as taken and
    once as still to be taken.
    """
    pool = world.pool
    stay = [
        other
        for other in pool.slots
        if pool.reserved_bytes(other.key)
        and other is not slot
        and (other not in gone or (other.model.pinned and not other.is_leaving))
    ]
    held = sum(pool.reserved_bytes(other.key) for other in stay)
    wanted = pool.need(slot)
    need, devices = wanted.bytes, wanted.devices
    config = pool.config
    for device in devices.keys() & config.device_budgets.keys():
        taken = sum(pool.resident(other).devices.get(device, 0) for other in stay)
        if taken + devices[device] > config.device_budgets[device]:
            return False
    loading = {s.worker_id for s in stay if s.state is State.WARMING} if twice else set()
    counted = sum(p.resident for p in world.alive() if p.assignment.worker_id in loading)
    return (
        len(stay) < config.max_concurrent_models
        and held + need <= config.memory_limit_bytes
        and held + need + counted <= world.host_bytes
    )


RULES: tuple[Callable[[SimWorld], None], ...] = (
    no_handler_fails,
    events_have_reasons,
    one_worker_per_copy,
    within_limits,
    ledger_is_true,
    ports_are_kept,
    no_work_is_cut,
    records_are_true,
    waiters_wait_for_something,
    leases_end,
)
# Only when the loop has nothing to do right now.
SETTLED = (room_is_used, nobody_starves)
