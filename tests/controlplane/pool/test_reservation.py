"""A reservation follows what its worker really takes, and a load waits until memory is back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from modelpool.pool.admission import MB, Resident, Wait
from modelpool.pool.memory import HostMemory, Pressure
from modelpool.pool.memory_release import MemoryRelease, devices_of
from modelpool.pool.states import State
from modelpool_client.wire import Facts, Phase
from support.sim import Script, SimWorld, model, without_threads
from support.virtual_time import run_virtual


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    without_threads(monkeypatch)


def play(scene: Callable[[SimWorld], Awaitable[None]], **config: Any) -> None:
    async def main() -> None:
        world = SimWorld([model("a", memory_mb=1000), model("b", memory_mb=500)], **config)
        await scene(world)
        assert not world.bugs
        await world.pool.close()

    run_virtual(main())


def resident(world: SimWorld) -> Resident:
    return world.pool.residents()["a"]


def measured(world: SimWorld, total: int, held: int) -> None:
    """Facts of a's worker with MB that were measured."""
    sizes: dict[str, Any] = {"memory_bytes": total * MB, "memory_held_bytes": held * MB}
    facts = replace(world.alive("a")[0].facts(), **sizes)
    world.pool.record_facts(facts.worker_id, facts)


def sizes(world: SimWorld) -> tuple[int, int]:
    """What it takes of the budget and how much of that is to come, in MB."""
    found = resident(world)
    return found.bytes // MB, found.pending_bytes // MB


def test_while_it_loads_the_rest_is_to_come() -> None:
    async def scene(world: SimWorld) -> None:
        world.scripts["a"] = Script(load_seconds=10)
        await world.pool.load("a", "asked", None)
        await asyncio.sleep(1)
        assert world.replica("a").state is State.WARMING
        assert sizes(world) == (1000, 1000)
        measured(world, 700, 300)
        assert sizes(world) == (1000, 700), "pages of files are still the host's"
        measured(world, 1000, 1000)
        assert sizes(world) == (1000, 0)

    play(scene)


def test_a_loaded_one_that_takes_less_than_it_may_is_promised_the_rest() -> None:
    async def scene(world: SimWorld) -> None:
        (await world.pool.acquire("a")).release()
        assert sizes(world) == (1000, 0), "nothing was measured"
        measured(world, 600, 600)
        assert sizes(world) == (1000, 400)

    play(scene)


def test_one_that_takes_more_than_it_said_counts_for_more() -> None:
    async def scene(world: SimWorld) -> None:
        busy = await world.pool.acquire("a")
        assert not isinstance(world.pool.plan("b"), Wait)
        measured(world, 1200, 900)
        assert sizes(world) == (1200, 300)
        assert isinstance(world.pool.plan("b"), Wait)
        busy.release()

    play(scene, memory_limit_mb=1600)


def test_the_host_is_read_again_before_anybody_plans_with_what_is_released() -> None:
    async def scene(world: SimWorld) -> None:
        seen: list[tuple[int, int]] = []

        async def is_released(last_facts: Facts | None) -> bool:
            await asyncio.sleep(0.1)
            assert last_facts is not None
            assert last_facts.worker_id == world.run_of("a").worker_id
            seen.append((len(world.alive("a")), world.pool.reserved_bytes("a") // MB))
            return False

        world.pool_workers._memory_released = is_released
        (await world.pool.acquire("a")).release()
        await world.pool.unload("a", "asked")
        assert seen == [(0, 1000)], "gone, and still reserved"
        assert world.pool.reserved_bytes("a") == 0
        assert "memory-not-back" in [event for _, _, event, *_ in world.events]

    play(scene)


def released(answers: list[dict[str, int]], **fields: Any) -> tuple[bool, float, list[int]]:
    """Is the memory back, after how many seconds, and for which processes was it asked?"""
    asked: list[int] = []
    facts = Facts("w", "pool", 1, 1, Phase.READY, 8051, 7, **fields)

    async def ask(pid: int) -> dict[str, int]:
        asked.append(pid)
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def main() -> tuple[bool, float]:
        loop = asyncio.get_running_loop()
        began, memory = loop.time(), HostMemory(lambda: Pressure(1, 2))
        memory.refresh = no_thread  # type: ignore[method-assign]
        is_released = await MemoryRelease(memory, ask)(facts)
        return is_released, loop.time() - began

    async def no_thread() -> Pressure:
        return Pressure(1, 2)

    return (*run_virtual(main()), asked)


def test_a_device_is_waited_for() -> None:
    used = {"device_memory_bytes": {"cuda:0": 9}, "engine_pid": 11}
    assert released([{}], **used) == (True, 0.0, [11])
    is_released, seconds, asked = released([{"cuda:0": 9}, {"cuda:0": 9}, {"cuda:0": 0}], **used)
    assert (is_released, asked) == (True, [11, 11, 11])
    assert seconds < 5
    assert released([{"cuda:0": 9}], **used)[:2] == (False, 5.0)


def test_who_had_no_device_is_not_asked_about() -> None:
    assert released([{"cuda:0": 9}], engine_pid=11) == (True, 0.0, [])


def test_the_worker_s_own_command_is_asked() -> None:
    assert asyncio.run(devices_of(2**22 - 1)) == {}
