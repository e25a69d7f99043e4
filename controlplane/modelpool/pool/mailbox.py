"""A mailbox that runs in place: one message at a time, to completion, and one alarm.

The guarantee is that of a task which alone reads a queue, but a message that finds the mailbox
empty is handled at once, so that a request for a HOT model costs no switch of tasks. Handlers never
wait; what takes time runs beside them and comes back as a message.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from modelpool.pool.clock import Clock

log = logging.getLogger(__name__)


class Mailbox(ABC):
    """Base of whoever owns state. Only handlers that were posted write it."""

    def __init__(self, clock: Clock, bug: Callable[[Exception], None]) -> None:
        self._clock = clock
        self._bug = bug
        self._mailbox: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._is_handling = False
        self._alarm: asyncio.Handle | None = None
        self._alarm_at = 0.0
        self._jobs: dict[asyncio.Task[None], None] = {}  # in order

    @abstractmethod
    def _next_deadline(self) -> float | None:
        """When something is due by itself; the alarm may ring early, never late."""

    @abstractmethod
    def _on_time(self) -> None:
        """Do what is due, if anything is."""

    def _post(self, handler: Callable[..., None], *args: Any) -> None:
        self._mailbox.append((handler, args))
        if self._is_handling:
            return
        self._is_handling = True
        try:
            while self._mailbox:
                self._handle(*self._mailbox.popleft())
        finally:
            self._is_handling = False
        self._set_alarm()

    def _handle(self, handler: Callable[..., None], args: tuple[Any, ...]) -> None:
        try:
            handler(*args)
        except Exception as e:
            log.exception("%r: a handler failed", self)
            self._bug(e)

    def _run(
        self, work: Coroutine[Any, Any, Any], then: Callable[..., None], worker_id: str
    ) -> None:
        """Do something that takes time; its result or its exception comes back as a message."""

        async def job() -> None:
            try:
                result = await work
            except Exception as e:
                result = e
            self._post(then, worker_id, result)

        task = asyncio.ensure_future(job())
        self._jobs[task] = None
        task.add_done_callback(self._jobs.pop)

    def _set_alarm(self) -> None:
        when = self._next_deadline()
        if when is None:
            return
        if self._alarm is not None:
            if self._alarm_at <= when:
                return
            self._alarm.cancel()
        self._alarm_at = when  # uvloop's handles for what is due at once do not know it
        self._alarm = self._clock.call_at(when, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._post(self._on_time)

    def look(self) -> None:
        """The repair sweep: whatever is due is done, even if an alarm was lost."""
        self._post(self._on_time)

    async def close(self) -> None:
        """Stop what runs for it here, leaving its worker alone."""
        if self._alarm is not None:
            self._alarm.cancel()
        for job in list(self._jobs):
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
