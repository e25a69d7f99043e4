"""PURE. How much may be asked again: a share of what is asked at all, so that trouble is not made
worse by everybody asking twice (as Finagle's ``RetryBudget`` and gRPC's retry throttling)."""

from __future__ import annotations

from dataclasses import dataclass

# However little is asked: so many a second, and so many of those are kept for later.
LEAST_PER_SECOND = 2.0
LEAST_KEPT = 10.0
# Deposits of that many requests are kept at most.
KEPT_REQUESTS = 500
# Each pause is twice the one before.
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 1.0


@dataclass(slots=True)
class RetryBudget:
    """Its owner alone changes it. ``balance``: requests that may be sent again now."""

    balance: float = LEAST_KEPT
    at: float = 0.0

    def deposit(self, share: float) -> None:
        """A request came, which is worth that share of another try."""
        self.balance = min(self.balance + share, max(LEAST_KEPT, share * KEPT_REQUESTS))

    def withdraw(self, now: float) -> bool:
        """Whether one may be sent again, which it is then."""
        if self.balance < LEAST_KEPT:
            grown = self.balance + max(0.0, now - self.at) * LEAST_PER_SECOND
            self.balance = min(grown, LEAST_KEPT)
        self.at = now
        if self.balance < 1:
            return False
        self.balance -= 1
        return True


def pause_seconds(attempt: int, draw: float) -> float:
    """Before the try that follows the ``attempt``-th, from 0: doubled each time, and between half
    of that and all, as ``draw`` says, a number from 0 to 1: those that failed together do not come
    back together."""
    longest = min(PAUSE_SECONDS * 2.0 ** min(attempt, 16), LONGEST_PAUSE_SECONDS)
    return longest * (0.5 + draw / 2)
