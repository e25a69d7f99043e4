"""A worker process that was started before there is work for it: it has imported what it needs, and
waits on standard input for its assignment. Of a cold start that saves the start of two Pythons.

It has no model and no port, and ends by itself when its manager is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

# A load has the processor for itself first.
DELAY_SECONDS = 1.0
# An id may be given to a start that never comes, because it was not given room.
CLAIM_SECONDS = 60.0


@dataclass(frozen=True)
class Spare:
    """One that waits. Its environment carries the id of the worker that it is to be."""

    worker_id: str
    engine: str
    process: subprocess.Popen[bytes]

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def discard(self) -> None:
        """End it, with what it has started. Blocks for the moment that a KILL takes."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()


class Spares:
    """At most one that waits, for the engine that was started last; and those whose start is under
    way. ``spawn`` starts one, given its engine and the worker's id."""

    def __init__(self, spawn: Callable[[str, str], subprocess.Popen[bytes]]) -> None:
        self._spawn = spawn
        self._waiting: Spare | None = None
        self._promised: dict[str, Spare] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._making: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Spares: {self._waiting}, {len(self._promised)} promised>"

    def promise(self, engine: str) -> str:
        """The id of the one that waits for an assignment of that engine, which is kept for it; a
        new id where there is none."""
        spare = self._waiting
        if spare is None or spare.engine != engine or not spare.is_alive:
            return uuid.uuid4().hex
        self._waiting = None
        self._promised[spare.worker_id] = spare
        self._later(CLAIM_SECONDS, lambda: self._take_back(spare))
        return spare.worker_id

    def claim(self, worker_id: str) -> subprocess.Popen[bytes] | None:
        """The process that waits to be that worker; None where none does."""
        spare = self._promised.pop(worker_id, None)
        if spare is None:
            return None
        if not spare.is_alive:
            spare.discard()
            return None
        return spare.process

    def wanted(self, engine: str) -> None:
        """A worker of that engine was started; another may be."""
        self._later(DELAY_SECONDS, lambda: self._make(engine))

    async def close(self) -> None:
        """End all that wait."""
        self._is_closed = True
        for timer in self._timers:
            timer.cancel()
        await asyncio.gather(*self._making, return_exceptions=True)
        spares = [*self._promised.values(), *([self._waiting] if self._waiting else [])]
        self._waiting = None
        self._promised.clear()
        await asyncio.to_thread(_discard, spares)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        def act() -> None:
            self._timers.discard(timer)
            action()

        timer = asyncio.get_running_loop().call_later(seconds, act)
        self._timers.add(timer)

    def _take_back(self, spare: Spare) -> None:
        if self._promised.pop(spare.worker_id, None) is None:
            return
        if self._waiting is None and spare.is_alive and not self._is_closed:
            self._waiting = spare
        else:
            spare.discard()

    def _make(self, engine: str) -> None:
        waiting = self._waiting
        if self._is_closed or self._making:
            return
        if waiting is not None:
            if waiting.engine == engine and waiting.is_alive:
                return
            self._waiting = None
            waiting.discard()
        task = asyncio.ensure_future(self._made(engine))
        self._making.add(task)
        task.add_done_callback(self._making.discard)

    async def _made(self, engine: str) -> None:
        worker_id = uuid.uuid4().hex
        try:
            process = await asyncio.to_thread(self._spawn, engine, worker_id)
        except OSError as e:
            log.warning("no spare worker could be started: %s", e)
            return
        self._waiting = Spare(worker_id, engine, process)
        log.info("process %d waits for the next load of engine %s", process.pid, engine)


def _discard(spares: list[Spare]) -> None:
    for spare in spares:
        spare.discard()
