"""PURE. Times in a query."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from modelpool_client.errors import InvalidRequest


def seconds_of(text: str, param: str) -> float:
    """Seconds since 1970 of a time: as such, as ISO 8601, or as a day; without a zone it is UTC.

    Raises:
        InvalidRequest: it is none of that.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = _seconds_of_iso(text, param)
    if not math.isfinite(seconds) or not 0 <= seconds < 2**37:
        raise _wrong(text, param)
    return seconds


def _seconds_of_iso(text: str, param: str) -> float:
    try:
        # In a query a plus that was not escaped is a space.
        at = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise _wrong(text, param) from None


def _wrong(text: str, param: str) -> InvalidRequest:
    how = "2026-05-31, 2026-05-31T12:00:00Z or seconds since 1970"
    return InvalidRequest(f"{param} should be a time, as {how}, not {text[:60]!r}", param=param)
