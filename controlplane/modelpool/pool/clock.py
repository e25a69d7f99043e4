"""Time as an argument, so that tests need not sleep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Clock:
    """The running loop's time, and the wall's for people.

    Under an event loop whose time is virtual everything in the pool is virtual too: timers,
    sleeps and deadlines all come from the loop.
    """

    def now(self) -> float:
        """Seconds, monotonic; only differences mean anything."""
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_at(when, callback)

    def call_soon(self, callback: Callable[[], None]) -> asyncio.Handle:
        """In this moment, after what is under way."""
        return asyncio.get_running_loop().call_soon(callback)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
