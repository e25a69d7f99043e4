"""What a review of the pool found: each a scene that once went wrong."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from modelpool.pool.balance import Copy, choose
from modelpool.pool.messages import LoadSpeculatively, StopIfIdle
from modelpool.pool.recovery import Recoverer
from modelpool.pool.states import State
from modelpool_client.errors import NoPortFree
from support.play import play
from support.sim import Script, SimWorld, model, without_threads


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    without_threads(monkeypatch)


def now() -> float:
    return asyncio.get_running_loop().time()


def loads(world: SimWorld, since: float = 0.0) -> int:
    return sum(at >= since and move.endswith("->WARMING") for at, _, _, move, _ in world.events)


async def ask(world: SimWorld, name: str, seconds: float, affinity: str = "") -> None:
    pool = world.pool
    grant = pool.try_acquire(name, affinity) or await pool.acquire(name, affinity=affinity)
    worker = next(p for p in world.processes if p.assignment.worker_id == grant.worker_id)
    assert await worker.serve(seconds)
    grant.release()


def test_a_warm_up_model_without_a_port_waits_quietly() -> None:
    async def scene(world: SimWorld) -> None:
        pool = world.pool
        await pool.load("hold", "test", 100)
        old = await pool.acquire("old")
        with pytest.raises(NoPortFree):
            await pool.load("warm", "warm-up", None)
        big = asyncio.ensure_future(pool.acquire("big"))
        await asyncio.sleep(1)
        before = len(world.events)
        pool.capacity_changed()
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(world.events) <= before + 2
        big.cancel()
        old.release()
        await pool.unload("old", "test")
        await asyncio.sleep(5)
        assert world.replica("warm").state is State.HOT

    models = [
        model("hold", memory_mb=100, pinned=True),
        model("old", memory_mb=100),
        model("warm", memory_mb=50, warmup=True),
        model("big", memory_mb=250),
    ]
    play(
        scene,
        *models,
        memory_limit_mb=400,
        port_range={"start": 8051, "end": 8052},
        beat_seconds=10.0,
    )


def test_nobody_is_held_back_while_he_may_not_go_anyway() -> None:
    """Else a model that took long to load would stand idle and refuse its own."""

    async def scene(world: SimWorld) -> None:
        served = 0

        async def client(name: str) -> None:
            nonlocal served
            while now() < 1200:
                await ask(world, name, 1.0)
                served += 1
                await asyncio.sleep(0.5)

        for name in ("a", "b"):
            world.scripts[name] = Script(beat_seconds=10.0, load_seconds=40.0)
        await asyncio.gather(*(client(n) for n in ("a", "b") for _ in range(2)))
        assert served > 500, served

    play(
        scene,
        model("a"),
        model("b"),
        memory_limit_mb=150,
        min_residency_seconds=10,
        beat_seconds=10.0,
    )


def test_a_warm_up_model_is_not_scaled_down_to_be_loaded_again() -> None:
    async def scene(world: SimWorld) -> None:
        await world.pool.load("m", "warm-up", 60)
        await asyncio.gather(*(ask(world, "m", 12.0) for _ in range(6)))
        homes = (str(n) for n in range(100))
        pair = [Copy("m", 0), Copy("m#2", 0)]
        session = next(a for a in homes if choose(pair, a).key == "m#2")
        began = now()
        while now() < began + 900:
            await ask(world, "m", 5.0, session)
        assert loads(world, began) == 0

    play(scene, model("m", warmup=True, max_replicas=2, target_in_flight=2), beat_seconds=10.0)


def test_a_small_one_that_fits_beside_the_one_that_waits_need_not_wait() -> None:
    async def scene(world: SimWorld) -> None:
        a = await world.pool.acquire("a")
        work = asyncio.ensure_future(world.alive("a")[0].serve(250.0))
        x = asyncio.ensure_future(world.pool.acquire("x"))
        await asyncio.sleep(60)
        began = now()
        await ask(world, "y", 0.1)
        assert now() - began < 5
        await work
        a.release()
        (await x).release()

    models = [model("a", memory_mb=60), model("x", memory_mb=80), model("y", memory_mb=20)]
    play(scene, *models, memory_limit_mb=100, beat_seconds=10.0)


async def restart(world: SimWorld, entry: Any) -> None:
    await world.pool.close()
    world.pool = world._make_pool()
    world.pool.add(entry)
    await Recoverer(world.pool, world.pool_workers, world, world, world, lambda *_: True).recover()


WARM = model("m", warmup=True)


def test_a_warm_up_model_is_one_after_a_restart_too() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["m"] = Script(beat_seconds=10.0, load_seconds=5.0, fail_loads=["boom"])
        await world.pool.load("m", "warm-up", None)
        await asyncio.sleep(2)
        await restart(world, WARM)
        await asyncio.sleep(600)
        assert world.replica("m").state is State.HOT

    play(scene, WARM, beat_seconds=10.0)


def test_an_adopted_worker_brings_no_past() -> None:
    async def scene(world: SimWorld) -> None:
        await asyncio.sleep(90_000)
        await world.pool.load("m", "test", 60)
        world.alive("m")[0].requests_total = 5000
        await restart(world, model("m"))
        replica = world.replica("m")
        assert replica.uses == 0
        assert replica.rate.faded(now()) == 0
        assert (replica.load_seconds or 0) < 60

    play(scene, model("m"), beat_seconds=10.0)


def test_who_spoke_up_while_it_was_asked_is_left_alone() -> None:
    async def scene(world: SimWorld) -> None:
        await world.pool.load("m", "test", 60)
        worker, run = world.alive("m")[0], world.run_of("m")

        async def reach(_: Any) -> Any:
            await asyncio.sleep(4.5)
            raise ConnectionResetError

        world._reach = reach  # type: ignore[method-assign]
        world.is_deaf = True
        while not run.is_checking:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.1)
        world.is_deaf = False
        worker.report()
        await asyncio.sleep(4.6)
        assert worker.is_alive

    play(scene, model("m"), beat_seconds=10.0)


def test_a_load_of_a_cooling_model_gives_it_a_lease() -> None:
    async def scene(world: SimWorld) -> None:
        await ask(world, "m", 1.0)
        await asyncio.sleep(15 * 60 + 30)
        assert world.replica("m").state is State.COOLING
        await world.pool.load("m", "test", 60)
        await asyncio.sleep(10 * 60)
        assert world.replica("m").state is State.HOT

    play(scene, model("m"), beat_seconds=10.0)


def test_fewer_copies_by_the_entry_are_fewer() -> None:
    entry = model("m", max_replicas=2, target_in_flight=2, ttl_minutes=0)

    async def scene(world: SimWorld) -> None:
        await asyncio.gather(*(ask(world, "m", 12.0) for _ in range(6)))
        assert world.pool.sets["m"].replicas[1].state is State.HOT
        world.pool.replace_model(dataclasses.replace(entry, max_replicas=1))
        await asyncio.sleep(120)
        assert [r.state for r in world.replicas] == [State.HOT, State.COLD]

    play(scene, entry, beat_seconds=10.0)


def test_the_least_number_of_copies_stays_while_one_is_used_and_then_goes() -> None:
    async def scene(world: SimWorld) -> None:
        while now() < 7200:
            await ask(world, "m", 1.0)
            await asyncio.sleep(30)
        assert loads(world) == 2
        await asyncio.sleep(20 * 60)
        assert [r.state for r in world.replicas] == [State.COLD] * 2

    play(scene, model("m", min_replicas=2, max_replicas=2), beat_seconds=10.0)


def test_a_load_that_nobody_waits_for_any_more_is_cut_where_it_was_for_one_use_only() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["m"] = Script(load_seconds=30.0)
        one = asyncio.ensure_future(world.pool.load("m", "to be profiled", 60))
        other = asyncio.ensure_future(world.pool.load("m", "test", 60))
        await asyncio.sleep(1)
        one.cancel()
        await asyncio.sleep(0)
        world.pool.unload_if_unused("m", now(), "profiled")
        assert world.replica("m").state is State.WARMING, "another waits for it"
        other.cancel()
        await asyncio.sleep(0)
        world.pool.unload_if_unused("m", now() - 5, "profiled")
        assert world.replica("m").state is State.WARMING, "it began after that"
        world.pool.unload_if_unused("m", now(), "profiled")
        await asyncio.sleep(5)
        assert world.replica("m").state is State.COLD

    play(scene, model("m"))


def test_who_waits_for_a_copy_is_served_by_one_that_stays() -> None:
    async def scene(world: SimWorld) -> None:
        await world.pool.load("m", "test", 60)
        first = world.alive("m")[0]
        world.scripts["m"].load_seconds = 30.0
        copies = world.pool.sets["m"]
        second = copies.startable(2)
        assert second is not None
        second.post(LoadSpeculatively("test"))
        await asyncio.sleep(1)
        world.delay = lambda: 0.3
        direct = asyncio.ensure_future(first.serve(5.0))
        await asyncio.sleep(0)
        copies.first.post(StopIfIdle("test"))
        await asyncio.sleep(0.05)
        began = now()
        waiting = asyncio.ensure_future(world.pool.acquire("m"))
        await asyncio.sleep(0)
        world.delay = lambda: 0.0
        (await waiting).release()
        assert now() - began < 5
        assert await direct

    play(scene, model("m", max_replicas=2, target_in_flight=2), beat_seconds=10.0)
