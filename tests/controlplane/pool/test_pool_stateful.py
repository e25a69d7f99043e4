"""Whatever happens to a pool, in whichever order: the rules hold, and it ends clean.

The rules are in ``support.rules`` and ``simulation``, where they are tried on planted faults, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from modelpool.pool.decide import serving, stopping
from modelpool.pool.states import State
from support.machine import PoolMachine
from support.sim import SimWorld, model, without_threads
from support.virtual_time import run_virtual

# Many more steps, chosen by seeds, are made in tests/simulation; here what breaks is made smaller.
TestPool = PoolMachine.TestCase
TestPool.settings = settings(
    max_examples=12,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def test_a_waiter_lost_when_a_drain_is_refused_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def serves_nobody(replica: Any, context: Any) -> list[Any]:
        return []

    async def scene(plant: Callable[[], None] = lambda: None) -> None:
        world = SimWorld([model("m")])
        pool, replica = world.pool, world.replica("m")
        (await pool.acquire("m")).release()
        plant()
        await asyncio.sleep(17 * 60 - 1)
        world.is_deaf = True  # so that it is asked to drain although it is busy
        direct = asyncio.ensure_future(world.processes[0].serve(30))
        while not replica.is_leaving:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.0005)
        waiting = asyncio.ensure_future(pool.acquire("m"))
        await asyncio.sleep(0.01)
        try:
            assert replica.state is State.HOT
            world.check()
        finally:
            world.is_deaf = False
            await direct
            await pool.stop()
            await asyncio.gather(waiting, return_exceptions=True)

    without_threads(monkeypatch)
    run_virtual(scene())

    def plant() -> None:
        for module in (serving, stopping):
            monkeypatch.setattr(module, "serve_waiters", serves_nobody)

    with pytest.raises(AssertionError, match="waits for nothing"):
        run_virtual(scene(plant))
