"""Waits that must end and wishes that must not pile up, under virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from modelpool.pool.states import State
from modelpool_client.errors import Conflict, NoPortFree
from support.sim import Script, SimWorld, model, without_threads
from support.virtual_time import run_virtual


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    without_threads(monkeypatch)


def play(scene: Callable[[SimWorld], Awaitable[None]], **config: Any) -> SimWorld:
    async def main() -> SimWorld:
        world = SimWorld([model("a"), model("b")], **config)
        await scene(world)
        assert not world.bugs
        await world.pool.close()
        return world

    return run_virtual(main())


def test_without_a_port_the_asker_is_told_and_nobody_has_failed() -> None:
    async def scene(world: SimWorld) -> None:
        (await world.pool.acquire("a")).release()
        with pytest.raises(NoPortFree):
            await world.pool.acquire("b")
        assert world.replica("b").state is State.COLD
        assert world.pool.reserved_bytes("b") == 0
        await world.pool.unload("a", "asked")
        (await world.pool.acquire("b")).release()

    play(scene, port_range={"start": 8051, "end": 8051})


def test_loads_that_nobody_waits_on_do_not_pile_up() -> None:
    async def scene(world: SimWorld) -> None:
        busy = await world.pool.acquire("a")
        for _ in range(30):
            await world.pool.load("b", "asked", None)
        assert len(world.replica("b").waiters) == 1
        await asyncio.sleep(301)
        assert len(world.replica("b").waiters) == 0
        busy.release()

    play(scene, max_concurrent_models=1, load_wait_seconds=300)


def test_a_process_that_not_even_a_kill_ends_does_not_hold_up_the_unload() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["a"] = Script(ignore_term=True)
        (await world.pool.acquire("a")).release()
        stuck = world.processes[0]
        stuck.kill = lambda: None  # type: ignore[method-assign]
        async with asyncio.timeout(120):
            await world.pool.unload("a", "asked")
        assert world.replica("a").state is State.COLD
        assert "memory-not-back" in [event[2] for event in world.events]

    play(scene)


def test_a_lease_is_not_extended_while_the_worker_is_asked_to_go() -> None:
    async def scene(world: SimWorld) -> None:
        (await world.pool.acquire("a")).release()
        world.scripts["a"].deaf_to_drain = True
        await asyncio.sleep(17 * 60 + 0.5)
        with pytest.raises(Conflict):
            world.pool.extend("a", 600)

    play(scene)
