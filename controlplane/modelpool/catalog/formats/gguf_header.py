"""Read the header of a GGUF file: keys, values and where the tensors lie.

Nothing in the file is believed: every length is held against what is left of the file before
anything is read, long arrays are passed over, and whatever is wrong becomes one BadModelFile.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from modelpool.catalog.errors import BadModelFile

from .files import opened
from .json_values import Wrong

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_DIMENSIONS = 4
MAX_NAME_BYTES = 65_535
MAX_KEYS = 65_536
MAX_TENSORS = 262_144
# Longer texts and arrays are passed over; the longest text of use is a chat template.
MAX_TEXT_BYTES = 1_048_576
MAX_KEPT_ITEMS = 4096
# Texts in arrays are passed over one by one; real vocabularies have up to about 300,000.
MAX_ARRAY_TEXTS = 8_388_608

STRING, ARRAY = 8, 9
# type number -> struct code
SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}

# type number -> name, elements per block, bytes per block
TENSOR_TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}


@dataclass(frozen=True)
class Tensor:
    """One tensor: its type's number, its elements, of which a vector has one row, and its place
    after the header in bytes.

    ``size`` is None where the type is not known to this version.
    """

    name: str
    type: int
    elements: int
    offset: int
    size: int | None
    rows: int = 1

    @property
    def end(self) -> int:
        """Where it ends, or begins if its size is unknown."""
        return self.offset + (self.size or 0)


@dataclass(frozen=True)
class Header:
    """A whole header. Arrays of texts and other long ones are None in ``values``; ``lengths`` has
    the number of items of every array."""

    path: Path
    version: int
    values: Mapping[str, Any]
    lengths: Mapping[str, int]
    tensors: tuple[Tensor, ...]
    data_start: int
    file_bytes: int


def read_header(path: Path) -> Header:
    """The header of a file whose tensors all lie within it.

    Raises:
        BadModelFile: it is missing, unreadable, truncated or corrupt.
    """
    with opened(path) as (file, size):
        header = _header(path, _Cursor(file, size))
    _check_extent(header)
    return header


class _Cursor:
    """A place in the file that never goes past the end."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self.size = size
        self.position = 0
        self.texts_passed = 0

    def reserve(self, count: int) -> None:
        """Raise unless that many bytes are left."""
        if count > self.size - self.position:
            raise Wrong(f"is truncated or corrupt: the header goes on after {self.size} bytes")
        self.position += count

    def take(self, count: int) -> bytes:
        """The next bytes."""
        self.reserve(count)
        data = self._file.read(count)
        if len(data) != count:
            raise Wrong("became shorter while it was read")
        return data

    def skip(self, count: int) -> None:
        """Pass over the next bytes."""
        self.reserve(count)
        self._file.seek(count, 1)

    def number(self, code: str) -> Any:
        """The next number of a struct code."""
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def count(self, most: int, what: str) -> int:
        """The next length, held against a bound."""
        value = int(self.number("Q"))
        if value > most:
            raise Wrong(f"is corrupt: {value} {what}")
        return value

    def text(self, most: int = MAX_TEXT_BYTES) -> str | None:
        """The next text; None for one that is longer than ``most``, which is passed over."""
        length = int(self.number("Q"))
        if length > most:
            self.skip(length)
            return None
        return self.take(length).decode(errors="replace")

    def name(self) -> str:
        """The next text that must not be long."""
        text = self.text(MAX_NAME_BYTES)
        if text is None:
            raise Wrong("is corrupt: a name is too long")
        return text

    def pass_texts(self, count: int) -> None:
        """Pass over texts, each its length and its bytes."""
        self.texts_passed += count
        if self.texts_passed > MAX_ARRAY_TEXTS or count * 8 > self.size - self.position:
            raise Wrong(f"is truncated or corrupt: an array of {count} texts")
        for _ in range(count):
            self.skip(int.from_bytes(self.take(8), "little"))


def _header(path: Path, at: _Cursor) -> Header:
    if at.size < len(MAGIC) or at.take(len(MAGIC)) != MAGIC:
        raise Wrong("is not a GGUF file" if at.size else "is empty")
    version = _version(at)
    tensor_count = at.count(MAX_TENSORS, "tensors")
    key_count = at.count(MAX_KEYS, "keys")
    values, lengths = _values(at, key_count)
    tensors = tuple(_tensor(at) for _ in range(tensor_count))
    alignment = values.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise Wrong(f"is corrupt: an alignment of {alignment!r}")
    start = math.ceil(at.position / alignment) * alignment
    return Header(path, version, values, lengths, tensors, start, at.size)


def _version(at: _Cursor) -> int:
    version = int(at.number("I"))
    if version and version & 0xFFFF == 0:
        raise Wrong("is a big-endian GGUF file, which is not supported")
    if version not in VERSIONS:
        raise Wrong(f"is of GGUF version {version}; supported are 2 and 3")
    return version


def _values(at: _Cursor, count: int) -> tuple[dict[str, Any], dict[str, int]]:
    values: dict[str, Any] = {}
    lengths: dict[str, int] = {}
    for _ in range(count):
        key = at.name()
        if key in values:
            raise Wrong(f"is corrupt: the key {key[:80]!r} stands there twice")
        kind = int(at.number("I"))
        if kind == ARRAY:
            values[key], lengths[key] = _array(at, key)
        else:
            values[key] = _value(at, kind, key)
    return values, lengths


def _value(at: _Cursor, kind: int, key: str) -> Any:
    if kind == STRING:
        return at.text()
    if kind in SCALARS:
        return at.number(SCALARS[kind])
    raise Wrong(f"is corrupt: the key {key[:80]!r} has a value of type {kind}")


def _array(at: _Cursor, key: str) -> tuple[tuple[Any, ...] | None, int]:
    """Its items, unless they are texts or too many, and how many there are."""
    kind, count = int(at.number("I")), int(at.number("Q"))
    if kind == STRING:
        at.pass_texts(count)
        return None, count
    if kind not in SCALARS:
        raise Wrong(f"is corrupt: the key {key[:80]!r} has an array of type {kind}")
    layout = f"<{count}{SCALARS[kind]}"
    if count <= MAX_KEPT_ITEMS:
        return struct.unpack(layout, at.take(struct.calcsize(layout))), count
    at.skip(count * struct.calcsize(f"<{SCALARS[kind]}"))
    return None, count


def _tensor(at: _Cursor) -> Tensor:
    name = at.name()
    dimensions = int(at.number("I"))
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise Wrong(f"is corrupt: the tensor {name[:80]!r} has {dimensions} dimensions")
    shape = [int(at.number("Q")) for _ in range(dimensions)]
    kind, offset = int(at.number("I")), int(at.number("Q"))
    elements = math.prod(shape)
    size = _size(name, kind, shape[0], elements)
    return Tensor(name, kind, elements, offset, size, math.prod(shape[1:]))


def _size(name: str, kind: int, row: int, elements: int) -> int | None:
    if kind not in TENSOR_TYPES:
        return None
    type_name, block, block_bytes = TENSOR_TYPES[kind]
    if row % block:
        raise Wrong(f"is corrupt: the rows of {name[:80]!r} are no whole blocks of {type_name}")
    return elements // block * block_bytes


def _check_extent(header: Header) -> None:
    needed = header.data_start + max((t.end for t in header.tensors), default=0)
    if header.tensors and needed > header.file_bytes:
        raise BadModelFile(
            header.path,
            f"is truncated or corrupt: it has {header.file_bytes} bytes, its tensors need {needed};"
            " was the download interrupted?",
        )
