"""The end of a simulation: all heals, everything can be had again, and nothing is left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from modelpool_client.errors import CannotFit, ModelPoolError
from support.rules import fits_without, keys
from support.sim import Script

from simulation.rules import Broken
from simulation.world import NAMES, World

# Requests end, waits end, back-off and crash windows too.
HEALING_SECONDS = 2500.0
# For one to have its turn in a rush: patience and residency, the work under way, a drain, a load.
TURN_SECONDS = 5.0 + 2.0 + 2.0 + 3.0
RESIDENCY_SECONDS = 40.0


async def play(
    world: World, trace: Callable[[str], None], settled: Callable[[], Awaitable[None]]
) -> None:
    """Everything that must be possible at the end of a seed.

    Raises:
        Broken: it was not.
    """
    for scene in (_heal, _have_every_model, _rush, _stop):
        trace(f"-- finale: {scene.__name__.strip('_')}")
        try:
            await scene(world)
        except AssertionError as e:
            raise Broken(f"finale_{scene.__name__.strip('_')}", str(e)) from e
        await settled()


async def _heal(world: World) -> None:
    world.is_deaf, world.broken_journal, world.slow_journal = False, "", 0.001
    world.delay = lambda: 0.0
    world.host_bytes = 2_000_000_000
    for name in NAMES:
        world.scripts[name] = Script(beat_seconds=30.0)
    for worker in world.alive():
        script = worker.script
        worker.was_told_to_end = worker.was_told_to_end or script.hangs or script.deaf_to_drain
        script.deaf_to_drain = script.ignore_term = False
        script.front_hangs = script.engine_hangs = False
    if world.manager.is_gone:
        world.new_manager()
    if world.manager.is_stopped:
        world.resume_manager()
    await asyncio.sleep(HEALING_SECONDS)
    world.look_at_answers()
    assert not world.jobs, "requests that never end"
    assert not world.manager.wishes, f"never answered: {[w.what for w in world.manager.wishes]}"


async def _have_every_model(world: World) -> None:
    """By itself, with nobody else asking."""
    pool = world.pool
    for replica in world.replicas:
        assert not len(replica.waiters), f"somebody waits: {replica!r}"
    for name in [m.model_id for m in pool.models]:
        try:
            grant = await world.manager.run(pool.acquire(name))
            world.manager.enter(grant.release)
        except CannotFit as e:
            _check_refusal(world, name, e)
        except ModelPoolError as e:
            raise AssertionError(f"{name} cannot be had: {e!r}") from e
        await asyncio.sleep(RESIDENCY_SECONDS)


def _check_refusal(world: World, name: str, refusal: CannotFit) -> None:
    fits = fits_without(world, world.replica(name), keys(world.replicas))
    assert not fits, f"{name} would fit: {refusal}"


async def _rush(world: World) -> None:
    """Everybody asks for everything, all the time; everybody gets it in bounded time."""
    pool = world.pool
    patient = {"max_queue_wait_seconds": 5, "min_residency_seconds": 2, "load_wait_seconds": 3600}
    world.manager.enter(pool.reconfigure, pool.config.model_copy(update=patient))
    world.memory.configs.append((world.now(), pool.config))
    names = [m.model_id for m in pool.models]
    limit = 2 * len(names) * TURN_SECONDS
    until = world.now() + 2 * limit
    longest: dict[str, float] = dict.fromkeys(names, 0.0)

    async def keep_asking(name: str, priority: str) -> None:
        while world.now() < until:
            began = world.now()
            try:
                grant = await pool.acquire(name, priority=priority)
            except CannotFit as e:  # beside what is pinned
                _check_refusal(world, name, e)
                return
            longest[name] = max(longest[name], world.now() - began)
            await asyncio.sleep(2.0)
            grant.release()
            await asyncio.sleep(0.1)

    classes = ("high", "normal", "low")
    asking = [world.manager.run(keep_asking(name, classes[i % 3])) for i, name in enumerate(names)]
    await asyncio.sleep(until - world.now() + 2 * limit)
    late = {name: seconds for name, seconds in longest.items() if seconds > limit}
    assert not late, f"waited for more than {limit:.0f} s: {late}"
    waiting = [name for name, work in zip(names, asking, strict=True) if not work.done()]
    assert not waiting, f"still waiting after {2 * limit:.0f} s: {waiting}"
    failed = [work.exception() for work in asking if work.exception() is not None]
    assert not failed, f"not served in a rush: {failed}"


async def _stop(world: World) -> None:
    """Some wait in the moment of the end."""
    pool, manager = world.pool, world.manager
    for name in [m.model_id for m in pool.models]:
        world.excuse(name)
        world.request(name, 0.5, "low")
    await asyncio.sleep(0.3)
    for worker in world.alive():
        worker.was_told_to_end = True
    await manager.run(pool.stop())
    assert not world.alive(), "a process is left"
    left = [r for r in world.records.values() if r.worker_id not in world.pool_workers._to_forget]
    assert not left, f"a record is left: {[r.model_id for r in left]}"
    held = [r.key for r in world.replicas if pool.reserved_bytes(r.key)]
    assert not held, f"a reservation is left: {held}"
    assert pool.ports.available == len(pool.config.port_range), "a port is left"
    await asyncio.sleep(1)
    world.look_at_answers()
    assert not world.jobs, "a waiter was left hanging"
    manager.is_open = False
    tasks = world.loop.tasks_of(manager)
    assert not tasks, f"tasks are left: {tasks}"
    timers = world.loop.timers_of(manager)
    assert not timers, f"timers are left: {timers}"
