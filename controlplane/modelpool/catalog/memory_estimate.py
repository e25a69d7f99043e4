"""What to reserve for a model: estimated, declared, or learned from what it really took. PURE."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from .footprint import BYTES_PER_MB, Footprint
from .model import Model

HOST = "host"
# A peak is the largest of samples that were taken seconds apart.
MARGIN = 1.05

Source = Literal["estimated", "declared", "measured"]


class Key(NamedTuple):
    """What a measured peak holds for: this file, loaded in this way."""

    model_id: str
    fingerprint: str
    options: str


@dataclass(frozen=True)
class Peak:
    """The most that a model was ever measured to take, in bytes.

    Attributes:
        fingerprint: of its file; another file is measured anew.
        options: a hash of engine, source, options, environment and devices.
        device: ``host``, or a device's id.
        samples: workers that were measured.
        worked: one of them had answered a request; before, caches and buffers may be untouched.
        updated_at: seconds since 1970.
    """

    model_id: str
    fingerprint: str
    options: str
    device: str
    peak_bytes: int
    samples: int = 1
    worked: bool = False
    updated_at: float = 0.0

    @property
    def key(self) -> Key:
        return Key(self.model_id, self.fingerprint, self.options)

    def __or__(self, other: Peak) -> Peak:
        """Both taken together, as the database does it."""
        return Peak(
            *self.key,
            self.device,
            max(self.peak_bytes, other.peak_bytes),
            self.samples + other.samples,
            self.worked or other.worked,
            max(self.updated_at, other.updated_at),
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """Bytes to reserve of the host or of a device; ``least`` of them without the margin."""

    bytes: int
    least: int
    source: Source

    @classmethod
    def of(cls, size: int, source: Source = "estimated") -> Claim:
        """A figure that has no margin."""
        return cls(size, size, source)

    def within(self, room: int) -> int:
        """What ran in that room fits into it again, if only without the margin."""
        return max(self.least, min(self.bytes, room))


class Claims(NamedTuple):
    """What a start of a model reserves: of the host, and of each device that has a budget."""

    host: Claim
    devices: Mapping[str, Claim]


@dataclass(frozen=True)
class MemoryEstimate:
    """What is known of a model's memory on the host, in bytes; ``source`` tells which of them
    ``reserved`` comes from."""

    estimated: int
    declared: int | None
    measured_peak: int | None
    claim: Claim

    @classmethod
    def of(cls, estimated: int) -> MemoryEstimate:
        """Where nothing but an estimate is known."""
        return cls(estimated, None, None, Claim.of(estimated))

    @property
    def reserved(self) -> int:
        return self.claim.bytes

    @property
    def source(self) -> Source:
        return self.claim.source


def key_of(model: Model, fingerprint: str) -> Key:
    """Under which the model's peaks are kept."""
    how: list[Any] = [model.engine, model.source, sorted(model.options.items())]
    if model.environment or model.devices is not None:
        how += [model.environment, model.devices]
    digest = hashlib.sha256(json.dumps(how, default=str).encode()).hexdigest()
    return Key(model.model_id, fingerprint, digest[:16])


def runs_alike(one: Model, other: Model) -> bool:
    """What was learned of the memory of one entry holds for the other."""
    return key_of(one, "") == key_of(other, "")


def estimate_host(model: Model, footprint: Footprint, peaks: Mapping[str, Peak]) -> MemoryEstimate:
    """What to reserve of the host.

    A measured peak overrules what was declared or estimated once a worker had answered a request,
    but never vouches for less than the model's weights: nobody saw them leave memory for good, and
    two workers of one file share them. Before the first request it only raises the figure.
    """
    declared = None if model.memory_mb is None else int(model.memory_mb * BYTES_PER_MB)
    claim = Claim.of(footprint.host) if declared is None else Claim.of(declared, "declared")
    peak = peaks.get(HOST)
    if peak is None:
        return MemoryEstimate(footprint.host, declared, None, claim)
    floor = footprint.firm if peak.worked else claim.bytes
    return MemoryEstimate(
        footprint.host, declared, peak.peak_bytes, _measured(peak, floor, claim.source)
    )


def device_claims(footprint: Footprint, peaks: Mapping[str, Peak]) -> dict[str, Claim]:
    """What to reserve of each device, by the same rule. One that was measured counts even where
    nothing was estimated for it."""
    claims = {device: Claim.of(size) for device, size in footprint.devices.items()}
    for device, peak in peaks.items():
        if device != HOST:
            floor = 0 if peak.worked else footprint.devices.get(device, 0)
            claims[device] = _measured(peak, floor, "estimated")
    return claims


def _measured(peak: Peak, floor: int, source: Source) -> Claim:
    """``source`` is that of the floor."""
    seen = int(peak.peak_bytes * MARGIN)
    is_seen = peak.worked or seen > floor
    least = max(peak.peak_bytes, floor)
    return Claim(max(seen, floor), least, "measured" if is_seen else source)
