"""PURE. The contract of a kind of target: a function from a message to the JSON that is posted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

# What one message has of them at most; it says how many are left out.
MOST_ALERTS = 100


@dataclass(frozen=True)
class Told:
    """An alert, as it is told.

    Attributes:
        labels: ``alertname``, ``severity``, and whose it is: ``model``, ``currency``.
        summary, description: what it means; the figures.
        starts_at, ends_at: ISO 8601; it fires where there is no end.
        fingerprint: the same for the same alert.
    """

    labels: Mapping[str, str]
    summary: str
    description: str
    starts_at: str
    ends_at: str | None
    fingerprint: str

    @property
    def is_firing(self) -> bool:
        """It is not over."""
        return self.ends_at is None


@dataclass(frozen=True)
class Message:
    """What a target is told at once.

    Attributes:
        receiver: the target's name.
        pool_url: where the pool is asked.
        alerts: at most ``MOST_ALERTS``; ``left_out`` are more.
    """

    receiver: str
    pool_id: str
    pool_url: str
    alerts: tuple[Told, ...]
    left_out: int = 0

    @property
    def is_firing(self) -> bool:
        """Does any of them?"""
        return any(alert.is_firing for alert in self.alerts)


Body: TypeAlias = Callable[[Message], Mapping[str, Any]]
