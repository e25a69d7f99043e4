"""PURE. Times as Ollama writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What Go's nanoseconds reach to: Ollama's own "for ever" is centuries away, too.
FOREVER_NS = (1 << 63) - 1


def rfc3339(ns: int) -> str:
    """``2026-11-28T20:15:00.123456Z`` for nanoseconds since 1970, which are within 64 bits."""
    time = _EPOCH + timedelta(microseconds=min(ns, FOREVER_NS) // 1000)
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")
