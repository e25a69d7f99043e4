"""What was started into spare room gives way until somebody comes for it."""

from __future__ import annotations

import asyncio

import pytest
from modelpool.pool.states import State
from support.play import play
from support.sim import Script, SimWorld, model, without_threads

BIG, B = model("big"), model("b")
ONE = {"max_concurrent_models": 1, "min_residency_seconds": 30, "beat_seconds": 10.0}


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    without_threads(monkeypatch)


def now() -> float:
    return asyncio.get_running_loop().time()


async def wait_for(world: SimWorld, name: str) -> float:
    """Seconds until a request for it is granted."""
    began = now()
    (await world.pool.acquire(name)).release()
    return now() - began


@pytest.mark.parametrize("after", [0.0, 0.005, 1.0, 99.0, 101.0])
def test_a_request_does_not_wait_for_a_preload(after: float) -> None:
    """In whatever moment of its load or after it."""

    async def scene(world: SimWorld) -> None:
        world.scripts["big"].load_seconds = 100
        world.pool.preload("big", "preloaded")
        await asyncio.sleep(after)
        assert await wait_for(world, "b") < 2
        assert [e[4] for e in world.events if e[2] == "model-evicted"] == [
            "evicted to make room for b"
        ]
        assert world.replica("big").state is State.COLD

    play(scene, BIG, B, **ONE)


def test_nor_for_a_further_copy_of_another_model() -> None:
    async def scene(world: SimWorld) -> None:
        grants = [await world.pool.acquire("m") for _ in range(9)]
        world.scripts["m"].load_seconds = 60
        await asyncio.sleep(10)
        assert [r.state for r in world.pool.sets["m"].replicas] == [State.HOT, State.WARMING]
        assert await wait_for(world, "b") < 2
        for grant in grants:
            grant.release()

    many = model("m", max_replicas=2, target_in_flight=4)
    play(scene, many, B, max_concurrent_models=2, beat_seconds=10.0)


@pytest.mark.parametrize("wait", [None, 500.0])
def test_a_preload_that_somebody_comes_to_wait_for_is_a_load_like_any_other(
    wait: float | None,
) -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["big"].load_seconds = 100
        world.pool.preload("big", "preloaded")
        await asyncio.sleep(1)
        load = asyncio.ensure_future(world.pool.load("big", "asked for", wait))
        await asyncio.sleep(1)
        assert await wait_for(world, "b") == pytest.approx(98 + 30 + 1, abs=1)
        await load

    play(scene, BIG, B, **ONE)


@pytest.mark.parametrize("is_direct", [False, True])
def test_a_preload_that_is_used_stays_as_long_as_any_other(is_direct: bool) -> None:
    async def scene(world: SimWorld) -> None:
        world.pool.preload("big", "preloaded")
        await asyncio.sleep(5)
        if is_direct:
            assert await world.processes[-1].serve(0.1)
        else:
            await wait_for(world, "big")
        assert await wait_for(world, "b") > 20

    play(scene, BIG, B, **ONE)


def test_pressure_cuts_a_load_that_nobody_waits_for_first() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["big"] = Script(load_seconds=100)
        replica = world.replica("big")
        world.pool.preload("big", "preloaded")
        await asyncio.sleep(10)
        world.pool.evict_if_idle("big", "evicted: memory is short")
        await asyncio.sleep(1)
        assert replica.state is State.COLD

    play(scene, BIG)


def test_nothing_is_started_into_spare_room_while_that_is_paused() -> None:
    async def scene(world: SimWorld) -> None:
        replica = world.replica("big")
        world.pool.pause_preloads(60)
        world.pool.preload("big", "preloaded")
        assert replica.state is State.COLD
        assert await wait_for(world, "b") < 2, "requests are not concerned"
        await asyncio.sleep(60)
        world.pool.preload("big", "preloaded")
        assert replica.state is State.WARMING

    play(scene, BIG, B)
