"""PURE. Whether a message that a target did not take is sent again, and when."""

from __future__ import annotations

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
# A target that says when to come again is believed so far.
LONGEST_TOLD_SECONDS = 300.0
# Of what a client has done wrong, those that pass: timeout, too early, too many.
PASSING = frozenset({408, 425, 429})


def is_taken(status: int) -> bool:
    """Has it arrived?"""
    return 200 <= status < 300


def may_pass(status: int | None) -> bool:
    """Is another attempt of any use? None: there was no answer."""
    return status is None or status >= 500 or status in PASSING


def pause_seconds(attempt: int, told: float | None = None) -> float:
    """After the attempt of that number, from 1 on; ``told``: by its Retry-After."""
    # Beyond that the longest pause is reached long since, and floats end.
    own = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 4.0 ** min(attempt - 1, 10))
    return own if told is None else max(own, min(told, LONGEST_TOLD_SECONDS))


def retry_after(text: str | None) -> float | None:
    """Seconds of a Retry-After header; None where there is none, or a date."""
    try:
        seconds = float(text) if text is not None else None
    except ValueError:
        return None
    return seconds if seconds is not None and 0 <= seconds < float("inf") else None
