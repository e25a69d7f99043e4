"""PURE: what a handful of measurements says."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Spread:
    """The median of some measurements, with the least and the greatest of them."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None where nothing was measured."""
        if not values:
            return None
        return cls(statistics.median(values), min(values), max(values), len(values))

    @classmethod
    def from_dict(cls, data: Any) -> Spread | None:
        """The reverse of ``as_dict``."""
        return None if data is None else cls(**data)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
