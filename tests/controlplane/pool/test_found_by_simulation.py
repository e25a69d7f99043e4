"""Faults that a seed of ``make simulate`` has shown, each as a small scene."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from modelpool.pool.messages import Yield
from modelpool.pool.states import State
from modelpool_client.errors import LoadFailed
from support.sim import MB, Script, SimWorld, model, without_threads
from support.virtual_time import VirtualLoop, run_virtual


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    without_threads(monkeypatch)


def play(scene: Callable[[SimWorld], Awaitable[None]], *models: Any, **config: Any) -> None:
    async def main() -> None:
        world = SimWorld(list(models), **config)
        try:
            await scene(world)
            assert not world.bugs
        finally:
            await world.pool.stop()

    run_virtual(main())


async def _hang(*_: Any) -> None:
    await asyncio.sleep(100_000)


def test_a_database_that_hangs_does_not_hold_up_an_unload() -> None:
    async def scene(world: SimWorld) -> None:
        (await world.pool.acquire("a")).release()
        world.forget_worker = _hang  # type: ignore[method-assign]
        async with asyncio.timeout(60):
            await world.pool.unload("a", "asked")
        assert world.replica("a").state is State.COLD

    play(scene, model("a"))


def test_an_intent_that_was_given_up_is_forgotten_all_the_same() -> None:
    """The write may be made after nobody waits for it any more."""

    async def scene(world: SimWorld) -> None:
        sound = world.intend_worker

        async def written_but_late(record: Any) -> None:
            await sound(record)
            await _hang()

        world.intend_worker = written_but_late  # type: ignore[method-assign]
        with pytest.raises(LoadFailed, match="database"):
            await world.pool.acquire("a")
        assert len(world.records) == 1
        world.intend_worker = sound  # type: ignore[method-assign]
        await world.pool.load("a", "asked", 100)
        await world.pool.unload("a", "asked")
        assert not world.records

    play(scene, model("a"))


def test_a_database_that_hangs_after_the_start_is_named_as_the_reason() -> None:
    async def scene(world: SimWorld) -> None:
        world.worker_started = _hang  # type: ignore[assignment]
        with pytest.raises(LoadFailed, match="database did not take it"):
            await world.pool.acquire("a")
        assert not world.alive()

    play(scene, model("a"))


def test_who_leaves_the_queue_gives_up_the_room_that_was_promised() -> None:
    async def scene(world: SimWorld) -> None:
        busy = await world.pool.acquire("a")
        first = asyncio.ensure_future(world.pool.acquire("large"))
        await asyncio.sleep(10)  # it has waited for too long: nobody may take the room
        second = asyncio.ensure_future(world.pool.acquire("small"))
        await asyncio.sleep(10)
        assert not second.done()
        await world.pool.unload("large", "asked")
        await asyncio.sleep(5)
        assert second.done()
        second.result().release()
        busy.release()
        await asyncio.gather(first, return_exceptions=True)

    sizes = {"a": 300, "large": 600, "small": 200}
    models = [model(name, memory_mb=size) for name, size in sizes.items()]
    play(scene, *models, memory_limit_mb=700, max_queue_wait_seconds=5)


def test_one_that_may_not_wait_at_all_has_others_yield_at_once() -> None:
    async def scene(world: SimWorld) -> None:
        busy = await world.pool.acquire("a")
        waiting = asyncio.ensure_future(world.pool.acquire("b"))
        await asyncio.sleep(1)
        assert world.replica("a").yields_to == "b"
        busy.release()
        (await waiting).release()

    play(scene, model("a"), model("b"), max_concurrent_models=1, max_queue_wait_seconds=0)


def test_a_manager_that_was_stopped_while_it_asked_asks_again() -> None:
    """The worker had said in time that it is busy; only nobody heard it."""

    async def scene(world: SimWorld) -> None:
        (await world.pool.acquire("a")).release()
        world.is_deaf = True  # so that it is asked although it is busy
        worker = world.processes[0]
        busy = asyncio.ensure_future(worker.serve(60))
        waiting = asyncio.ensure_future(world.pool.acquire("b"))
        while not world.replica("a").is_leaving:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.0003)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.pass_over(12)
        await asyncio.sleep(1)
        assert world.replica("a").state is State.HOT
        world.is_deaf = False
        assert await busy
        (await waiting).release()

    play(scene, model("a"), model("b"), max_concurrent_models=1)


def test_a_load_under_way_does_not_make_a_later_one_impossible() -> None:
    """What it has by now is missing at the host, but would come back."""

    async def scene(world: SimWorld) -> None:
        world.host_bytes = 1000 * MB
        world.scripts["a"] = Script(load_seconds=10, progress_every=1)
        loading = asyncio.ensure_future(world.pool.acquire("a"))
        await asyncio.sleep(9.5)
        assert world.available() < 700 * MB
        waiting = asyncio.ensure_future(world.pool.acquire("b"))
        (await loading).release()
        (await waiting).release()

    play(scene, model("a", memory_mb=500), model("b", memory_mb=700))


def test_a_cancelled_load_gives_the_host_nothing_back() -> None:
    """It never had it; who starts meanwhile must fit without."""

    async def scene(world: SimWorld) -> None:
        world.host_bytes = 1000 * MB
        world.scripts["a"] = Script(load_seconds=100, progress_every=100, ignore_term=True)
        world.scripts["b"] = Script(load_seconds=0.1)
        asking = asyncio.ensure_future(world.pool.load("a", "asked", 300))
        await asyncio.sleep(1)
        ending = world.pool.unload("a", "asked", cut=True)
        await asyncio.sleep(1)
        world.host_bytes = 600 * MB
        waiting = asyncio.ensure_future(world.pool.acquire("b"))
        await asyncio.sleep(1)
        assert world.replica("a").state is State.UNLOADING
        assert world.replica("b").state is State.COLD
        await ending
        await asyncio.gather(asking, waiting, return_exceptions=True)

    play(scene, model("a", memory_mb=500), model("b", memory_mb=700))


def test_who_joins_the_queue_as_its_first_takes_what_others_waited_for() -> None:
    """Its requests had waited since before those of the one to whom the room was promised."""

    async def scene(world: SimWorld) -> None:
        world.scripts["slow"] = Script(never_ready=True)
        loading = asyncio.ensure_future(world.pool.acquire("slow"))
        (await world.pool.acquire("small")).release()
        world.pool.supervisors["small"].post(Yield("large"))
        first = asyncio.ensure_future(world.pool.acquire("small"))
        await asyncio.sleep(1)
        second = asyncio.ensure_future(world.pool.acquire("large"))
        await asyncio.sleep(4.5)
        world.alive("small")[0].die(-9)
        async with asyncio.timeout(4):  # until it is tried again, and loaded
            (await first).release()
        second.cancel()
        loading.cancel()

    models = (model("slow", memory_mb=300), model("small", memory_mb=100))
    play(
        scene,
        *models,
        model("large", memory_mb=650),
        memory_limit_mb=700,
        max_queue_wait_seconds=5,
        auto_unload=False,
    )
