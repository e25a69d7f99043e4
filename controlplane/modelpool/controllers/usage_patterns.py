"""PURE: when a model is used, learned from when it was.

A week has 168 hours; each remembers how often the model was used in it, the last weeks counting
most. That finds what offices and cron jobs do, and claims no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

HOURS = 168
# How much the newest week counts: three weeks make 0.66 of what is remembered.
NEWEST = 0.3


def hour_of_week(at: datetime) -> int:
    """0 is Monday's first hour, local time."""
    return at.weekday() * 24 + at.hour


def hour_since_epoch(at: datetime) -> int:
    """A number for this very hour."""
    return int(at.timestamp() // 3600)


@dataclass(frozen=True)
class UsagePattern:
    """Uses in each hour of the week; ``counting`` is of the hour that is not over yet."""

    usual: Mapping[int, float] = field(default_factory=dict)
    hour: int = -1
    counting: int = 0

    def used(self, times: int, at: datetime) -> UsagePattern:
        """After so many uses more."""
        current = self.until(at)
        return UsagePattern(current.usual, current.hour, current.counting + times)

    def until(self, at: datetime) -> UsagePattern:
        """Takes the counted hour into the usual ones once it is over."""
        hour = hour_since_epoch(at)
        if hour == self.hour:
            return self
        if self.hour < 0:
            return UsagePattern(self.usual, hour)
        ended = hour_of_week(datetime.fromtimestamp(self.hour * 3600, at.tzinfo))
        usual = dict(self.usual)
        usual[ended] = (1 - NEWEST) * usual.get(ended, 0.0) + NEWEST * self.counting
        return UsagePattern({h: w for h, w in usual.items() if w >= 0.01}, hour)

    def expected(self, at: datetime) -> float:
        """Uses to be expected in the hour of ``at``."""
        return self.usual.get(hour_of_week(at), 0.0)
