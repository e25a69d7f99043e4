"""PURE. How long Ollama's clients want a model kept after their request."""

from __future__ import annotations

import math
import re

from modelpool_client.errors import InvalidRequest

# A duration as Go's time.ParseDuration reads it, which Ollama uses.
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_WHOLE = re.compile(rf"[+-]?(?:(?:{_PART.pattern})+|0)", re.ASCII)
# Go's durations are nanoseconds in 64 bits; what is longer than that is for ever.
_LONGEST = (1 << 63) / 1e9
_SHORTEST = 1e-9


def keep_alive_seconds(value: object) -> float | None:
    """Seconds from the end of the request; 0: unload then, ``math.inf``: for ever, None: not given.

    Args:
        value: seconds as a number, or a Go duration such as ``"1h30m"``; what is negative is for
            ever.

    Raises:
        InvalidRequest: anything else, a number in a string (``"300"``) included, as with Ollama.
    """
    if value is None:
        return None
    seconds = _seconds(value)
    if seconds < 0 or seconds >= _LONGEST:
        return math.inf
    return seconds if seconds >= _SHORTEST else 0.0


def _seconds(value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _LONGEST if value > _LONGEST else float(max(value, -1))
    if isinstance(value, str) and len(value) <= 100 and _WHOLE.fullmatch(value):
        total = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
        return -total if value.startswith("-") else total
    raise InvalidRequest(
        f"keep_alive must be a number of seconds, or a duration like '5m' or '1h30m', "
        f"not {str(value)[:60]!r}",
        param="keep_alive",
    )
