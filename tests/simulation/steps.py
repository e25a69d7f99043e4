"""Everything that may happen to a pool, one step each.

A step first draws what it will do, which changes nothing (None: it is not possible now), and then
does it. Both the seeded driver and the state machine of hypothesis make these.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from modelpool.config import patched
from modelpool_client.errors import Conflict
from support.sim import Script, SimProcess

from simulation.world import NAMES, World, new_model

# TERM with its grace, the margin, KILL, the rest of the group, a journal that hangs; then all of it
# again for a start under way.
UNLOAD_SECONDS = 200.0

LENGTHS = (0.0, 0.001, 0.02, 0.7, 0.7, 5.0, 5.0, 40.0, 400.0)
# Hours cost as much to simulate as many minutes, so they are rare.
PAUSES = (0.0, 0.0005, 0.001, 0.011, 0.1, 0.5, 1.0, 1.0, 4.0, 4.0, 12.0, 12.0, 30.0, 61.0, 130.0)
LONG_PAUSES = (300.0, 900.0, 900.0, 1100.0, 3600.0, 20_000.0)
EXIT_CODES = (-9, -11, 0, 1, 3, 5, 6)
PRIORITIES = ("high", "normal", "low")

Drawn = tuple[Any, ...] | None


@dataclass(frozen=True)
class Step:
    """``weight``: how often it is made, compared to others."""

    name: str
    weight: int
    draw: Callable[[World, random.Random], Drawn]
    act: Callable[..., Awaitable[None]]


STEPS: list[Step] = []


def step(
    weight: int, draw: Callable[[World, random.Random], Drawn]
) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., Awaitable[None]]]:
    """Make a step of a function."""

    def register(act: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        STEPS.append(Step(act.__name__, weight, draw, act))
        return act

    return register


def _known(world: World, lots: random.Random) -> str | None:
    names = [name for name in NAMES if world.is_managed and world.pool.has(name)]
    return lots.choice(names) if names else None


def _with_known(
    *choices: tuple[Any, ...],
) -> Callable[[World, random.Random], Drawn]:
    """A model that the pool has, and one of each."""

    def draw(world: World, lots: random.Random) -> Drawn:
        name = _known(world, lots)
        return (name, *(lots.choice(c) for c in choices)) if name is not None else None

    return draw


def _with_worker(*choices: tuple[Any, ...]) -> Callable[[World, random.Random], Drawn]:
    """The number of a living worker, and one of each."""

    def draw(world: World, lots: random.Random) -> Drawn:
        living = world.alive()
        if not living:
            return None
        return (lots.choice(living).pid, *(lots.choice(c) for c in choices))

    return draw


def _one_of(*choices: tuple[Any, ...]) -> Callable[[World, random.Random], Drawn]:
    return lambda world, lots: tuple(lots.choice(c) for c in choices)


def _by_pid(world: World, pid: int) -> SimProcess:
    return next(p for p in world.alive() if p.pid == pid)


# -- use -------------------------------------------------------------------------------------------


@step(14, _with_known(LENGTHS, PRIORITIES, ("", "x", "y")))
async def request(world: World, name: str, length: float, priority: str, affinity: str) -> None:
    """Through the gateway."""
    world.request(name, length, priority, affinity)


@step(4, _with_known((2, 3, 5, 9), (0.7, 0.7, 20.0)))
async def burst(world: World, name: str, count: int, length: float) -> None:
    """Several at once."""
    for _ in range(count):
        world.request(name, length, "normal")


@step(5, lambda world, lots: (lots.random(),) if world.jobs else None)
async def client_leaves(world: World, which: float) -> None:
    """In the middle of whatever it waits for."""
    job = world.jobs[int(which * len(world.jobs))]
    if job in world.relaying:
        world.manager.post(job.cancel)
    else:
        job.cancel()


@step(6, _with_worker(LENGTHS))
async def direct_request(world: World, pid: int, length: float) -> None:
    """Straight to a worker's port."""
    world.direct(_by_pid(world, pid), length)


