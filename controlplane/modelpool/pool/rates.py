"""PURE: how often something is used, lately."""

from __future__ import annotations

from dataclasses import dataclass

# Half of the weight of a use is gone after that: long enough for a working day's rhythm within an
# hour, short enough to forget yesterday's model.
HALF_LIFE_SECONDS = 600.0


@dataclass(frozen=True)
class Rate:
    """A count in which every use loses half its weight in ``HALF_LIFE_SECONDS``."""

    weight: float = 0.0
    at: float = 0.0

    def used(self, times: int, now: float) -> Rate:
        """After so many uses more."""
        return Rate(self.faded(now) + times, now)

    def faded(self, now: float) -> float:
        """Uses in about the last two half-lives."""
        return float(self.weight * 0.5 ** (max(0.0, now - self.at) / HALF_LIFE_SECONDS))

    def per_second(self, now: float) -> float:
        """The mean rate that leads to this weight where uses come evenly."""
        return self.faded(now) * 0.6931471805599453 / HALF_LIFE_SECONDS


def loss(uses_per_second: float, reload_seconds: float, size: int) -> float:
    """What evicting costs: seconds that users will wait per second, for each GB that it frees."""
    return uses_per_second * reload_seconds / max(size / 1e9, 1e-6)
