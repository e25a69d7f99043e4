"""A state machine that does to a simulated pool whatever may happen to one, in any order.

Its steps and rules are those of ``simulation``; here hypothesis chooses, and makes what breaks a
rule smaller.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from simulation import finale
from simulation.driver import settled, undisturbed, watch_loop
from simulation.steps import STEPS, Step
from simulation.world import SLEEPERS, World

from .virtual_time import VirtualLoop

CONFIG: dict[str, Any] = {
    "max_concurrent_models": 3,
    "memory_limit_mb": 700,
    "port_range": {"start": 8051, "end": 8057},
    "warmup_models": ["warm"],
    "load_wait_seconds": 300,
    "beat_seconds": 30,
}
# A TTL and a grace period: what idles falls asleep, or does so a moment later.
IDLE = (17 * 60 - 0.5, 17 * 60 + 0.1, 17 * 60 + 5)


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

    @initialize(names=st.sets(st.sampled_from(SLEEPERS), max_size=2), idle=st.sampled_from(IDLE))
    def begin_asleep(self, names: set[str], idle: float) -> None:
        self.do(self._begin_asleep(sorted(names), idle))

    async def _begin_asleep(self, names: list[str], idle: float) -> None:
        world = self.world
        for name in names:
            world.manager.ask(f"load {name}", 60.0, world.pool.load(name, "asked", 60))
        await self._pass(5)
        await self._pass(idle if names else 0)

    @rule(idle=st.sampled_from(IDLE))
    def rest(self, idle: float) -> None:
        self.do(self._pass(idle))

    async def _pass(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
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
