"""Read the header of a safetensors file: which tensors it has, and where they lie.

Nothing in the file is believed, and nothing but the header is read. Layout: eight bytes of the
header's length, the header as JSON, the tensors without a gap:
https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import opened
from .json_values import JsonValues, Wrong, parse_json

LENGTH_BYTES = 8
# The library allows 100 MB; a part of a model with 10,000 tensors has one of a megabyte.
MAX_HEADER_BYTES = 32 * 1_048_576
MAX_DIMENSIONS = 32
METADATA = "__metadata__"
MAX_METADATA_TEXT = 4096
# dtype -> bits of an element
BITS: Mapping[str, int] = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "F64": 64,
    "I64": 64,
    "U64": 64,
    "C64": 64,
}


@dataclass(frozen=True)
class Tensor:
    """One tensor: its type as the file names it, its elements, and its bytes in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int

    @property
    def elements(self) -> int:
        """Of that type; packed weights have more."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """A whole header; ``metadata`` without texts beyond 4,096 characters."""

    path: Path
    tensors: tuple[Tensor, ...]
    metadata: Mapping[str, str]
    file_bytes: int


def read_header(path: Path) -> Header:
    """The header of a file whose tensors fill it.

    Raises:
        BadModelFile: it is missing, unreadable, truncated or corrupt.
    """
    with opened(path) as (file, size):
        if size < LENGTH_BYTES:
            raise Wrong("is truncated: no safetensors file is that short" if size else "is empty")
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if length > MAX_HEADER_BYTES:
            raise Wrong(f"is no safetensors file: its header would have {length} bytes")
        if length > size - LENGTH_BYTES:
            raise Wrong(f"is truncated: its header ends after the {size} bytes that it has")
        tensors, metadata = _parsed(file.read(length), size - LENGTH_BYTES - length)
    return Header(path, tensors, metadata, size)


def _parsed(header: bytes, room: int) -> tuple[tuple[Tensor, ...], dict[str, str]]:
    """Tensors that fill so many bytes, and metadata."""
    if not header.startswith(b"{"):
        raise Wrong("is no safetensors file: it does not begin with a header")
    values = parse_json(header)
    metadata = values.pop(METADATA, None) or {}
    if not isinstance(metadata, dict):
        raise Wrong("is corrupt: its metadata are no texts by name")
    described = (_tensor(name, value) for name, value in values.items())
    places = sorted(described, key=lambda place: place[:2])
    end = 0
    for begin, until, tensor in places:
        if begin != end:
            raise Wrong(f"is corrupt: the tensor {tensor.name[:80]!r} is not where another ends")
        end = until
    if end > room:
        raise Wrong(
            f"is truncated: its tensors need {end} bytes, {room} are there;"
            " was the download interrupted?"
        )
    if end < room:
        raise Wrong(f"is corrupt: {room - end} bytes at its end belong to no tensor")
    return tuple(t for _, _, t in places), _texts(metadata)


def _texts(metadata: Mapping[str, Any]) -> dict[str, str]:
    return {k: v for k, v in metadata.items() if isinstance(v, str) and len(v) <= MAX_METADATA_TEXT}


def _tensor(name: str, value: object) -> tuple[int, int, Tensor]:
    where = f"the tensor {name[:80]!r}"
    if not isinstance(value, dict):
        raise Wrong(f"is corrupt: {where} is not described")
    stated = JsonValues(value, "its header")
    dtype, shape = stated.text("dtype") or "", _whole(value.get("shape"), MAX_DIMENSIONS)
    place = _whole(value.get("data_offsets"), 2)
    if shape is None or place is None or len(place) != 2 or place[0] > place[1]:
        raise Wrong(f"is corrupt: {where} has no shape or no place")
    size, bits = place[1] - place[0], BITS.get(dtype)
    elements = math.prod(shape)
    if elements > size * 8 or (bits is not None and elements * bits != size * 8):
        raise Wrong(f"is corrupt: {where} has {size} bytes, which is not its shape")
    return place[0], place[1], Tensor(name, dtype, shape, size)


def _whole(value: object, most: int) -> tuple[int, ...] | None:
    """A list of at most so many lengths."""
    if not isinstance(value, list) or len(value) > most:
        return None
    fits = all(type(v) is int and 0 <= v < 2**63 for v in value)
    return tuple(value) if fits else None
