"""PURE: which scheduled loads and unloads are due."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from cronsim import CronSim

# What was missed for longer than that (the machine slept, the clock was set) is not made up for: a
# model loaded for nine o'clock is of no use at noon.
LATEST = timedelta(minutes=10)


def due(schedule: Sequence[Mapping[str, Any]], since: datetime, now: datetime) -> list[str]:
    """The actions whose time has come after ``since`` and until ``now``, in order, each once.

    Both times are local; a clock that was set back makes nothing due.
    """
    since = max(since, now - LATEST)
    found = []
    for entry in schedule:
        when = _next(entry["cron"], since)
        if when is not None and when <= now:
            found.append((when, str(entry["action"])))
    return [action for _, action in sorted(found)]


def _next(cron: str, after: datetime) -> datetime | None:
    return next(CronSim(cron, after), None)
