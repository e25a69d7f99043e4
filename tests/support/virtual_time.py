"""An event loop whose time jumps to the next timer, so that hours pass in milliseconds.

On it a part of a program can also be stopped as SIGSTOP stops a process, or vanish as KILL makes it
vanish: what runs in a context that names an ``OWNER`` belongs to that owner.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
import selectors
import warnings
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

STANDSTILL = 100_000
CLOSINGS = 10

OWNER: ContextVar[object] = ContextVar("owner", default=None)


class Standstill(BaseException):
    """Time does not go on: everybody waits for ever, or somebody is busy for ever. Who guards
    himself against bugs is not to catch it."""


class _JumpingSelector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Never waits: the time that it should have waited passes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.elapsed = 0.0
        self._rounds = 0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise Standstill("everybody waits for something that will never happen")
        if timeout:
            self.elapsed += timeout
            self._rounds = 0
        self._rounds += 1
        if self._rounds > STANDSTILL:
            self._rounds = 0  # the loop is still to be closed
            raise Standstill("the loop is busy for ever and time stands still")
        return ()


class VirtualLoop(asyncio.SelectorEventLoop):
    """Virtual seconds; real threads and sockets must not be used on it."""

    _ready: Any
    _scheduled: list[Any]
    _timer_cancelled_count: int

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        self._held: dict[object, list[Any]] = {}  # what stopped owners have yet to do
        self._gone: set[object] = set()
        self._owners: WeakKeyDictionary[asyncio.Task[Any], object] = WeakKeyDictionary()
        self._remains: list[asyncio.Task[Any]] = []
        super().__init__(self._jumping)

    @property
    def _clock_resolution(self) -> float:
        """Exact: one that rang early and was set again for the rest would ring for ever."""
        return math.ulp(self.time())

    @_clock_resolution.setter
    def _clock_resolution(self, seconds: float) -> None:
        """What the loop believes of the real clock does not matter."""

    def time(self) -> float:
        return float(self._jumping.elapsed)

    def pass_over(self, seconds: float) -> None:
        """Time that passes while the program does not run; all its timers ring late."""
        self._jumping.elapsed += seconds

    @property
    def is_quiet(self) -> bool:
        """Nothing is left to do in this moment."""
        if self._ready:
            return False
        return not self._scheduled or self._scheduled[0].when() > self.time()

    def timers_of(self, owner: object) -> list[asyncio.TimerHandle]:
        """What the owner has set and not cancelled."""
        return [h for h in self._scheduled if not h.cancelled() and _owner(h) is owner]

    def stop_owner(self, owner: object) -> None:
        """Nothing of the owner runs until ``resume_owner``; its timers ring late."""
        self._held[owner] = self._taken(owner)

    def resume_owner(self, owner: object) -> None:
        """What fell due meanwhile is done now, in its order."""
        for handle in self._held.pop(owner):
            if handle.cancelled():
                continue
            if isinstance(handle, asyncio.TimerHandle):
                heapq.heappush(self._scheduled, handle)
                handle._scheduled = True  # type: ignore[attr-defined]
            else:
                self._ready.append(handle)

    def remove_owner(self, owner: object) -> None:
        """Nothing of the owner ever runs again, no ``finally`` either."""
        self._taken(owner)
        self._held.pop(owner, None)
        self._gone.add(owner)
        self._remains += self.tasks_of(owner)

    def tasks_of(self, owner: object) -> list[asyncio.Task[Any]]:
        """Those that have not ended."""
        return [t for t in asyncio.all_tasks(self) if self._owners.get(t) is owner]

    def abandon(self) -> None:
        """Close the loop, and with it whatever was left in the middle on it."""
        self.set_exception_handler(lambda *_: None)
        for task in [*self._remains, *asyncio.all_tasks(self)]:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            _close(task.get_coro())
        self._remains.clear()
        self.close()

    def create_task(self, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        task = super().create_task(coro, **kwargs)
        context = kwargs.get("context")
        owner = OWNER.get() if context is None else context.get(OWNER)
        if owner is not None:
            self._owners[task] = owner
        return task

    def _taken(self, owner: object) -> list[Any]:
        timers = [h for h in self._scheduled if _owner(h) is owner]
        self._scheduled = [h for h in self._scheduled if _owner(h) is not owner]
        heapq.heapify(self._scheduled)
        for handle in timers:
            handle._scheduled = False
            self._timer_cancelled_count -= handle.cancelled()
        timers.sort(key=lambda h: h.when())
        ready = [h for h in self._ready if _owner(h) is owner]
        kept = [h for h in self._ready if _owner(h) is not owner]
        self._ready.clear()
        self._ready.extend(kept)
        return ready + [h for h in timers if not h.cancelled()]

    def call_soon(self, *args: Any, **kwargs: Any) -> asyncio.Handle:
        handle = super().call_soon(*args, **kwargs)
        if self._held or self._gone:
            owner = _owner(handle)
            if owner in self._gone:
                self._ready.pop()
            elif owner in self._held:
                self._held[owner].append(self._ready.pop())
        return handle


def _owner(handle: Any) -> object:
    return handle._context.get(OWNER)


def _close(coroutine: Any) -> None:
    """Whatever its ``finally`` says; one that awaits something there has to be told again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one that was passed to another, which never began
        for _ in range(CLOSINGS):
            with contextlib.suppress(Exception):
                coroutine.close()
                return


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` on virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
