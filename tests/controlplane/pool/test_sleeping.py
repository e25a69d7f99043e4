"""What may come between a model and its sleep."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from modelpool.pool.states import State
from modelpool_client.errors import ModelPoolError
from support.sim import Script, SimWorld, model, without_threads
from support.virtual_time import run_virtual

SLOW = 30.0  # to fall asleep, and to wake up


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    without_threads(monkeypatch)


def play(scene: Callable[[SimWorld], Awaitable[None]], seconds: float = 0.2, **config: Any) -> None:
    async def main() -> None:
        world = SimWorld([model(name, memory_mb=1000) for name in "mo"], **config)
        world.scripts["m"] = Script(sleep_level=1, sleep_seconds=seconds, beat_seconds=30)
        try:
            await scene(world)
            world.check()
        finally:
            await world.pool.stop()
        assert not world.bugs
        assert not world.pool.resources.holders
        assert not world.alive()

    run_virtual(main())


async def use(world: SimWorld) -> None:
    (await world.pool.acquire("m")).release()


async def until(world: SimWorld, state: State) -> None:
    async with asyncio.timeout(2 * 3600):
        while world.replica("m").state is not state:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.5)


async def falls_asleep(world: SimWorld) -> None:
    await use(world)
    await until(world, State.UNLOADING)
    assert world.replica("m").falls_asleep


async def asleep(world: SimWorld) -> None:
    await use(world)
    await until(world, State.ASLEEP)


async def wakes(world: SimWorld) -> asyncio.Future[Any]:
    """The request that wakes it up."""
    await asleep(world)
    asked = asyncio.ensure_future(world.pool.acquire("m"))
    await until(world, State.WARMING)
    await asyncio.sleep(1)
    return asked


def test_a_request_that_comes_while_it_falls_asleep_wakes_it_up() -> None:
    async def scene(world: SimWorld) -> None:
        await falls_asleep(world)
        grants = await asyncio.gather(*(world.pool.acquire("m") for _ in range(3)))
        for grant in grants:
            grant.release()
        assert len(world.processes) == 1

    play(scene, SLOW)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("when", [falls_asleep, asleep, wakes])
def test_unloaded_meanwhile(when: Callable[[SimWorld], Awaitable[Any]], force: bool) -> None:
    async def scene(world: SimWorld) -> None:
        asked = await when(world)
        await world.pool.unload("m", "asked", force=force)
        assert (world.replica("m").state, world.alive()) == (State.COLD, [])
        if asked is not None:
            with pytest.raises(ModelPoolError):
                await asked
        await use(world)

    play(scene, SLOW)


@pytest.mark.parametrize("when", [falls_asleep, asleep])
def test_deleted_meanwhile(when: Callable[[SimWorld], Awaitable[Any]]) -> None:
    async def scene(world: SimWorld) -> None:
        await when(world)
        await world.pool.remove("m")
        assert not world.alive()
        assert not world.pool.resources.holders

    play(scene, SLOW)


def test_one_that_hangs_as_it_wakes_up_is_loaded_and_sleeps_no_more() -> None:
    async def scene(world: SimWorld) -> None:
        await asleep(world)
        world.scripts["m"].never_asleep = True
        grants = await asyncio.gather(*(world.pool.acquire("m") for _ in range(2)))
        for grant in grants:
            grant.release()
        assert len(world.processes) == 2
        await until(world, State.COLD)

    play(scene, load_wait_seconds=3000)


def test_one_that_somebody_kills_as_it_wakes_up_sleeps_again() -> None:
    async def scene(world: SimWorld) -> None:
        asked = await wakes(world)
        world.processes[0].die(-9)
        (await asked).release()
        assert len(world.processes) == 2
        await until(world, State.ASLEEP)

    play(scene, SLOW)


def test_one_that_ends_as_it_wakes_up_does_not() -> None:
    async def scene(world: SimWorld) -> None:
        asked = await wakes(world)
        world.processes[0].die(6)
        (await asked).release()
        await until(world, State.COLD)

    play(scene, SLOW)


def test_what_sleeps_takes_no_place_and_its_port_is_its_own() -> None:
    async def scene(world: SimWorld) -> None:
        await asleep(world)
        port = world.processes[0].assignment.port
        await world.pool.load("o", "asked", 60)
        assert world.replica("m").state is State.ASLEEP
        assert world.processes[1].assignment.port != port
        assert world.pool.loaded_count == 1

    play(scene, max_concurrent_models=1)
