"""What to reserve for a model: estimated, declared, or learned from what it really took. PURE."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from .estimate import BYTES_PER_MB, Footprint
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
        options: a hash of engine, source and options.
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


@dataclass(frozen=True)
class Figures:
    """What is known of a model's memory on the host, in bytes; ``source`` tells which of them
    ``reserved`` comes from."""

    estimated: int
    declared: int | None
    measured_peak: int | None
    reserved: int
    source: Source

    @classmethod
    def of(cls, estimated: int) -> Figures:
        """Where nothing but an estimate is known."""
        return cls(estimated, None, None, estimated, "estimated")


def key_of(model: Model, fingerprint: str) -> Key:
    """Under which the model's peaks are kept."""
    how: list[Any] = [model.engine, model.source, sorted(model.options.items())]
    digest = hashlib.sha256(json.dumps(how, default=str).encode()).hexdigest()
    return Key(model.model_id, fingerprint, digest[:16])


def figures(model: Model, footprint: Footprint, peaks: Mapping[str, Peak]) -> Figures:
    """What to reserve of the host.

    A measured peak overrules what was declared or estimated once a worker had answered a request,
    but never vouches for less than the model's weights: nobody saw them leave memory for good, and
    two workers of one file share them. Before the first request it only raises the figure.
    """
    declared = None if model.memory_mb is None else int(model.memory_mb * BYTES_PER_MB)
    peak = peaks.get(HOST)
    said = footprint.host if declared is None else declared
    source: Source = "estimated" if declared is None else "declared"
    reserved = said
    if peak is not None:
        seen = int(peak.peak_bytes * MARGIN)
        floor = footprint.firm if peak.worked else said
        reserved = max(seen, floor)
        source = "measured" if peak.worked or seen > said else source
    measured = None if peak is None else peak.peak_bytes
    return Figures(footprint.host, declared, measured, reserved, source)


def device_bytes(footprint: Footprint, peaks: Mapping[str, Peak]) -> dict[str, int]:
    """What to reserve of each device that has a budget, by the same rule."""
    reserved = {}
    for device, estimated in footprint.devices.items():
        peak = peaks.get(device)
        seen = 0 if peak is None else int(peak.peak_bytes * MARGIN)
        reserved[device] = seen if peak is not None and peak.worked else max(seen, estimated)
    return reserved
