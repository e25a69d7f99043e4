"""How much memory a model will need, and what its file adds to its entry."""

from __future__ import annotations

import asyncio
import dataclasses
import struct
from pathlib import Path
from typing import Any

import pytest
from modelpool.catalog.errors import BadModelFile
from modelpool.catalog.estimator import Estimator, described
from modelpool.catalog.footprint import (
    DEVICE_OVERHEAD_BYTES,
    WORKER_OVERHEAD_BYTES,
    compute_bytes,
    estimate_footprint,
    estimate_memory_bytes,
    kv_cache_bytes,
)
from modelpool.catalog.formats.gguf import read_gguf
from modelpool.catalog.model import Model
from modelpool.catalog.model_info import ModelInfo

MODEL = Model("m", "llama.cpp", "/m.gguf")
INFO = ModelInfo(
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
    unknown = ModelInfo("x", 1000, 900, 1)
    assert estimate_memory_bytes(unknown) == estimate_memory_bytes(1000) == 1000 + overhead


def test_a_draft_model_comes_on_top() -> None:
    draft = dataclasses.replace(
        INFO, file_bytes=200, tensor_bytes=150, block_count=1, context_length=16, embedding_length=8
    )
    both = dataclasses.replace(INFO, draft=draft)
    options = {"context_length": 100, "parallel": 2}
    cache, compute = 2 * 100 * (PER_CELL + PER_CELL // 10), compute_bytes(draft, options)
    assert estimate_memory_bytes(both, options) == 1200 + cache + compute + WORKER_OVERHEAD_BYTES
    model = dataclasses.replace(MODEL, options=options)
    assert estimate_footprint(model, both).firm == 1050
    on_device = estimate_footprint(model, both, None, {"gpu": 1 << 30})
    assert on_device.devices["gpu"] == 1200 + cache + compute + DEVICE_OVERHEAD_BYTES


def test_models_of_any_engine() -> None:
    def needs(info: ModelInfo | None = None, told: int | None = None, **values: Any) -> int:
        return estimate_footprint(dataclasses.replace(MODEL, **values), info, told).host

    assert needs(INFO, memory_mb=7, size_bytes=9) == estimate_memory_bytes(INFO)
    assert needs(size_bytes=9) == 9 + WORKER_OVERHEAD_BYTES
    assert needs(size_bytes=9, told=700) == 700 + WORKER_OVERHEAD_BYTES
    assert needs() == WORKER_OVERHEAD_BYTES
    fake = {"engine": "fake", "options": {"memory_mb": 5}}
    assert needs(**fake) == (5 << 20) + WORKER_OVERHEAD_BYTES


def test_what_is_in_hand_grows_with_the_batch() -> None:
    wide = dataclasses.replace(INFO, embedding_length=1000)
    assert compute_bytes(wide, {}) == 512 * 24 * 1000 * 4
    assert compute_bytes(wide, {"batch_size": 100}) == 100 * 24 * 1000 * 4
    assert compute_bytes(wide, {"batch_size": 4096}) == compute_bytes(wide, {})
    assert estimate_memory_bytes(wide) - estimate_memory_bytes(INFO) == compute_bytes(wide, {})


WINDOW = dataclasses.replace(INFO, block_count=4, window=500, context_length=10_000)
ROW = 2 * (64 + 32) * 2  # of one layer and cell
# Rows of 4 layers at a context of 4096; in a window of 500 and a batch of 512 there are 1024.
WINDOWS = {
    "no such architecture": ({}, 4 * 4096),
    "every second layer": ({"architecture": "gemma2"}, 2 * 4096 + 2 * 1024),
    "the file knows better": ({"architecture": "gemma2", "window_pattern": 4}, 4096 + 3 * 1024),
    "every layer": ({"window_pattern": 0}, 4 * 1024),
    "no layer": ({"architecture": "gemma2", "window_pattern": 1}, 4 * 4096),
    "layer by layer": ({"window_pattern": (True, False, True)}, 2 * 4096 + 2 * 1024),
    "no window": ({"architecture": "gemma2", "window": None}, 4 * 4096),
    "the window is wider": ({"window_pattern": 0, "window": 9000}, 4 * 4096),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_layers_with_a_window(name: str) -> None:
    fields, rows = WINDOWS[name]
    info = dataclasses.replace(WINDOW, **fields)
    assert kv_cache_bytes(info, {"context_length": 4096, "parallel": 3}) == 3 * rows * ROW


def test_devices_count_where_they_have_a_budget() -> None:
    model = dataclasses.replace(MODEL, options={"gpu_layers": 5})
    assert estimate_footprint(model, INFO).devices == {}
    assert estimate_footprint(model, INFO).firm == INFO.tensor_bytes
    some = estimate_footprint(model, INFO, None, {"cuda:0": 300, "cuda:1": 100})
    moved = int(5 / 11 * (INFO.file_bytes + kv_cache_bytes(INFO, {})))
    assert some.host == estimate_memory_bytes(INFO) - moved
    assert some.firm == 900 - int(5 / 11 * 900)
    on_devices = {device: size - DEVICE_OVERHEAD_BYTES for device, size in some.devices.items()}
    assert on_devices == {"cuda:0": moved * 300 // 400, "cuda:1": moved * 100 // 400}


@pytest.mark.parametrize(
    ("options", "host_has_weights"),
    [({}, False), ({"gpu_layers": 0}, True), ({"gpu_layers": 99}, False)],
)
def test_as_many_layers_as_there_are(options: dict[str, Any], host_has_weights: bool) -> None:
    model = dataclasses.replace(MODEL, options=options)
    found = estimate_footprint(model, INFO, None, {"cuda:0": 10**9})
    assert (found.firm > 0) is host_has_weights
    assert bool(found.devices) is not host_has_weights


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


@pytest.mark.parametrize("option", ["chat_template", "chat_template_file"])
def test_a_chat_template_of_the_options_counts_as_one_of_the_file(
    tmp_path: Path, option: str
) -> None:
    write_gguf(tmp_path / "m.gguf")
    info = dataclasses.replace(read_gguf(tmp_path / "m.gguf"), has_chat_template=False)
    assert described(MODEL, info).capabilities == ("completion",)
    model = dataclasses.replace(MODEL, options={option: "/t.jinja"})
    assert described(model, info).capabilities == ("chat", "completion")


def test_the_file_of_a_draft_model_is_read_too(tmp_path: Path) -> None:
    for name in ("m", "d"):
        write_gguf(tmp_path / f"{name}.gguf")
    plain = dataclasses.replace(MODEL, source=str(tmp_path / "m.gguf"))
    model = dataclasses.replace(plain, options={"draft_model": str(tmp_path / "d.gguf")})
    estimator = Estimator()
    alone = estimator(asyncio.run(estimator.describe(plain)))
    both = estimator(asyncio.run(estimator.describe(model)))
    assert both - WORKER_OVERHEAD_BYTES == 2 * (alone - WORKER_OVERHEAD_BYTES)
    (tmp_path / "d.gguf").unlink()
    with pytest.raises(BadModelFile, match=r"d\.gguf"):
        asyncio.run(estimator.read(model))


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
