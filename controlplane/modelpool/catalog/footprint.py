"""How much memory a model will need, before it was ever measured. PURE.

Each format has its formula (``FORMULAS``), which says what there is; ``placement`` says where it
lies. Of a model whose files tell nothing but their size, that is what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from .llama_memory import count, llama_layout
from .loader_memory import Loader, loader_layout
from .memory_layout import MemoryLayout
from .model import Model
from .model_info import ModelInfo
from .placement import HOST, Share, place, splits

BYTES_PER_MB = 1_000_000

# Of a worker whose engine nobody knows: a front is 28 MB, a child of llama.cpp with a vocabulary of
# 100,000 words 93 MB (measured).
WORKER_OVERHEAD_BYTES = 120 * BYTES_PER_MB
ALL_LAYERS = 1 << 31
FAKE = "fake"


@dataclass(frozen=True)
class Machine:
    """What estimates depend on beside the model: the processor, as ``platform.machine`` names it
    (on macOS, where layers go to Metal, empty), and the bytes of each device that the pool may use.

    Only who states budgets has devices that count: without, all layers count as the host's, for
    nobody here can know that they will not be there.
    """

    processor: str = ""
    devices: Mapping[str, int] = field(default_factory=dict)


UNKNOWN_MACHINE = Machine()

Formula: TypeAlias = Callable[[ModelInfo, Mapping[str, Any], Machine], MemoryLayout]


def _llama(info: ModelInfo, options: Mapping[str, Any], machine: Machine) -> MemoryLayout:
    return llama_layout(info, options, machine.processor, bool(machine.devices))


def _loaded(
    info: ModelInfo, options: Mapping[str, Any], machine: Machine, loader: Loader
) -> MemoryLayout:
    return loader_layout(info, options, loader)


# By the name of the format.
LOADERS: Mapping[str, Loader] = {
    # The front's 28 MB, and 335 MB of PyTorch 2.13 with transformers 5 before any weights, which
    # are mapped and were in memory once after a text of 512 tokens (measured, CPU).
    "safetensors": Loader(1.0, "bf16", 370 * BYTES_PER_MB),
    # 52 MB with onnxruntime 1.32, 40 more with onnxruntime-genai and a tokenizer, and 238 MB more
    # for 192 MB of matrices, which it puts into an order of its own (measured, CPU).
    "onnx": Loader(1.25, "f32", 120 * BYTES_PER_MB),
    # 290 to 365 MB with mlx-lm 0.32 on Linux, which imports transformers and with it PyTorch where
    # that is installed; on Apple silicon, which was not there, weights lie once in memory that GPU
    # and CPU share.
    "mlx": Loader(1.0, "bf16", 370 * BYTES_PER_MB),
    "coreml": Loader(1.0, "f16", 150 * BYTES_PER_MB),
}
FORMULAS: Mapping[str, Formula] = {
    "gguf": _llama,
    **{name: partial(_loaded, loader=loader) for name, loader in LOADERS.items()},
}


@dataclass(frozen=True)
class Footprint:
    """Bytes that a model will need of the host, and of devices by their ids.

    ``firm`` of the host's are its weights: they may be dropped from memory while nobody computes,
    so that no measurement vouches for less. ``parts``: what they are made of, by place.
    """

    host: int
    devices: Mapping[str, int] = field(default_factory=dict)
    firm: int = 0
    parts: Mapping[str, Share] = field(default_factory=dict)

    @property
    def whole(self) -> int:
        return self.host + sum(self.devices.values())

    def fits(self, room: Mapping[str, int]) -> bool:
        """Whether no place holds more than its room; a place that is not named has none."""
        return self.host <= room.get(HOST, 0) and all(
            size <= room.get(device, 0) for device, size in self.devices.items()
        )


def footprint_of(
    info: ModelInfo, options: Mapping[str, Any], machine: Machine = UNKNOWN_MACHINE
) -> Footprint:
    """Of a model file and the worker around it, for the engine's ``options``: ``gpu_layers``
    (default: all) and ``tensor_split`` say where layers lie, for others see the formula."""
    split = splits(options, machine.devices)
    asked = 0 if options.get("gpu_layers") == 0 else count(options, "gpu_layers", ALL_LAYERS)
    shares = place(layout_of(info, options, machine), asked, split)
    host = shares[HOST]
    devices = {place: share.total for place, share in shares.items() if place != HOST}
    return Footprint(host.total, devices, host.weights, shares)


def layout_of(
    info: ModelInfo, options: Mapping[str, Any], machine: Machine = UNKNOWN_MACHINE
) -> MemoryLayout:
    """By the formula of its format; a format that has none is loaded as ``safetensors``."""
    return FORMULAS.get(info.format, FORMULAS["safetensors"])(info, options, machine)


def estimate_footprint(
    model: Model,
    info: ModelInfo | None = None,
    told: int | None = None,
    machine: Machine = UNKNOWN_MACHINE,
) -> Footprint:
    """What any engine's model will need, by its file, whatever was declared. The fake engine's
    option ``memory_mb`` comes on top of a worker's overhead.

    Args:
        told: bytes that the engine itself expects for the model, beyond the worker around it.
    """
    if model.engine == FAKE:
        told = count(model.options, "memory_mb", 0) << 20
    elif info is not None and told is None:
        return footprint_of(info, model.options, machine)
    return Footprint((told or model.size_bytes or 0) + WORKER_OVERHEAD_BYTES)
