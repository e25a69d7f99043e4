"""PURE. What goes on in a worker: requests in flight, idle time, and whether it may drain now.

Every method takes ``now``, seconds of a monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Activity:
    """The front's counters. ``last_end`` is the end of the last request, or the moment of ready.
    ``direct`` of those in flight did not come from the gateway.
    ``owes``: the engine was asked, and has given nothing to anybody since."""

    last_end: float = 0.0
    silent_since: float = 0.0
    owes: bool = False
    in_flight: int = 0
    direct: int = 0
    requests: int = 0
    errors: int = 0
    tokens: int = 0
    draining_since: float | None = None

    @property
    def answered(self) -> int:
        """Requests that are over."""
        return self.requests - self.in_flight

    @property
    def has_answered(self) -> bool:
        """A request has ended."""
        return self.requests > self.in_flight

    @property
    def is_draining(self) -> bool:
        """New work is refused; there is no way back."""
        return self.draining_since is not None

    def begin(self, now: float, *, is_direct: bool = False) -> bool:
        """A request starts. True if the worker had none before, or none of its kind: the manager
        counts what it sends by itself, and has to hear of the others."""
        self.requests += 1
        self.in_flight += 1
        self.direct += is_direct
        # Clients that give up one after the other must not hide that nobody is answered.
        if self.in_flight == 1 and not self.owes:
            self.silent_since = now
        return self.in_flight == 1 or (is_direct and self.direct == 1)

    def asked(self) -> None:
        """A request went to the engine."""
        self.owes = True

    def end(
        self, now: float, *, failed: bool = False, tokens: int = 0, is_direct: bool = False
    ) -> bool:
        """A request ends. True if it was the last one in flight, or the last direct one."""
        self.in_flight -= 1
        self.direct -= is_direct
        self.errors += failed
        self.tokens += tokens
        self.last_end = now
        return self.in_flight == 0 or (is_direct and self.direct == 0)

    def sign_of_work(self, now: float) -> None:
        """The engine sent something for a request or a probe."""
        self.silent_since, self.owes = now, False

    def idle_seconds(self, now: float) -> float:
        """Since the end of the last request; 0 while any is in flight."""
        return 0.0 if self.in_flight else max(0.0, now - self.last_end)

    def progress_seconds(self, now: float) -> float:
        """Since the engine's last sign of work; 0 while it has nothing to give one for."""
        is_due = self.in_flight > 0 or self.owes
        return max(0.0, now - self.silent_since) if is_due else 0.0

    def drain(self, now: float, if_idle_for: float | None = None) -> bool:
        """Refuse new work from now on, if ``if_idle_for`` allows it. True if (already) draining."""
        if self.is_draining:
            return True
        busy = self.in_flight > 0 or self.idle_seconds(now) < (if_idle_for or 0.0)
        if if_idle_for is not None and busy:
            return False
        self.draining_since = now
        return True
