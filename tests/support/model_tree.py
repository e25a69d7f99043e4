"""Folders of tiny model files in every format, right ones and wrong ones."""

from __future__ import annotations

import itertools
import json
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TENSOR_ELEMENTS = 64
_TIMES = itertools.count(1_700_000_000)


def gguf(name: str = "tiny", **keys: Any) -> bytes:
    """A GGUF model with one tensor; ``keys`` replace or add to its own."""
    values = {
        "general.architecture": "llama",
        "general.name": name,
        "general.file_type": 15,
        "llama.context_length": 2048,
        "llama.block_count": 2,
        "llama.embedding_length": 64,
        "llama.attention.head_count": 4,
        "tokenizer.chat_template": "{{ messages }}",
        **{key.replace("__", "."): value for key, value in keys.items()},
    }
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(values))
    head += b"".join(_text(key) + _value(value) for key, value in values.items())
    head += _text("out") + struct.pack("<IQIQ", 1, TENSOR_ELEMENTS, 0, 0)
    return head + bytes(-len(head) % 32) + struct.pack(f"<{TENSOR_ELEMENTS}f", *_weights(name))


def _weights(name: str) -> list[float]:
    return [float((len(name) * i) % 7) for i in range(TENSOR_ELEMENTS)]


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    return struct.pack("<I", 8) + _text(value)


def split_gguf(folder: Path, stem: str, count: int) -> list[Path]:
    """A model in so many files."""
    paths = []
    for i in range(1, count + 1):
        paths.append(folder / f"{stem}-{i:05}-of-{count:05}.gguf")
        keys = {"split.no": i - 1, "split.count": count}
        put(paths[-1], gguf(stem, **{k.replace(".", "__"): v for k, v in keys.items()}))
    return paths


def put(path: Path, data: bytes) -> Path:
    """A file, with the folders that it is in; last written long ago, as files mostly are, and at
    another time than any other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    at = next(_TIMES)
    os.utime(path, (at, at))
    return path


def safetensors(name: str) -> bytes:
    """A file with one tensor."""
    size = TENSOR_ELEMENTS * 4
    header: dict[str, Any] = {
        "__metadata__": {"format": "pt", "title": name},
        "out.weight": {"dtype": "F32", "shape": [8, 8], "data_offsets": [0, size]},
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + struct.pack("<64f", *_weights(name))


def transformers_folder(folder: Path, name: str, **config: Any) -> Path:
    """What transformers and MLX load."""
    said = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 128,
        "max_position_embeddings": 2048,
        "torch_dtype": "float32",
        **config,
    }
    put(folder / "config.json", json.dumps(said).encode())
    put(folder / "model.safetensors", safetensors(name))
    return folder


def message(*fields: tuple[int, bytes | int]) -> bytes:
    """A protocol buffer of numbers and byte strings, by their field numbers."""
    data = b""
    for number, value in fields:
        if isinstance(value, int):
            data += _varint(number << 3) + _varint(value)
        else:
            data += _varint(number << 3 | 2) + _varint(len(value)) + value
    return data


def _varint(value: int) -> bytes:
    data = b""
    while value > 0x7F:
        data += bytes([value & 0x7F | 0x80])
        value >>= 7
    return data + bytes([value])


def onnx(name: str) -> bytes:
    """A graph that adds its input to a weight. Fields are those of ``onnx.proto``."""
    weight = message(
        (1, TENSOR_ELEMENTS), (2, 1), (8, b"w"), (9, struct.pack("<64f", *_weights(name)))
    )
    shape = message((1, message((1, TENSOR_ELEMENTS))))
    kind = message((1, message((1, 1), (2, shape))))
    node = message((1, b"x"), (1, b"w"), (2, b"y"), (4, b"Add"))
    graph = message(
        (1, node),
        (2, name.encode()),
        (5, weight),
        (11, message((1, b"x"), (2, kind))),
        (12, message((1, b"y"), (2, kind))),
    )
    return message((1, 8), (2, b"tests"), (7, graph), (8, message((1, b""), (2, 17))))


def coreml(name: str) -> bytes:
    """A pass-through of one array. Fields are those of ``Model.proto`` (identity: 900)."""
    array = message((1, TENSOR_ELEMENTS), (2, 65568))
    kind = message((5, array))

    def feature(called: bytes) -> bytes:
        return message((1, called), (3, kind))

    about = message((1, name.encode()))
    description = message((1, feature(b"x")), (10, feature(b"y")), (100, about))
    return message((1, 4), (2, description), (900, b""))


@dataclass(frozen=True)
class Maker:
    """How a format's files are made.

    Attributes:
        good: makes a model of that name in a folder; what an engine would be given is returned.
        weights: the file, below what ``good`` returns, that a broken one is made of.
    """

    good: Callable[[Path, str], Path]
    weights: Callable[[Path], Path] = lambda path: path


def _mlx(folder: Path, name: str) -> Path:
    quantized = {"quantization": {"group_size": 64, "bits": 4}}
    return transformers_folder(folder / f"{name}-mlx", name, **quantized)


MAKERS: Mapping[str, Maker] = {
    "gguf": Maker(lambda folder, name: put(folder / f"{name}.gguf", gguf(name))),
    "safetensors": Maker(
        lambda folder, name: transformers_folder(folder / name, name),
        lambda path: path / "model.safetensors",
    ),
    "mlx": Maker(_mlx, lambda path: path / "model.safetensors"),
    "onnx": Maker(lambda folder, name: put(folder / f"{name}.onnx", onnx(name))),
    "coreml": Maker(lambda folder, name: put(folder / f"{name}.mlmodel", coreml(name))),
}
