"""Whether model files are whole, seen without reading all that they hold: a download that was cut
is the usual fault. ONNX graphs and CoreML specifications are messages of Protocol Buffers."""

from __future__ import annotations

import json
import os
from typing import Any, BinaryIO

from modelpool_client.errors import LoadFailed

from .tokenizer_folder import bad_file

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_FIELDS = 1 << 16
_MAX_HEADER_BYTES = 100_000_000


def check_message(path: str, needed: int, what: str) -> None:
    """The outer fields of a message all lie within its file.

    Args:
        needed: the number of a field that has to be there.
        what: as which the file is of no use, such as ``ONNX graph``.

    Raises:
        LoadFailed: ``bad_file``.
    """
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            numbers = _field_numbers(file, size)
    except OSError as e:
        raise bad_file(path, e.strerror or str(e)) from None
    except (ValueError, IndexError):
        raise bad_file(path, f"is truncated, damaged or no {what}") from None
    if needed not in numbers:
        raise bad_file(path, f"is truncated, damaged or no {what}")


def _field_numbers(file: BinaryIO, size: int) -> set[int]:
    numbers: set[int] = set()
    at = 0
    for _ in range(_MAX_FIELDS):
        if at >= size:
            return numbers
        file.seek(at)
        tag, length = _varint(file)
        at += length
        number, kind = tag >> 3, tag & 7
        if not number or kind not in (_VARINT, _FIXED64, _BYTES, _FIXED32):
            raise ValueError(f"field {number} of type {kind}")
        value, length = _varint(file) if kind in (_VARINT, _BYTES) else (0, 0)
        at += length + {_FIXED64: 8, _FIXED32: 4, _BYTES: value}.get(kind, 0)
        if at > size:
            raise ValueError(f"field {number} goes on beyond the end")
        numbers.add(number)
    raise ValueError("absurdly many fields")


def _varint(file: BinaryIO) -> tuple[int, int]:
    """A number, and how many bytes it took."""
    value = 0
    for i in range(10):
        byte = file.read(1)[0]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, i + 1
    raise ValueError("a number without an end")


def check_safetensors(path: str) -> None:
    """A file of safetensors holds all that its header names.

    Raises:
        LoadFailed: ``bad_file``.
    """
    size, needed = os.path.getsize(path), 0
    start, parts = _safetensors(path)
    try:
        needed = start + max((part["data_offsets"][1] for part in parts), default=0)
    except (KeyError, TypeError, IndexError):
        raise _no_safetensors(path) from None
    if size < needed:
        text = f"is truncated: it has {size} bytes, its tensors need {needed}"
        raise bad_file(path, text)


def safetensors_bytes(path: str, width: int | None = None) -> int:
    """Bytes of its tensors where its floating point numbers are of ``width`` bytes; None: as they
    are.

    Raises:
        LoadFailed: ``bad_file``.
    """
    total = 0
    for part in _safetensors(path)[1]:
        begin, end = part["data_offsets"]
        own = _FLOATS.get(part["dtype"])
        total += (end - begin) * width // own if own and width else end - begin
    return total


_FLOATS = {"F32": 4, "F16": 2, "BF16": 2}


def _safetensors(path: str) -> tuple[int, list[dict[str, Any]]]:
    """Where the data begins, and what the header says of each tensor."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= min(size - 8, _MAX_HEADER_BYTES):
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        return 8 + length, [part for name, part in header.items() if name != "__metadata__"]
    except OSError as e:
        raise bad_file(path, e.strerror or str(e)) from None
    except (ValueError, AttributeError):
        raise _no_safetensors(path) from None


def _no_safetensors(path: str) -> LoadFailed:
    return bad_file(path, "is truncated, damaged or no file of safetensors")
