"""An adapter (LoRA) for a GGUF model, written by hand: llama.cpp's own converter needs PyTorch."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

STRING, FLOAT32 = 8, 6
ALIGNMENT = 32


def write_adapter(path: Path, architecture: str, tensor: str, shape: tuple[int, int]) -> Path:
    """Of rank 1, ones all over, for the tensor of that shape, (in, out)."""
    keys: Mapping[str, str | float] = {
        "general.architecture": architecture,
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": 1.0,
    }
    shapes = {f"{tensor}.lora_a": (shape[0], 1), f"{tensor}.lora_b": (1, shape[1])}
    head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(keys))
    head += b"".join(_text(key) + _value(value) for key, value in keys.items())
    data = b""
    for name, sizes in shapes.items():
        head += _text(name) + struct.pack("<IQQIQ", 2, *sizes, 0, len(data))
        data += _padded(struct.pack("<f", 1.0) * (sizes[0] * sizes[1]))
    path.write_bytes(_padded(head) + data)
    return path


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _value(value: str | float) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _text(value)
    return struct.pack("<If", FLOAT32, value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)
