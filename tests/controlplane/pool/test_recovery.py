"""A new manager: what it adopts, what it ends, and that neither keeps anybody waiting."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from modelpool.pool.recovery import Recoverer, Recovery
from modelpool.pool.states import State
from modelpool_client.wire import Facts
from support.play import play
from support.sim import SimProcess, SimWorld, model, without_threads

OLD = model("old", memory_mb=100)
NEW = model("new", memory_mb=100)


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    without_threads(monkeypatch)


def now() -> float:
    return asyncio.get_running_loop().time()


async def restart(world: SimWorld, *entries: Any) -> Recovery:
    """Those are what the catalog still has."""
    await world.pool.close()
    world.pool = world._make_pool()
    for entry in entries:
        world.pool.add(entry)
    return await Recoverer(
        world.pool, world.pool_workers, world, world, world, lambda *_: True
    ).recover()


async def busy(world: SimWorld, seconds: float) -> tuple[SimProcess, asyncio.Task[bool]]:
    await world.pool.load("old", "test", 100)
    worker = world.alive("old")[0]
    work = asyncio.ensure_future(worker.serve(seconds))
    await asyncio.sleep(1)
    return worker, work


def test_what_is_not_needed_ends_beside_the_pool() -> None:
    async def scene(world: SimWorld) -> None:
        worker, work = await busy(world, 100.0)
        began = now()
        recovery = await restart(world, NEW)
        assert len(recovery.ended) == 1
        assert now() < began + 1, "the pool opens at once"
        world.check()
        (await world.pool.acquire("new")).release()
        assert now() < began + 5
        assert world.alive("new")[0].assignment.port != worker.assignment.port
        assert world.pool.ports.available == len(world.pool.config.port_range) - 2
        assert await work, "current work ends"
        await asyncio.sleep(5)
        assert not worker.is_alive
        assert world.pool.ports.available == len(world.pool.config.port_range) - 1

    play(scene, OLD, NEW, beat_seconds=10.0, graceful_shutdown_seconds=300)


@pytest.mark.parametrize(
    "limit", [{"max_concurrent_models": 1}, {"memory_limit_mb": 150}], ids=["count", "memory"]
)
def test_a_start_waits_for_the_room_of_what_is_not_needed(limit: dict[str, Any]) -> None:
    async def scene(world: SimWorld) -> None:
        worker, work = await busy(world, 100.0)
        await restart(world, NEW)
        asked = asyncio.ensure_future(world.pool.acquire("new"))
        await asyncio.sleep(50)
        assert worker.is_alive
        assert not world.alive("new")
        assert "old that is not needed" in world.replica("new").waiting_for
        assert await work
        (await asked).release()
        assert not worker.is_alive

    play(scene, OLD, NEW, beat_seconds=10.0, graceful_shutdown_seconds=300, **limit)


def test_a_pool_that_stops_waits_for_them() -> None:
    async def scene(world: SimWorld) -> None:
        worker, work = await busy(world, 100.0)
        await restart(world)
        await world.pool.stop()
        assert await work
        assert not worker.is_alive

    play(scene, OLD, beat_seconds=10.0, graceful_shutdown_seconds=300)


def test_one_that_drains_is_not_told_again_by_the_next_manager() -> None:
    """It would take that for the second signal, which cuts."""

    async def scene(world: SimWorld) -> None:
        worker, work = await busy(world, 100.0)
        await restart(world)
        await asyncio.sleep(10)
        await restart(world)
        await asyncio.sleep(10)
        assert worker.is_alive
        assert await work
        await asyncio.sleep(5)
        assert not worker.is_alive
        assert not world.records

    play(scene, OLD, beat_seconds=10.0, graceful_shutdown_seconds=300)


def test_who_misses_one_question_is_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(world: SimWorld) -> None:
        await world.pool.load("old", "test", 100)
        worker, sound = world.alive("old")[0], world.facts
        asked: list[float] = []

        async def facts(of: Any) -> Facts:
            asked.append(now())
            if len(asked) == 1:
                await asyncio.sleep(3600)
            return await sound(of)

        monkeypatch.setattr(world, "facts", facts)
        recovery = await restart(world, OLD)
        assert recovery.adopted == (worker.assignment.worker_id,)
        assert world.replica("old").state is State.HOT

    play(scene, OLD, beat_seconds=10.0)


def test_who_hangs_is_ended_after_a_second_question() -> None:
    async def scene(world: SimWorld) -> None:
        await world.pool.load("old", "test", 100)
        worker, began = world.alive("old")[0], now()
        worker.script.front_hangs = True
        recovery = await restart(world, OLD)
        assert recovery.ended == (worker.assignment.worker_id,)
        assert began + 10 < now() < began + 12
        await asyncio.sleep(1)
        assert not worker.is_alive
        assert not world.records

    play(scene, OLD, beat_seconds=10.0)
