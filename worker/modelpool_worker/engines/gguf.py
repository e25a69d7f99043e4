"""The few facts of a GGUF file that a load needs, read from its first kilobytes.

Format: magic, version, counts, then key-value pairs; see the specification in the ggml repository.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

from modelpool_client.errors import LoadFailed

CHAT_TEMPLATE = "tokenizer.chat_template"
_STRING, _ARRAY = 8, 9
_FORMATS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i",
    6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_MAX_STRING = 1 << 20
_MAX_KEYS = 1 << 16
_MAX_DIMENSIONS = 8


@dataclass(frozen=True)
class Header:
    """``context_length`` is what the model was trained with, in tokens, if the file says so.
    ``cache_widths`` are the numbers that the KV cache holds of one token, keys and values, over all
    layers; None where the file does not say, too many where a layer keeps less. ``pooling`` is
    llama.cpp's number, see ``surfaces.pooling``."""

    architecture: str
    context_length: int | None
    cache_widths: tuple[int, int] | None = None
    pooling: int | None = None


def read_header(path: str) -> Header:
    """Read what stands before the vocabulary.

    Raises:
        LoadFailed: code ``bad_file``: cannot be read, is no GGUF file, or ends within its header.
    """
    try:
        with open(path, "rb") as f:
            return _read(f)
    except OSError as e:
        raise _bad(path, e.strerror or str(e)) from None
    except (struct.error, UnicodeDecodeError, OverflowError):
        raise _bad(path, "the file is truncated or damaged") from None
    except ValueError as e:
        raise _bad(path, str(e)) from None


def read_chat_templates(path: str) -> dict[str, str]:
    """The chat templates by their keys, most files have one; what is damaged counts as none.

    Reads past the vocabulary: some tenths of a second.
    """
    try:
        with open(path, "rb") as f:
            keys = _key_count(f)
            pairs = [(_text(f), _value(f)) for _ in range(keys)]
    except (OSError, struct.error, OverflowError, ValueError):
        return {}
    return {k: v for k, v in pairs if k.startswith(CHAT_TEMPLATE) and isinstance(v, str)}


def read_element_count(path: str) -> int:
    """How many weights there are, whatever types they have; 0 where the file is damaged.

    Reads past the vocabulary: some tenths of a second.
    """
    try:
        with open(path, "rb") as f:
            f.seek(8)
            (tensors,) = struct.unpack("<Q", f.read(8))
            f.seek(0)
            for _ in range(_key_count(f)):
                _text(f), _value(f)
            return sum(_elements(f) for _ in range(min(tensors, _MAX_KEYS)))
    except (OSError, struct.error, OverflowError, ValueError):
        return 0


def _elements(f: BinaryIO) -> int:
    """Of the next tensor's description: name, sizes, type and place."""
    _text(f)
    (dimensions,) = struct.unpack("<I", f.read(4))
    if dimensions > _MAX_DIMENSIONS:
        raise ValueError("the file is damaged: absurdly many dimensions")
    sizes = struct.unpack(f"<{dimensions}Q", f.read(8 * dimensions))
    f.seek(12, 1)
    return math.prod(sizes)


def _bad(path: str, why: str) -> LoadFailed:
    return LoadFailed(f"{path}: {why}", code="bad_file", param="source", source="engine")


def _key_count(f: BinaryIO) -> int:
    """Read all that comes before the keys."""
    if f.read(4) != b"GGUF":
        raise ValueError("not a GGUF file")
    version, _, keys = struct.unpack("<IQQ", f.read(20))
    if version not in (2, 3):
        raise ValueError(f"GGUF version {version} is not supported")
    if keys > _MAX_KEYS:
        raise ValueError("the file is damaged: absurdly many keys")
    return int(keys)


def _read(f: BinaryIO) -> Header:
    keys = _key_count(f)
    found: dict[str, Any] = {}
    for _ in range(keys):
        key, value = _text(f), _value(f)
        if key.startswith("tokenizer."):
            # All that comes after is large, and never what we look for.
            break
        found[key] = value
    architecture = str(found.get("general.architecture", ""))
    own = {k.removeprefix(f"{architecture}."): v for k, v in found.items()}
    length = own.get("context_length") if architecture else None
    known = None if length is None else int(length)
    pooling = own.get("pooling_type")
    pooling = pooling if isinstance(pooling, int) else None
    return Header(architecture, known, _cache_widths(own), pooling)


def _cache_widths(own: dict[str, Any]) -> tuple[int, int] | None:
    names = ("block_count", "embedding_length", "attention.head_count")
    layers, width, heads = (n if isinstance(n := own.get(name), int) else 0 for name in names)
    if layers < 1 or heads < 1:
        return None
    # Where it differs from layer to layer it is a list, which is not read.
    groups = own.get("attention.head_count_kv")
    groups = groups if isinstance(groups, int) else heads
    keys, values = (own.get(f"attention.{n}_length") for n in ("key", "value"))
    sizes = (n if isinstance(n, int) else width // heads for n in (keys, values))
    k, v = (layers * groups * size for size in sizes)
    return k, v


def _value(f: BinaryIO) -> Any:
    (kind,) = struct.unpack("<I", f.read(4))
    if kind == _STRING:
        return _text(f)
    if kind == _ARRAY:
        return _skip_array(f)
    return _number(f, kind)


def _number(f: BinaryIO, kind: int) -> Any:
    layout = _FORMATS.get(kind)
    if layout is None:
        raise ValueError(f"the file is damaged: value type {kind}")
    return struct.unpack(layout, f.read(struct.calcsize(layout)))[0]


def _skip_array(f: BinaryIO) -> None:
    kind, count = struct.unpack("<IQ", f.read(12))
    if kind in _FORMATS:
        f.seek(count * struct.calcsize(_FORMATS[kind]), 1)
    elif kind == _STRING and count <= 1 << 24:
        for _ in range(count):
            _text(f)
    else:
        raise ValueError("the file is damaged: an impossible array")


def _text(f: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", f.read(8))
    if length > _MAX_STRING:
        raise ValueError("the file is damaged: an endless string")
    data = f.read(length)
    if len(data) < length:
        raise ValueError("the file is truncated or damaged")
    return data.decode()
