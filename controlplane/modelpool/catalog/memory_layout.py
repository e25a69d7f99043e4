"""What of a model's memory can lie where. PURE.

A layer may lie on the host or on a device, with its part of the cache; all else is decided by
where the layers are, see ``placement``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Layer(NamedTuple):
    """Bytes. ``copies`` are weights that stand in memory a second time while it is the host's,
    ``shared`` those that it has from elsewhere on the host and needs once more on a device."""

    weights: int
    cache: int = 0
    copies: int = 0
    shared: int = 0


NOTHING = Layer(0)


@dataclass(frozen=True)
class MemoryLayout:
    """Bytes of a model and the worker around it.

    Attributes:
        layers: from the input to the output; a model whose layers nobody knows has one.
        output: what the last layer's result goes through; the first that a device gets.
        fixed: weights that always lie on the host.
        compute: buffers of a step, wherever a layer lies.
        projector: of what makes tokens of pictures, with its buffers.
        worker: of its processes, their libraries, and the vocabulary.
        draft: the model that drafts for it; its ``worker`` is 0, its words are in the other's.
    """

    layers: tuple[Layer, ...]
    output: Layer = NOTHING
    fixed: int = 0
    compute: int = 0
    projector: int = 0
    worker: int = 0
    draft: MemoryLayout | None = None

    @property
    def movable(self) -> tuple[Layer, ...]:
        """What devices may get: of n layers there, it is the last n of these."""
        return (*self.layers, self.output)
