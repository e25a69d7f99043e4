"""Which layers lie on which device, and what each place then holds. PURE.

As llama.cpp does it (``load_tensors``): of the blocks and the output layer the last ``gpu_layers``
go to devices, cut by the running sums of ``tensor_split``, or of the room of each device where that
is not said; a layer's cache lies where the layer does. The table of embeddings stays on the host.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .memory_layout import Layer, MemoryLayout

HOST = "host"
# What an NVIDIA driver takes for a process that computes; not measured, no such device was there.
DEVICE_OVERHEAD_BYTES = 300_000_000


@dataclass(frozen=True)
class Share:
    """Bytes at one place; ``other``: processes, libraries, drivers."""

    weights: int = 0
    cache: int = 0
    compute: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.compute + self.other

    def __add__(self, more: Share) -> Share:
        return Share(
            self.weights + more.weights,
            self.cache + more.cache,
            self.compute + more.compute,
            self.other + more.other,
        )


def place(layout: MemoryLayout, gpu_layers: int, split: Mapping[str, float]) -> dict[str, Share]:
    """What the host and each device of ``split`` hold, with ``gpu_layers`` of the layers on these;
    a device that gets none is left out. A draft model goes with them, all or as many layers."""
    shares = _place(layout, gpu_layers, split)
    devices = [d for d in split if d in shares]
    shares[HOST] += Share(other=layout.worker)
    if layout.draft is not None:
        for where, share in _place(layout.draft, gpu_layers, split).items():
            shares[where] = shares.get(where, Share()) + share
        devices = [d for d in split if d in shares]
    for device in devices:
        shares[device] += Share(other=DEVICE_OVERHEAD_BYTES)
    first = devices[0] if devices else HOST
    shares[first] += Share(weights=layout.projector)
    return shares


def splits(options: Mapping[str, Any], room: Mapping[str, int]) -> dict[str, float]:
    """In which proportions devices get layers: as ``tensor_split`` says, in the order of the
    devices, else by their room in bytes."""
    asked = options.get("tensor_split")
    devices = {device: float(max(0, size)) for device, size in room.items()}
    parts = [_part(value) for value in asked] if isinstance(asked, (list, tuple)) else []
    if not any(parts):
        return devices
    return dict(zip(devices, [*parts, *[0.0] * len(devices)], strict=False))


def layers_that_fit(
    layout: MemoryLayout, split: Mapping[str, float], room: Mapping[str, int]
) -> int:
    """So many layers, the output layer included, that no device holds more than its room, and one
    does with the next. 0 where there is none."""
    low, high = 0, len(layout.movable)
    while low < high:
        middle = (low + high + 1) // 2
        shares = place(layout, middle, split)
        if all(share.total <= room.get(d, 0) for d, share in shares.items() if d != HOST):
            low = middle
        else:
            high = middle - 1
    return low


def _place(layout: MemoryLayout, count: int, split: Mapping[str, float]) -> dict[str, Share]:
    movable = layout.movable
    moved = min(count, len(movable)) if any(split.values()) else 0
    stays, goes = movable[: len(movable) - moved], movable[len(movable) - moved :]
    weights = layout.fixed + sum(layer.weights + layer.copies for layer in stays)
    shares = {HOST: Share(weights, sum(layer.cache for layer in stays), layout.compute)}
    for device, layers in _cut(goes, split).items():
        weights = sum(layer.weights + layer.shared for layer in layers)
        shares[device] = Share(weights, sum(layer.cache for layer in layers), layout.compute)
    return shares


def _cut(layers: Sequence[Layer], split: Mapping[str, float]) -> dict[str, list[Layer]]:
    devices, total = list(split), sum(split.values())
    bounds = [done / total for done in itertools.accumulate(split.values())] if total else []
    found: dict[str, list[Layer]] = {}
    for n, layer in enumerate(layers):
        at = min(bisect.bisect_right(bounds, n / len(layers)), len(devices) - 1)
        found.setdefault(devices[at], []).append(layer)
    return found


def _part(value: object) -> float:
    """0 for what the engine will refuse."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return 0.0
    return max(0.0, float(value))
