"""Model files made by hand, small and byte by byte: whole ones, from which tests take away."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelpool.catalog.formats.base import Entry, Listing
from modelpool.catalog.formats.safetensors_header import BITS

QWEN: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "vocab_size": 320,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WEIGHTS: dict[str, tuple[str, tuple[int, ...]]] = {
    "model.embed_tokens.weight": ("BF16", (320, 64)),
    "model.norm.weight": ("F32", (64,)),
}


def safetensors(
    tensors: Mapping[str, tuple[str, Sequence[int]]] = WEIGHTS,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """A file with zeros for weights."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, (dtype, shape) in tensors.items():
        size = math.prod(shape) * BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(at)


def folder(path: Path, files: Mapping[str, bytes | str | dict[str, Any] | list[Any]]) -> Path:
    """A folder with these files in it; objects and lists become JSON."""
    for name, content in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict | list):
            content = json.dumps(content)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def listing(
    path: str, *files: str, folders: Sequence[str] = (), empty: Sequence[str] = ()
) -> Listing:
    """A folder as a scanner reads it."""
    entries = [Entry(name, False, 0 if name in empty else 1000) for name in files]
    return Listing(Path(path), tuple(entries + [Entry(name, True, 0) for name in folders]))


def varint(value: int) -> bytes:
    out = bytearray()
    value &= 2**64 - 1
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(*fields: tuple[int, int | str | bytes]) -> bytes:
    """A protobuf message of numbers, texts and messages."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def onnx_value(name: str, kind: int, *shape: int | str) -> bytes:
    dims = [message((1, message((1 if isinstance(d, int) else 2, d)))) for d in shape]
    tensor = message((1, kind), (2, b"".join(dims)))
    return message((1, name), (2, message((1, tensor))))


def onnx_tensor(name: str, kind: int, shape: Sequence[int], size: int) -> bytes:
    return message(*((1, d) for d in shape), (2, kind), (8, name), (9, bytes(size)))


def onnx_external(name: str, shape: Sequence[int], location: str, **place: int) -> bytes:
    entries = {"location": location} | {k: str(v) for k, v in place.items()}
    pairs = [(13, message((1, k), (2, v))) for k, v in entries.items()]
    return message(*((1, d) for d in shape), (2, 1), (8, name), *pairs, (14, 1))


def onnx(*weights: bytes, nodes: Sequence[bytes] = (), inputs: Sequence[bytes] = ()) -> bytes:
    graph = message(
        *((1, node) for node in nodes),
        (2, "g"),
        *((5, weight) for weight in weights or [onnx_tensor("w", 1, (2, 3), 24)]),
        *((11, value) for value in inputs or [onnx_value("x", 1, "batch", 2)]),
        (12, onnx_value("y", 1, "batch", 3)),
    )
    return message(
        (1, 9), (2, "maker"), (3, "1.5"), (7, graph), (8, message((1, ""), (2, 17)))
    ) + message((14, message((1, "author"), (2, "somebody"))))


def coreml(kind: int = 502, version: int = 7) -> bytes:
    array = message((1, b"\x01\x20"), (2, 65568))
    image = message((1, 224), (2, 112))
    x = message((1, "x"), (3, message((5, array))))
    picture = message((1, "picture"), (3, message((4, image))))
    y = message((1, "y"), (3, message((5, message((1, 1), (1, 64), (2, 65552))))))
    own = message((1, "com.github.apple.coremltools.version"), (2, "9.0"))
    about = message((1, "Doubles"), (2, "1.2"), (3, "Ada"), (4, "MIT"), (100, own))
    description = message((1, x), (1, picture), (10, y), (100, about))
    return message((1, version), (2, description), (kind, b""))


def blobs(*blobs: tuple[int, int]) -> bytes:
    """A file of CoreML weights, of so many bytes each of a type."""
    out = struct.pack("<II56x", len(blobs), 2)
    for kind, size in blobs:
        out += struct.pack("<IIQQ40x", 0xDEADBEEF, kind, size, len(out) + 64) + bytes(size)
        out += bytes(-len(out) % 64)
    return out


def mlpackage(path: Path, spec: bytes | None = None) -> Path:
    items = {
        "A": {"path": "com.apple.CoreML/model.mlmodel"},
        "B": {"path": "com.apple.CoreML/weights"},
    }
    return folder(
        path,
        {
            "Manifest.json": {"itemInfoEntries": items, "rootModelIdentifier": "A"},
            "Data/com.apple.CoreML/model.mlmodel": spec or coreml(),
            "Data/com.apple.CoreML/weights/weight.bin": blobs((1, 4096), (2, 8)),
        },
    )
