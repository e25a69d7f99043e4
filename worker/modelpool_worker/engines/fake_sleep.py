"""Sleep of the fake engine: what it holds is given back, and nobody may ask it meanwhile."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

from modelpool_worker.sleep import Sleep, SleepStep

SLEEP, WAKE, CHECK = "/sleep", "/wake_up", "/is_sleeping"
ASKED_ASLEEP = 9


class FakeSleep:
    """Whether it sleeps. ``hold`` takes the memory that it has awake."""

    def __init__(self, hold: Callable[[], object]) -> None:
        self._hold = hold
        self._held: object = hold()
        self._changing = threading.Lock()
        self.is_asleep = False

    def answers(self, path: str) -> bool:
        """Whether it is asked for by that path."""
        return path in (SLEEP, WAKE, CHECK)

    def take(self, path: str) -> dict[str, bool]:
        """Do what the path says; what is answered."""
        with self._changing:
            if path == SLEEP:
                self._held, self.is_asleep = None, True
            elif path == WAKE and self.is_asleep:
                self._held, self.is_asleep = self._hold(), False
            return {"is_sleeping": self.is_asleep}

    def check_awake(self) -> None:
        """As a server that reads memory which is not there any more: it dies."""
        if self.is_asleep:
            print("fake: it was asked while it sleeps", file=sys.stderr, flush=True)
            os._exit(ASKED_ASLEEP)


def way_of(level: int | None) -> Sleep | None:
    """How it is told to; None: it cannot."""
    if level is None:
        return None
    return Sleep(level, (SleepStep(SLEEP),), (SleepStep(WAKE),), CHECK)
