"""Time as an argument, so that tests need not sleep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any


class Clock:
    """The running loop's time, and the wall's for people.

    Under an event loop whose time is virtual everything in the pool is virtual too: timers,
    sleeps and deadlines all come from the loop.
    """

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        # Kept: to ask for it is a system call each time, up to Python 3.11 (getpid).
        return asyncio.get_running_loop()

    def now(self) -> float:
        """Seconds, monotonic; only differences mean anything."""
        return self._loop.time()

    def wall(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_at(when, callback)

    def call_soon(self, callback: Callable[[], None]) -> asyncio.Handle:
        """In this moment, after what is under way."""
        return self._loop.call_soon(callback)

    def future(self) -> asyncio.Future[Any]:
        """Where somebody may wait."""
        return self._loop.create_future()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
