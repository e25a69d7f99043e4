"""How much memory a model will need, and what its file adds to its entry."""

from __future__ import annotations

import asyncio
import dataclasses
import struct
from pathlib import Path
from typing import Any

import pytest
from modelpool.catalog.describe import Estimator, described
from modelpool.catalog.estimate import WORKER_OVERHEAD_BYTES, estimate_model_bytes
from modelpool.catalog.metadata import BadModelFile, GgufInfo, estimate_memory_bytes, read_gguf
from modelpool.catalog.model import Model

MODEL = Model("m", "llama.cpp", "/m.gguf")
INFO = GgufInfo(
    architecture="llama",
    file_bytes=1000,
    tensor_bytes=900,
    parameter_count=1,
    context_length=8192,
    block_count=10,
    head_count_kv=2,
    key_length=64,
    value_length=32,
)
PER_CELL = 10 * 2 * (64 + 32) * 2


@pytest.mark.parametrize(
    ("options", "cache"),
    [
        ({}, PER_CELL * 4096 * 8),
        ({"context_length": 100}, PER_CELL * 100 * 8),
        ({"context_length": 100, "parallel": 1}, PER_CELL * 100),
        ({"context_length": 32, "parallel": 1, "cache_type_k": "f32"}, 10 * 2 * 32 * (256 + 64)),
        ({"context_length": 32, "parallel": 1, "cache_type_v": "Q4_0"}, 10 * 2 * 32 * (128 + 18)),
        ({"context_length": 32, "parallel": 1, "cache_type_k": "q8_0"}, 10 * 2 * 32 * (68 + 64)),
        ({"context_length": "x", "parallel": True, "cache_type_k": []}, PER_CELL * 4096 * 8),
        ({"context_length": float("inf"), "parallel": -1}, PER_CELL * 4096 * 8),
    ],
)
def test_the_formula(options: dict[str, Any], cache: int) -> None:
    assert estimate_memory_bytes(INFO, options) == 1000 + cache + WORKER_OVERHEAD_BYTES


def test_formula_with_other_shapes() -> None:
    overhead = WORKER_OVERHEAD_BYTES
    short = dataclasses.replace(INFO, context_length=50)
    assert estimate_memory_bytes(short) == 1000 + PER_CELL * 50 * 8 + overhead
    layers = dataclasses.replace(INFO, head_count_kv=(2, 0, 1))
    options = {"context_length": 10, "parallel": 1}
    assert estimate_memory_bytes(layers, options) == 1000 + 3 * 96 * 2 * 10 + overhead
    unknown = GgufInfo("x", 1000, 900, 1)
    assert estimate_memory_bytes(unknown) == estimate_memory_bytes(1000) == 1000 + overhead


def test_what_is_declared_comes_first() -> None:
    def needs(info: GgufInfo | None = None, **values: Any) -> int:
        return estimate_model_bytes(dataclasses.replace(MODEL, **values), info)

    assert needs(INFO, memory_mb=7, size_bytes=9) == 7_000_000
    assert needs(INFO) == estimate_memory_bytes(INFO)
    assert needs(size_bytes=9) == 9 + WORKER_OVERHEAD_BYTES
    assert needs() == WORKER_OVERHEAD_BYTES
    fake = {"engine": "fake", "options": {"memory_mb": 5}}
    assert needs(**fake) == 5_000_000 + WORKER_OVERHEAD_BYTES


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def write_gguf(path: Path) -> None:
    """One tensor of 32 bytes, a context of 2048, a chat template."""
    keys = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("general.file_type") + struct.pack("<II", 4, 15),
        text("llama.context_length") + struct.pack("<II", 4, 2048),
        text("tokenizer.chat_template") + struct.pack("<I", 8) + text("{{ messages }}"),
    ]
    tensor = text("out") + struct.pack("<IQIQ", 1, 8, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(keys)) + b"".join(keys) + tensor
    path.write_bytes(head + bytes(-len(head) % 32 + 32))


def test_describing_fills_what_nobody_declared(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    info = read_gguf(tmp_path / "m.gguf")
    model = dataclasses.replace(MODEL, source=str(tmp_path / "m.gguf"), context_length=512)
    estimator = Estimator()
    assert estimator(model) == WORKER_OVERHEAD_BYTES
    seen = asyncio.run(estimator.describe(model))
    assert seen == described(model, info)
    assert (seen.architecture, seen.quantization, seen.context_length) == ("llama", "Q4_K_M", 512)
    assert (seen.size_bytes, seen.capabilities) == (info.file_bytes, ("chat", "completion"))
    assert estimator(seen) == estimate_memory_bytes(info)
    estimator.forget(seen)
    assert estimator(seen) == info.file_bytes + WORKER_OVERHEAD_BYTES


def test_two_models_on_one_file(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    one = dataclasses.replace(MODEL, model_id="one", source=str(tmp_path / "m.gguf"))
    two = dataclasses.replace(one, model_id="two")
    estimator = Estimator()
    for model in (one, two):
        asyncio.run(estimator.describe(model))
    before = estimator(two)
    estimator.forget(one)
    assert estimator(one) < estimator(two) == before


def test_describing_other_engines(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"12345")
    describe = Estimator().describe
    in_file = dataclasses.replace(MODEL, engine="onnx", source=str(tmp_path / "weights.bin"))
    assert asyncio.run(describe(in_file)).size_bytes == 5
    by_name = dataclasses.replace(MODEL, engine="ollama", source="llama3.1:8b")
    assert asyncio.run(describe(by_name)) == by_name
    with pytest.raises(BadModelFile):
        asyncio.run(describe(dataclasses.replace(MODEL, source=str(tmp_path / "absent.gguf"))))