@step(4, _with_known((None, 5.0, 500.0)))
async def load(world: World, name: str, wait: float | None) -> None:
    """An explicit load."""
    work = world.pool.load(name, "asked for by the simulation", wait)
    world.manager.ask(f"load {name}", wait or 0.0, work)


@step(2, _with_known())
async def preload(world: World, name: str) -> None:
    """Into spare room, ahead of anybody who might ask."""

    def work() -> None:
        if world.pool.has(name):
            world.pool.preload(name, "preloaded by the simulation")

    world.manager.post(work)


@step(4, _with_known((False, True), (False, True)))
async def unload(world: World, name: str, force: bool, cut: bool) -> None:
    """Plain, by force, or cutting current work."""

    async def work() -> None:
        if world.pool.has(name):
            await world.pool.unload(name, "asked by the simulation", force=force, cut=cut)

    entry = world.replica(name).model
    if force or not (entry.pinned or entry.warmup):
        world.excuse(name)
    world.manager.ask(f"unload {name}", UNLOAD_SECONDS, work())


@step(3, _with_known((1.0, 600.0, 10_000.0)))
async def extend(world: World, name: str, length: float) -> None:
    """Add to a lease."""

    async def work() -> None:
        if not world.pool.has(name):
            return
        before, now = world.pool.status(name), world.now()
        left = before.lease.remaining(now)
        try:
            granted = world.pool.extend(name, length)
        except Conflict:
            return
        after = world.pool.status(name).lease.remaining(now)
        assert abs(granted - ((after or 0) - (left or 0))) < 1e-6, "another grant than it says"
        if after is not None:
            world.memory.leases[before.worker_id] = now + after

    world.manager.ask(f"extend {name}", 0.0, work())


# -- faults of workers -----------------------------------------------------------------------------


@step(4, _with_worker(EXIT_CODES))
async def worker_dies(world: World, pid: int, code: int) -> None:
    """At any moment, in any way."""
    worker = _by_pid(world, pid)
    worker.was_told_to_end = True
    worker.die(code)


@step(2, _with_worker())
async def engine_is_lost(world: World, pid: int) -> None:
    """The front sees it a moment later, and ends."""
    worker = _by_pid(world, pid)
    worker.was_told_to_end = True
    worker.lose_engine()


@step(2, _with_worker())
async def operator_sends_term(world: World, pid: int) -> None:
    """Work that ends within the drain time must not notice."""
    worker = _by_pid(world, pid)
    worker.was_told_to_end = worker.was_told_to_end or worker.in_flight > 0
    worker.terminate()


def draw_script(lots: random.Random) -> Script:
    """Mostly sound; every fault now and then."""

    def rarely(value: Any, otherwise: Any, one_in: int = 5) -> Any:
        return value if lots.randrange(one_in) == 0 else otherwise

    script = Script(
        load_seconds=lots.choice((0.05, 1.0, 1.0, 30.0, 200.0)),
        progress_every=lots.choice((0.5, 10.0)),
        fail_load=rarely(lots.choice(("oom", "bad_file")), ""),
        fail_loads=rarely(lots.choice((["oom"], ["oom", "oom"], ["bad_file"])), []),
        never_ready=rarely(True, False, 8),
        ignore_term=rarely(True, False),
        deaf_to_drain=rarely(True, False),
        refuse_launch=rarely("no such program", "", 8),
        strange_ports=set(lots.sample(range(8051, 8058), rarely(lots.randrange(8), 0))),
        launch_seconds=lots.choice((0.0, 0.01, 2.0, rarely(70.0, 0.01))),
        front_hangs=rarely(True, False, 8),
        engine_hangs=rarely(True, False, 8),
        beat_seconds=30.0,
        slots=lots.choice((None, 0, 1, 2)),
        sleep_level=lots.choice((0, 1, 1, 2)),
        sleep_seconds=lots.choice((0.0, 0.5, 20.0)),
        fails_to_sleep=rarely(True, False),
        fails_to_wake=rarely(True, False),
        never_asleep=rarely(True, False, 8),
    )
    # A machine that is slow to start a process lets it come up slowly, too.
    return dataclasses.replace(script, listen_after=150.0 if script.launch_seconds == 2.0 else 0.0)


