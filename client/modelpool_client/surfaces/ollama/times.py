"""PURE. Times as Ollama writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What Go's nanoseconds reach to: Ollama's own "for ever" is centuries away, too.
FOREVER_NS = (1 << 63) - 1


def rfc3339(ns: int) -> str:
    """``2026-11-28T20:15:00.123456Z`` for nanoseconds since 1970, which are within 64 bits."""
    seconds, micros = divmod(min(ns, FOREVER_NS) // 1000, 1_000_000)
    return f"{_second(seconds)}.{micros:06d}Z"


@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    """The lines of a stream come many within one."""
    return (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
