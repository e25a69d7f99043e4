"""PURE. What goes on in a worker: requests in flight, idle time, and whether it may drain now.

Every method takes ``now``, seconds of a monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Activity:
    """The front's counters. ``last_end`` is the end of the last request, or the moment of ready."""

    last_end: float = 0.0
    last_sign: float = 0.0
    in_flight: int = 0
    requests: int = 0
    errors: int = 0
    tokens: int = 0
    draining_since: float | None = None

    @property
    def is_draining(self) -> bool:
        """New work is refused; there is no way back."""
        return self.draining_since is not None

    def begin(self, now: float) -> bool:
        """A request starts. True if the worker was idle before."""
        self.requests += 1
        self.in_flight += 1
        if self.in_flight == 1:
            self.last_sign = now
        return self.in_flight == 1

    def end(self, now: float, *, failed: bool = False, tokens: int = 0) -> bool:
        """A request ends. True if it was the last one in flight."""
        self.in_flight -= 1
        self.errors += failed
        self.tokens += tokens
        self.last_end = now
        return self.in_flight == 0

    def sign_of_work(self, now: float) -> None:
        """The engine sent something for a request, or became ready."""
        self.last_sign = now

    def idle_seconds(self, now: float) -> float:
        """Since the end of the last request; 0 while any is in flight."""
        return 0.0 if self.in_flight else max(0.0, now - self.last_end)

    def progress_seconds(self, now: float) -> float:
        """Since the engine's last sign of work on a request; 0 while none is in flight."""
        return max(0.0, now - self.last_sign) if self.in_flight else 0.0

    def drain(self, now: float, if_idle_for: float | None = None) -> bool:
        """Refuse new work from now on, if ``if_idle_for`` allows it. True if (already) draining."""
        if self.is_draining:
            return True
        busy = self.in_flight > 0 or self.idle_seconds(now) < (if_idle_for or 0.0)
        if if_idle_for is not None and busy:
            return False
        self.draining_since = now
        return True
