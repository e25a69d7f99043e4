"""When the manager looks by itself.

To wake a process that sleeps costs a millisecond of processor time and more, whatever it then does:
caches are cold. So all that recurs does so at common moments, multiples of its period.
"""

from __future__ import annotations

import asyncio
import math


def until_tick(now: float, period: float) -> float:
    """PURE. Seconds from ``now`` to the next multiple of ``period`` seconds, never 0."""
    wait = (math.floor(now / period) + 1) * period - now
    return wait if wait > 0 else period


async def tick(period: float) -> None:
    """Return at the next multiple of ``period``, in the running loop's seconds."""
    await asyncio.sleep(until_tick(asyncio.get_running_loop().time(), period))
