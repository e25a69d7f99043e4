"""When a request is sent again. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

# May be different a moment later; as in RFC 9110 and 6585.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})

# Servers may ask for any number of seconds; JSON has no infinity.
MAX_DIGITS, LONGEST_ASKED = 12, 1e9


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait after failures, in seconds.

    Attributes:
        attempts: in a row that brought nothing, until it is given up.
        first, longest: waits; each is twice the one before.
        patience: the longest ``Retry-After`` that is waited for.
    """

    attempts: int = 6
    first: float = 0.5
    longest: float = 30.0
    patience: float = 300.0

    def delay(self, failures: int, asked: float | None = None) -> float | None:
        """Until the next attempt, after so many failures in a row (from 1); None: give up."""
        if failures >= self.attempts or (asked is not None and asked > self.patience):
            return None
        doubled = self.first * 2.0 ** (failures - 1)
        return max(asked or 0.0, min(self.longest, doubled))


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that ``Retry-After`` asks for, as seconds or as a date; None where it says nothing.

    Args:
        now: seconds since 1970.
    """
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return min(float(text[:MAX_DIGITS]), LONGEST_ASKED)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now) if text else None
    except ValueError:
        return None
