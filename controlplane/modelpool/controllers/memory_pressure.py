"""PURE: is memory short on the host, and who goes then?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelpool.pool.admission import MB, Resident
from modelpool.pool.memory import Pressure


@dataclass(frozen=True)
class Limits:
    """From where on it is pressure; 0 turns one off."""

    percent: float
    available: int


def complaint(reading: Pressure, limits: Limits) -> str:
    """Why memory is short, in words; empty if it is not."""
    if limits.available > 0 and reading.available < limits.available:
        left = f"{reading.available / MB:,.0f} MB available"
        return f"memory is short: {left}, less than {limits.available / MB:,.0f} MB"
    stalled = reading.some_avg10
    if limits.percent > 0 and stalled is not None and stalled >= limits.percent:
        return f"memory is short: something waited for it {stalled:.0f} % of the last 10 s"
    return ""


def victim(residents: Sequence[Resident]) -> str | None:
    """Who may go and costs least; None if nobody may."""
    free = [r for r in residents if not (r.protected or r.pinned or r.leaving)]
    return min(free, key=lambda r: r.loss).model_id if free else None
