"""PURE. Whether models would fit, for thousands of them from one look at the pool.

Says what ``admission.plan`` would decide, without who would have to go: ``now`` for a start without
evictions, ``after evictions`` for one with them, ``later`` where it would wait for others to end
their work or other programs to give memory back, ``never`` for what no eviction makes room for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from modelpool.pool.admission import Budget, Requirements, Resident, free_on

Verdict = Literal["loaded", "now", "after evictions", "later", "never"]


@dataclass(frozen=True)
class Space:
    """What a start would find: of models a number, else bytes. A device that is not named has no
    limit."""

    models: int
    bytes: int
    host_available: int
    devices: Mapping[str, int]

    def holds(self, need: Requirements) -> bool:
        """Whether there is room for it, as far as admission's budgets go."""
        return (
            self.models > 0
            and need.bytes <= min(self.bytes, self.host_available)
            and all(size <= self.devices.get(d, size) for d, size in need.devices.items() if size)
        )

    @property
    def host(self) -> int:
        """Bytes of the host."""
        return max(0, min(self.bytes, self.host_available))


@dataclass(frozen=True)
class Capacity:
    """Space at this moment, once all that may go are gone, and once all but the pinned are."""

    now: Space
    after_evictions: Space
    ever: Space
    could_ever: Space

    @classmethod
    def of(cls, residents: Sequence[Resident], budget: Budget) -> Capacity:
        """Those leaving already count as gone where evictions do."""
        stay = [r for r in residents if not r.leaving and (r.pinned or r.protected)]
        pinned = [r for r in residents if r.pinned and not r.leaving]
        gone = [r for r in residents if r not in stay]
        others = [r for r in residents if r not in pinned]
        host = budget.host_available
        return cls(
            _space(residents, budget, host - _pending(residents), _free(residents, [], budget)),
            _space(
                stay,
                budget,
                host - _pending(stay) + _bytes(gone) - _pending(gone),
                _free(stay, gone, budget),
            ),
            _space(pinned, budget, host + _bytes(others), _free([], others, budget)),
            _space(pinned, budget, budget.limit_bytes, {}),
        )

    def verdict(self, need: Requirements) -> Verdict:
        """For a model that is not loaded."""
        if not self.could_ever.holds(need):
            return "never"
        if not self.ever.holds(need):
            return "later"
        if self.now.holds(need):
            return "now"
        return "after evictions" if self.after_evictions.holds(need) else "later"


def _free(staying: Sequence[Resident], gone: Sequence[Resident], budget: Budget) -> dict[str, int]:
    return {device: free_on(device, staying, gone, budget) for device in budget.devices_free}


def _space(
    staying: Sequence[Resident], budget: Budget, host: int, free: Mapping[str, int]
) -> Space:
    rooms = {
        device: size - sum(r.devices.get(device, 0) for r in staying)
        for device, size in budget.devices.items()
    }
    devices = {device: min(size, free.get(device, size)) for device, size in rooms.items()}
    return Space(
        budget.max_models - sum(not r.is_asleep for r in staying),
        budget.limit_bytes - _bytes(staying),
        host,
        devices,
    )


def _bytes(of: Sequence[Resident]) -> int:
    return sum(r.bytes for r in of)


def _pending(of: Sequence[Resident]) -> int:
    return sum(r.pending_bytes for r in of)
