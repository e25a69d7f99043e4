"""Work that takes time, beside the one who ordered it; its result comes back as a call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


class Tasks:
    """The tasks of one owner."""

    __slots__ = ("_running",)

    def __init__(self) -> None:
        self._running: dict[asyncio.Task[None], None] = {}  # in order

    def start(self, work: Awaitable[Any], then: Callable[[Any], None]) -> None:
        """Do it, and call ``then`` with its result or with the exception that it raised."""

        async def run() -> None:
            try:
                result = await work
            except Exception as e:
                result = e
            then(result)

        task = asyncio.ensure_future(run())
        self._running[task] = None
        task.add_done_callback(self._running.pop)

    @property
    def count(self) -> int:
        """How many run."""
        return len(self._running)

    async def close(self) -> None:
        """Cancel what still runs; nobody hears of it."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