@step(4, lambda world, lots: (lots.choice(NAMES), draw_script(lots)))
async def workers_change(world: World, name: str, script: Script) -> None:
    """Those to come and, as far as it can still matter to it, the present ones."""
    world.scripts[name] = script
    for worker in world.alive(name):
        worker.script.deaf_to_drain = script.deaf_to_drain
        worker.script.ignore_term = script.ignore_term
        if script.deaf_to_drain or worker.script.hangs:
            worker.was_told_to_end = True  # it is ended for not answering
        worker.script.front_hangs = script.front_hangs
        worker.script.engine_hangs = script.engine_hangs


@step(5, _one_of(NAMES))
async def workers_heal(world: World, name: str) -> None:
    """All is well with a model from now on."""
    await workers_change(world, name, Script(beat_seconds=30.0, sleep_level=1))


# -- faults of the machine -------------------------------------------------------------------------


@step(2, _one_of((True, False, False), (0.0, 0.0, 0.02, 0.5)))
async def network_changes(world: World, deaf: bool, late: float) -> None:
    """Reports are lost, or under way for a while."""
    world.is_deaf = deaf
    world.delay = (lambda: world.lots.uniform(0.0001, late)) if late else (lambda: 0.0)


WRITES = ("", "", "", "next_epoch", "intend_worker", "worker_started", "forget_worker")


@step(2, _one_of(WRITES, (0.001, 0.001, 0.001, 1.0, 100.0)))
async def disk_changes(world: World, broken: str, slow: float) -> None:
    """Writes fail, or take long, or hang."""
    world.broken_journal = broken
    world.slow_journal = slow


@step(2, _one_of((400_000_000, 900_000_000, 1_500_000_000, 1_500_000_000)))
async def host_memory_changes(world: World, size: int) -> None:
    """Other programs take memory, or give it back; the sweep comes to see it."""
    world.host_bytes = size
    world.manager.post(world.pool.repair)


@step(1, _one_of((-1e6, -3600.0, -1.0, 1.0, 3600.0, 1e6)))
async def wall_clock_steps(world: World, seconds: float) -> None:
    """Somebody sets the clock."""
    world.clock.shift += seconds


# -- settings --------------------------------------------------------------------------------------

PATCHES: dict[str, tuple[Any, ...]] = {
    "max_concurrent_models": (1, 2, 3, 4, 5),
    "memory_limit_mb": (400, 700, 1000, 1200),
    "device_memory_mb": ({}, {"gpu:0": 450}, {"gpu:0": 700, "gpu:1": 300}, {"gpu:1": 420}),
    "default_ttl_minutes": (0, 1, 15),
    "grace_minutes": (0, 0.5, 2),
    "auto_unload": (True, False),
    "min_residency_seconds": (0, 10),
    "max_queue_wait_seconds": (0.5, 5, 30),
    "priority_ageing_seconds": (5, 30),
    "port_rest_seconds": (0, 60),
    "eviction_policy": ("loss", "lru"),
    "max_waiting_requests": (3, 1000),
    "concurrency_limit": ("adaptive", "adaptive", "unlimited", 1, 3),
    "graceful_shutdown_seconds": (1, 30),
    "sleep_minutes": (0, 1, 60),
    "max_sleeping_models": (0, 1, 3, 3),
}


def _draw_patch(world: World, lots: random.Random) -> Drawn:
    if not world.is_managed:
        return None
    keys = lots.sample(sorted(PATCHES), lots.randint(1, 3))
    return ({key: lots.choice(PATCHES[key]) for key in keys},)


