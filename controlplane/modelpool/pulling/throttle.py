"""A limit on speed that may change while it counts."""

from __future__ import annotations

import time
from collections.abc import Callable

# What may come at once after a rest, in seconds of the limit.
BURST_SECONDS = 0.25
# So long a wait at most: a limit that was raised counts soon.
STEP_SECONDS = 0.25


class Throttle:
    """A token bucket. ``limit`` is in bytes a second, 0 is none; set it whenever you like."""

    def __init__(
        self,
        limit: float = 0.0,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.limit = limit
        self._now = now
        self._sleep = sleep
        self._at = now()
        self._credit = 0.0

    def take(self, count: int) -> None:
        """Return when so many bytes more may come."""
        self._refill()
        self._credit -= count
        while self.limit and self._credit < 0:
            self._sleep(min(STEP_SECONDS, -self._credit / self.limit))
            self._refill()

    def _refill(self) -> None:
        now = self._now()
        if self.limit:
            most = self.limit * BURST_SECONDS
            self._credit = min(most, self._credit + (now - self._at) * self.limit)
        else:
            self._credit = 0.0
        self._at = now
