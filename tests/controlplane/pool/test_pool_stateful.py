"""Whatever happens to a pool, in whichever order: the rules hold, and it ends clean.

The rules themselves are in ``support.sim`` and ``support.machine``; below they are tried on faults
that are planted here.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from modelpool.pool import ledger
from modelpool.pool.lifecycle import State
from modelpool.pool.ports import Ports
from modelpool.pool.slot import Slot
from support.machine import PoolMachine
from support.sim import SimWorld, model, without_threads
from support.virtual_time import run_virtual

STEADY = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

TestPool = PoolMachine.TestCase
TestPool.settings = STEADY


@pytest.fixture
def quiet() -> Any:
    """Planted faults make much noise."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def evict_anybody(patch: pytest.MonkeyPatch) -> None:
    sound = ledger.plan

    def plan(need: Any, residents: Any, budget: Any) -> Any:
        return sound(need, [dataclasses.replace(r, protected="") for r in residents], budget)

    patch.setattr(ledger, "plan", plan)


def keep_the_port(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ports, "free", lambda self, port, now: None)


def forget_the_queue(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ledger.Ledger, "changed", lambda self: None)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("plant", [evict_anybody, keep_the_port, forget_the_queue])
def test_a_planted_fault_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    found = settings(STEADY, phases=[Phase.generate], print_blob=False)
    with pytest.raises((AssertionError, ExceptionGroup)):
        run_state_machine_as_test(PoolMachine, settings=found)


def test_a_waiter_lost_when_a_drain_is_refused_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = Slot._stays

    def stays(self: Slot, facts: Any) -> None:
        waiting, self.waiters._waiting = self.waiters._waiting, []
        sound(self, facts)
        self.waiters._waiting = waiting

    async def scene() -> None:
        world = SimWorld([model("m")])
        pool, slot = world.pool, world.pool.slot("m")
        (await pool.acquire("m")).release()
        await asyncio.sleep(17 * 60 - 1)
        world.is_deaf = True  # so that it is asked to drain although it is busy
        direct = asyncio.ensure_future(world.processes[0].serve(30))
        while not slot.is_leaving:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.0005)
        waiting = asyncio.ensure_future(pool.acquire("m"))
        await asyncio.sleep(0.01)
        try:
            assert slot.state is State.HOT
            world.check()
        finally:
            world.is_deaf = False
            await direct
            await pool.stop()
            await asyncio.gather(waiting, return_exceptions=True)

    without_threads(monkeypatch)
    run_virtual(scene())
    monkeypatch.setattr(Slot, "_stays", stays)
    with pytest.raises(AssertionError, match="waits for nothing"):
        run_virtual(scene())