@step(3, _draw_patch)
async def reconfigure(world: World, changes: dict[str, Any]) -> None:
    """``PATCH /config``."""

    def work() -> None:
        pool = world.pool
        pool.reconfigure(patched(pool.config, changes))
        world.memory.configs.append((world.now(), pool.config))

    world.manager.post(work)


@step(1, _with_known())
async def delete(world: World, name: str) -> None:
    """The catalog forgets it at once, the pool once its workers are gone."""

    async def work() -> None:
        if world.pool.has(name):
            await world.pool.remove(name)

    if name in world.models:
        del world.models[name]
        world.excuse(name)
        world.manager.ask(f"delete {name}", UNLOAD_SECONDS, work())


def _draw_missing(world: World, lots: random.Random) -> Drawn:
    missing = [n for n in NAMES if world.is_awake and not world.pool.has(n)]
    return (lots.choice(missing),) if missing else None


@step(5, _draw_missing)
async def register(world: World, name: str) -> None:
    """A model of that name again."""
    world.models[name] = new_model(name)
    world.manager.enter(world.pool.add, world.models[name])


@step(2, _with_known((None, 0, 1.5), (50, 200, 400), (1, 1, 2, 3)))
async def replace(world: World, name: str, ttl: float | None, size: int, copies: int) -> None:
    """Another entry for the same id."""
    if name not in world.models:
        return
    entry = dataclasses.replace(
        new_model(name), ttl_minutes=ttl, memory_mb=size, max_replicas=copies
    )
    world.models[name] = entry

    def work() -> None:
        if world.pool.has(name):
            world.pool.replace_model(entry)

    world.manager.post(work)


# -- the manager -----------------------------------------------------------------------------------


def _if_open(*choices: tuple[Any, ...]) -> Callable[[World, random.Random], Drawn]:
    def draw(world: World, lots: random.Random) -> Drawn:
        return tuple(lots.choice(c) for c in choices) if world.is_managed else None

    return draw


@step(2, _if_open((False, False, False, True)))
async def manager_dies(world: World, and_an_engine: bool) -> None:
    """No cleanup of any kind. Its successor may find a front without its engine."""
    world.kill_manager()
    if and_an_engine and (ready := [p for p in world.alive() if not p.was_told_to_end]):
        await engine_is_lost(world, ready[0].pid)
        await manager_starts(world)


def _draw_starting(world: World, lots: random.Random) -> Drawn:
    return None if world.is_managed or world.manager.is_gone else ()


@step(3, _draw_starting)
async def manager_dies_at_its_start(world: World) -> None:
    """In the middle of looking who is there."""
    world.kill_manager()


@step(20, lambda world, lots: () if world.manager.is_gone else None)
async def manager_starts(world: World) -> None:
    """Finds what its predecessor left."""
    world.new_manager()


@step(1, lambda world, lots: () if world.is_awake else None)
async def manager_is_replaced(world: World) -> None:
    """``poolctl restart``: it lets go of its workers, and another one takes over."""
    world.manager.is_open = False
    await world.manager.run(world.pool.close())
    world.kill_manager()
    world.new_manager()


@step(2, lambda world, lots: () if world.is_awake else None)
async def manager_is_stopped(world: World) -> None:
    """SIGSTOP, or a machine that has no time for it."""
    world.stop_manager()


@step(20, lambda world, lots: () if world.manager.is_stopped else None)
async def manager_goes_on(world: World) -> None:
    """SIGCONT."""
    world.resume_manager()


# -- time ------------------------------------------------------------------------------------------


@step(22, _one_of(PAUSES))
async def time_passes(world: World, length: float) -> None:
    """Milliseconds to minutes."""
    await asyncio.sleep(length)


@step(1, _one_of(LONG_PAUSES))
async def hours_pass(world: World, length: float) -> None:
    """Long enough for leases to end."""
    await asyncio.sleep(length)


@step(1, lambda world, lots: () if world.is_managed else None)
async def sweep(world: World) -> None:
    """The repair sweep, which the manager makes now and then."""
    world.manager.post(world.pool.repair)
