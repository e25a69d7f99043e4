"""How many requests at once, of how many tokens, with how many layers on devices, where nobody has
said it. PURE.

llama.cpp's cache grows with both, and it is the larger part of many models: 8 contexts of 4096
tokens take 17 GB for 7 billion parameters without grouped attention, beside 4 GB of weights.

1. All 8, if the model then takes no more than half of the memory: another should fit beside it.
2. Else half as many, down to one; that one may have all of the memory.
3. On devices, where not even that fits: as many layers as fit there, the rest on the host.
4. Where not even that fits, half the context, down to 512 tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .footprint import UNKNOWN_MACHINE, Machine, footprint_of, layout_of
from .llama_memory import DEFAULT_PARALLEL, context_length, parallel
from .model_info import ModelInfo
from .placement import DEVICE_OVERHEAD_BYTES, HOST, layers_that_fit, splits

MB = 1_000_000
SHARE = 0.5
LEAST_CONTEXT = 512
# Contexts are told apart by so many tokens.
CONTEXT_STEP = 256
# Of a file that does not say how much its model was trained for.
MOST_CONTEXT = 1 << 17

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Room:
    """Bytes of the host, for all models, and of each device that the pool may use."""

    host: int
    machine: Machine = UNKNOWN_MACHINE

    def times(self, share: float) -> Room:
        devices = {device: int(size * share) for device, size in self.machine.devices.items()}
        return Room(int(self.host * share), replace(self.machine, devices=devices))

    @property
    def places(self) -> Mapping[str, int]:
        return {HOST: self.host, **self.machine.devices}


def fitted(info: ModelInfo, options: Options, room: Room) -> Options:
    """The options with which to start a model in that room.

    ``parallel``, ``context_length`` and ``gpu_layers`` stay as they are given, and are left out
    where the engine's defaults fit. Of several devices ``tensor_split`` says how much each gets:
    llama.cpp itself would go by what is free there, whatever the pool may have of that.
    """
    options = _with_split(info, options, room)
    fewer, shorter = list(_fewer(options)), list(_shorter(info, options))
    moves = bool(room.machine.devices) and "gpu_layers" not in options
    for choice in fewer if moves else [*fewer, *shorter]:
        chosen = {**options, **choice}
        is_single = parallel(chosen) == 1 or "parallel" in options
        if _fits(info, chosen, room if is_single else room.times(SHARE), room.machine):
            return chosen
    least = {**options, **[*fewer, *shorter][-1]}
    if not moves:
        return least
    for choice in [fewer[-1], *shorter]:
        placed = _on_devices(info, {**options, **choice}, room)
        if not placed["gpu_layers"]:  # they are of no use: it is as if there were none
            return fitted(info, {**options, "gpu_layers": 0}, room)
        if _fits(info, placed, room, room.machine):
            return placed
    return _on_devices(info, least, room)


def largest_context(info: ModelInfo, options: Options, room: Room) -> int | None:
    """The most tokens of one request, in steps of 256 and up to what the model was trained for, for
    which the model with otherwise these options fits; None where it does not with the least."""
    most = info.context_length or MOST_CONTEXT
    low, high = 0, max(1, math.ceil(most / CONTEXT_STEP))
    while low < high:
        middle = (low + high + 1) // 2
        chosen = {**options, "context_length": min(most, middle * CONTEXT_STEP)}
        if _fits(info, chosen, room, room.machine):
            low = middle
        else:
            high = middle - 1
    return min(most, low * CONTEXT_STEP) or None


def device_layers(info: ModelInfo, options: Options, room: Room) -> int:
    """The most layers, the output layer included, that fit on the devices."""
    split = splits(options, room.machine.devices)
    layout = layout_of(info, options, room.machine)
    return layers_that_fit(layout, split, room.machine.devices)


def _with_split(info: ModelInfo, options: Options, room: Room) -> Options:
    """With a share for each of several devices by what it has beyond what any process takes of it;
    one that has no room for a layer gets none."""
    devices = room.machine.devices
    if len(devices) < 2 or "tensor_split" in options or options.get("gpu_layers") == 0:
        return options
    layout = layout_of(info, {"parallel": 1, **options}, room.machine)
    layers = (layer.weights + layer.shared + layer.cache for layer in layout.movable)
    least = max(layers, default=0) + layout.compute
    spare = [size - DEVICE_OVERHEAD_BYTES for size in devices.values()]
    shares = [size // MB if size >= least else 0 for size in spare]
    return {**options, "tensor_split": shares} if any(shares) else options


def _fits(info: ModelInfo, options: Options, room: Room, machine: Machine) -> bool:
    return footprint_of(info, options, machine).fits(room.places)


def _on_devices(info: ModelInfo, options: Options, room: Room) -> Options:
    """With as many layers on devices as fit there."""
    return {**options, "gpu_layers": device_layers(info, options, room)}


def _fewer(options: Options) -> Iterator[Options]:
    """Requests at once, the most first; that is the engine's own."""
    yield {}
    if "parallel" not in options:
        count = DEFAULT_PARALLEL // 2
        while count >= 1:
            yield {"parallel": count}
            count //= 2


def _shorter(info: ModelInfo, options: Options) -> Iterator[Options]:
    """Contexts of one request at a time, the longest first."""
    least = {} if "parallel" in options else {"parallel": 1}
    if "context_length" not in options:
        context = context_length(info, options) // 2
        while context >= LEAST_CONTEXT:
            yield {**least, "context_length": context}
            context //= 2
