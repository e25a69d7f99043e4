"""A state machine that does to a simulated pool whatever may happen to one, in any order.

Its steps and rules are those of ``simulation``; here hypothesis chooses, and makes what breaks a
rule smaller.
"""

from __future__ import annotations

import random
from collections.abc import Coroutine
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from simulation import finale
from simulation.driver import settled, undisturbed, watch_loop
from simulation.steps import STEPS, Step
from simulation.world import World

from .virtual_time import VirtualLoop

CONFIG: dict[str, Any] = {
    "max_concurrent_models": 3,
    "memory_limit_mb": 700,
    "port_range": {"start": 8051, "end": 8057},
    "warmup_models": ["warm"],
    "load_wait_seconds": 300,
    "beat_seconds": 30,
}


class PoolMachine(RuleBasedStateMachine):
    """Any order of requests, unloads, faults, settings and time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.do(self._start())

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        with undisturbed():
            self.loop.run_until_complete(work)

    async def _start(self) -> None:
        self.world = World(random.Random(7), lambda _: None, **CONFIG)
        watch_loop(self.world)
        await settled(self.world)

    @rule(step=st.sampled_from(STEPS), lots=st.randoms(use_true_random=False))
    def happen(self, step: Step, lots: random.Random) -> None:
        self.do(self._happen(step, lots))

    async def _happen(self, step: Step, lots: random.Random) -> None:
        drawn = step.draw(self.world, lots)
        if drawn is not None:
            await step.act(self.world, *drawn)
            await settled(self.world)

    def teardown(self) -> None:
        try:
            self.do(finale.play(self.world, lambda _: None, lambda: settled(self.world)))
        finally:
            with undisturbed():
                self.loop.abandon()


__all__ = ["PoolMachine"]
