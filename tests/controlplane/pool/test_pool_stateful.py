"""Whatever happens to a pool, in whichever order: the rules hold, and it ends clean."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from support.machine import PoolMachine

TestPool = PoolMachine.TestCase
TestPool.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
