"""How much memory a model will need, and what its file adds to its entry."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.catalog.errors import BadModelFile
from modelpool.catalog.estimator import Estimator, described, this_processor
from modelpool.catalog.footprint import (
    FORMULAS,
    WORKER_OVERHEAD_BYTES,
    Footprint,
    Machine,
    estimate_footprint,
    footprint_of,
)
from modelpool.catalog.formats.gguf import read_gguf
from modelpool.catalog.kv_cache import CACHE_BYTES
from modelpool.catalog.llama_memory import PROCESSES_BYTES, PROJECTOR_FACTOR, REPACKED
from modelpool.catalog.model import Model
from modelpool.catalog.model_info import ModelInfo
from modelpool.catalog.placement import DEVICE_OVERHEAD_BYTES, HOST, Share
from support.adapter import write_adapter
from support.projector import VisionShape, write_projector

MODEL = Model("m", "llama.cpp", "/m.gguf")
INFO = ModelInfo(
    architecture="llama",
    file_bytes=100_000,
    tensor_bytes=90_000,
    parameter_count=1,
    context_length=8192,
    block_count=10,
    embedding_length=100,
    feed_forward_length=300,
    head_count_kv=2,
    key_length=64,
    value_length=32,
    vocabulary_size=1000,
    table_bytes=7_000,
    output_bytes=3_000,
    matrix_bytes={"Q4_0": 40_000, "Q6_K": 30_000},
)
PER_CELL = 10 * 2 * (64 + 32) * 2


def on_host(info: ModelInfo, **options: Any) -> Share:
    return footprint_of(info, options).parts[HOST]


@pytest.mark.parametrize(
    ("options", "cache"),
    [
        ({}, PER_CELL * 4096 * 8),
        ({"context_length": 100}, PER_CELL * 256 * 8),
        ({"context_length": 300, "parallel": 1}, PER_CELL * 512),
        ({"context_length": 300, "parallel": 4, "kv_unified": True}, PER_CELL * 512),
        ({"context_length": 300, "parallel": 4, "kv_unified": "x"}, PER_CELL * 512 * 4),
        ({"context_length": 256, "parallel": 1, "cache_type_k": "f32"}, 10 * 2 * 256 * (256 + 64)),
        ({"context_length": 256, "parallel": 1, "cache_type_v": "Q4_0"}, 10 * 2 * 256 * (128 + 18)),
        ({"context_length": 256, "parallel": 1, "cache_type_k": "q8_0"}, 10 * 2 * 256 * (68 + 64)),
        ({"context_length": "x", "parallel": True, "cache_type_k": []}, PER_CELL * 4096 * 8),
        ({"context_length": float("inf"), "parallel": -1}, PER_CELL * 4096 * 8),
    ],
)
def test_the_cache(options: dict[str, Any], cache: int) -> None:
    assert on_host(INFO, **options).cache == cache


def test_the_cache_of_other_shapes() -> None:
    short = dataclasses.replace(INFO, context_length=512)
    assert on_host(short).cache == PER_CELL * 512 * 8
    layers = dataclasses.replace(INFO, head_count_kv=(2, 0, 1))
    assert on_host(layers, context_length=256, parallel=1).cache == 3 * 96 * 2 * 256
    assert on_host(ModelInfo("x", 1000, 900, 1)).cache == 0


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ({}, 256),
        ({"batch_size": 100}, 100),
        ({"batch_size": 4096}, 512),
        ({"micro_batch_size": 64}, 64),
        ({"micro_batch_size": 1024}, 256),
        ({"batch_size": 1024, "micro_batch_size": 1024}, 1024),
        ({"pooling_type": "mean", "micro_batch_size": 64}, 4096),
        ({"pooling_type": "mean"}, 4096),
    ],
)
def test_what_is_in_hand_grows_with_the_batch(options: dict[str, Any], tokens: int) -> None:
    per_token = 4 * (3 * 300 + 5 * 100) + 2 * 4096
    assert on_host(INFO, **options).compute == tokens * per_token
    unknown = dataclasses.replace(INFO, feed_forward_length=None)
    assert on_host(unknown, **options).compute == tokens * (4 * 21 * 100 + 2 * 4096)


# 36 M parameters, q8_0. The growth of a process's PSS over 2048 tokens of context, one request at a
# time, after a prompt of some 600 tokens (the first table), and over 8192 after one of nearly as
# many (the second): xllamacpp 2026.10, x86-64 with AVX2. ``test_memory_estimates`` measures anew.
GROWN = ModelInfo(
    architecture="qwen2",
    file_bytes=38_100_000,
    tensor_bytes=38_000_000,
    parameter_count=35_600_000,
    context_length=8192,
    block_count=8,
    embedding_length=512,
    feed_forward_length=2048,
    head_count=8,
    head_count_kv=4,
    key_length=64,
    value_length=64,
    vocabulary_size=8000,
    table_bytes=4_352_000,
    matrix_bytes={"Q8_0": 33_400_000},
)
GROWTH = [
    (2048, {"flash_attention": "on"}, -0.1),
    (2048, {"micro_batch_size": 64}, -6.1),
    (2048, {"micro_batch_size": 128}, -4.0),
    (2048, {"micro_batch_size": 1024}, 0.0),
    (2048, {"batch_size": 64}, -6.5),
    (2048, {"batch_size": 1024}, 9.2),
    (2048, {"batch_size": 1024, "micro_batch_size": 64}, -5.8),
    (2048, {"parallel": 4}, 50.7),
    (2048, {"parallel": 8}, 118.7),
    (2048, {"cache_type_k": "q8_0"}, -3.7),
    (2048, {"cache_type_k": "q8_0", "cache_type_v": "q8_0"}, -7.7),
    (2048, {"mmap": False}, 0.0),
    (2048, {"threads": 1}, 0.2),
    (2048, {"context_length": 8192}, 50.7),
    (8192, {"flash_attention": "off"}, 72.3),
    (8192, {"flash_attention": "off", "micro_batch_size": 64}, 9.6),
]


@pytest.mark.parametrize(("context", "options", "grown"), GROWTH)
def test_options_add_what_they_were_measured_to_add(
    context: int, options: dict[str, Any], grown: float
) -> None:
    base = {"context_length": context, "parallel": 1}
    machine = Machine("x86_64")
    before = footprint_of(GROWN, base, machine).host
    after = footprint_of(GROWN, {**base, **options}, machine).host
    # Of what a worker with these takes, 94 to 228 MB.
    assert (after - before) / 1e6 == pytest.approx(grown, rel=0.05, abs=3.0)


def test_weights_that_are_kept_in_two_orders() -> None:
    x86 = Machine("x86_64")
    assert footprint_of(INFO, {}, x86).parts[HOST].weights == 100_000 + 40_000
    assert footprint_of(INFO, {"mmap": False}, x86).parts[HOST].weights == 100_000
    assert footprint_of(INFO, {}, Machine("aarch64")).parts[HOST].weights == 100_000 + 70_000
    assert footprint_of(INFO, {}, Machine("")).parts[HOST].weights == 100_000
    moved = footprint_of(INFO, {}, Machine("x86_64", {"cuda:0": 1 << 30}))
    assert moved.parts[HOST].weights == 7_000, "copies are for the CPU alone"


def test_a_draft_model_comes_on_top() -> None:
    draft = dataclasses.replace(INFO, file_bytes=20_000, block_count=1, embedding_length=8)
    both = dataclasses.replace(INFO, draft=draft)
    options = {"context_length": 512, "parallel": 2}
    alone, beside = on_host(INFO, **options), on_host(draft, **options)
    words = beside.other - PROCESSES_BYTES  # in the same processes
    assert on_host(both, **options) == alone + dataclasses.replace(beside, other=words)
    machine = Machine(devices={"gpu": 1 << 30})
    found = footprint_of(both, options, machine).parts["gpu"]
    assert found == Share(
        100_000 + 20_000 - 2 * 7_000,
        2 * 512 * (PER_CELL + PER_CELL // 10),
        alone.compute * 2 + beside.compute * 2,
        DEVICE_OVERHEAD_BYTES,
    )


def test_models_of_any_engine() -> None:
    def needs(info: ModelInfo | None = None, told: int | None = None, **values: Any) -> int:
        return estimate_footprint(dataclasses.replace(MODEL, **values), info, told).host

    assert needs(INFO, memory_mb=7, size_bytes=9) == footprint_of(INFO, {}).host
    assert needs(INFO, told=700) == 700 + WORKER_OVERHEAD_BYTES
    assert needs(size_bytes=9) == 9 + WORKER_OVERHEAD_BYTES
    assert needs(size_bytes=9, told=700) == 700 + WORKER_OVERHEAD_BYTES
    assert needs() == WORKER_OVERHEAD_BYTES
    fake = {"engine": "fake", "options": {"memory_mb": 5}}
    assert needs(**fake) == needs(INFO, **fake) == (5 << 20) + WORKER_OVERHEAD_BYTES


WINDOW = dataclasses.replace(INFO, block_count=4, window=500, context_length=10_000)
ROW = 2 * (64 + 32) * 2  # of one layer and cell
# Rows of 4 layers at a context of 4096; in a window of 500 and a batch of 256 there are 768.
WINDOWS = {
    "no such architecture": ({}, 4 * 4096),
    "every second layer": ({"architecture": "gemma2"}, 2 * 4096 + 2 * 768),
    "the file knows better": ({"architecture": "gemma2", "window_pattern": 4}, 4096 + 3 * 768),
    "every layer": ({"window_pattern": 0}, 4 * 768),
    "no layer": ({"architecture": "gemma2", "window_pattern": 1}, 4 * 4096),
    "layer by layer": ({"window_pattern": (True, False, True)}, 2 * 4096 + 2 * 768),
    "no window": ({"architecture": "gemma2", "window": None}, 4 * 4096),
    "the window is wider": ({"window_pattern": 0, "window": 9000}, 4 * 4096),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_layers_with_a_window(name: str) -> None:
    fields, rows = WINDOWS[name]
    info = dataclasses.replace(WINDOW, **fields)
    assert on_host(info, context_length=4096, parallel=3).cache == 3 * rows * ROW


def test_layers_with_a_window_of_a_context_that_is_shared() -> None:
    info = dataclasses.replace(WINDOW, window_pattern=2)
    for requests, cells in ((1, 768), (3, 1792), (8, 4096)):
        shared = on_host(info, context_length=4096, parallel=requests, kv_unified=True)
        assert shared.cache == (2 * 4096 + 2 * cells) * ROW


# Of 10 blocks of 9,000 bytes and an output layer of 3,000.
PLACES: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "all": ({}, {"cuda:0": 9 * 9_000, "cuda:1": 9_000 + 3_000}),
    "more than there are": ({"gpu_layers": 99}, {"cuda:0": 9 * 9_000, "cuda:1": 9_000 + 3_000}),
    "none": ({"gpu_layers": 0}, {}),
    "the output first": ({"gpu_layers": 1}, {"cuda:0": 3_000}),
    "by room": ({"gpu_layers": 5}, {"cuda:0": 4 * 9_000, "cuda:1": 3_000}),
    "as asked": (
        {"gpu_layers": 5, "tensor_split": [1, 1]},
        {"cuda:0": 3 * 9_000, "cuda:1": 9_000 + 3_000},
    ),
    "one alone": ({"tensor_split": [0, 1]}, {"cuda:1": 93_000}),
    "no split at all": ({"gpu_layers": 1, "tensor_split": [0, 0]}, {"cuda:0": 3_000}),
    "a wrong split": ({"gpu_layers": 1, "tensor_split": "half"}, {"cuda:0": 3_000}),
}


@pytest.mark.parametrize("name", PLACES)
def test_layers_lie_where_llama_cpp_puts_them(name: str) -> None:
    options, weights = PLACES[name]
    found = footprint_of(INFO, options, Machine(devices={"cuda:0": 300, "cuda:1": 100}))
    assert {d: found.parts[d].weights for d in found.devices} == weights
    assert found.firm == 100_000 - sum(weights.values())


def test_devices_count_where_they_have_a_budget() -> None:
    assert footprint_of(INFO, {"gpu_layers": 5}).devices == {}
    tied = dataclasses.replace(INFO, output_bytes=0)
    found = footprint_of(tied, {"gpu_layers": 1}, Machine(devices={"gpu": 1}))
    assert found.parts["gpu"].weights == 7_000, "the table is there once more"
    assert found.firm == 100_000


INFOS = st.builds(
    dataclasses.replace,
    st.just(INFO),
    format=st.sampled_from([*FORMULAS, "unheard of"]),
    block_count=st.none() | st.integers(0, 40),
    head_count_kv=st.none() | st.integers(0, 8) | st.lists(st.integers(0, 8)).map(tuple),
    head_count=st.none() | st.integers(0, 64) | st.lists(st.integers(0, 64)).map(tuple),
    window=st.none() | st.integers(0, 5000),
    window_pattern=st.none() | st.integers(0, 6),
    feed_forward_length=st.none() | st.integers(0, 10_000),
    draft=st.none() | st.just(INFO),
    projector=st.none() | st.just(INFO),
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "context_length": st.integers(1, 1 << 17),
        "parallel": st.integers(1, 64),
        "kv_unified": st.booleans(),
        "batch_size": st.integers(1, 4096),
        "micro_batch_size": st.integers(1, 4096),
        "flash_attention": st.sampled_from(["auto", "on", "off"]),
        "gpu_layers": st.integers(0, 50),
        "tensor_split": st.lists(st.floats(0, 9), max_size=4),
        "mmap": st.booleans(),
        **dict.fromkeys(("cache_type_k", "cache_type_v"), st.sampled_from([*CACHE_BYTES])),
    },
)
MACHINES = st.builds(
    Machine,
    st.sampled_from(["", *REPACKED]),
    st.dictionaries(st.sampled_from(["cuda:0", "cuda:1", "cuda:2"]), st.integers(0, 1 << 36)),
)


@given(INFOS, OPTIONS, MACHINES)
def test_the_places_together_are_the_whole(
    info: ModelInfo, options: dict[str, Any], machine: Machine
) -> None:
    found = footprint_of(info, options, machine)
    parts = found.parts.values()
    assert found.whole == sum(share.total for share in parts)
    assert all(min(s.weights, s.cache, s.compute, s.other) >= 0 for s in parts)
    alone = footprint_of(info, options, dataclasses.replace(machine, processor="", devices={}))
    if "batch_size" in options:  # else a GPU has another
        assert sum(s.cache for s in parts) == alone.parts[HOST].cache
    assert sum(s.weights for s in parts) >= alone.parts[HOST].weights
    assert found.devices.keys() <= machine.devices.keys()


@given(INFOS, OPTIONS, MACHINES, st.integers(0, 4096))
def test_more_is_never_less(
    info: ModelInfo, options: dict[str, Any], machine: Machine, more: int
) -> None:
    def whole(**other: Any) -> int:
        return footprint_of(info, {**options, **other}, machine).whole

    context, parallel = options.get("context_length", 4096), options.get("parallel", 8)
    assert whole(context_length=context + more) >= whole(context_length=context)
    assert whole(parallel=parallel + 1) >= whole(parallel=parallel)
    assert whole(cache_type_k="f32") >= whole() >= whole(cache_type_k="q4_0")


@given(INFOS, OPTIONS, MACHINES, st.integers(0, 49))
def test_the_host_holds_less_the_more_layers_are_elsewhere(
    info: ModelInfo, options: dict[str, Any], machine: Machine, layers: int
) -> None:
    def with_layers(count: int) -> Footprint:
        return footprint_of(info, {**options, "gpu_layers": count}, machine)

    fewer, more = with_layers(layers), with_layers(layers + 1)
    assert more.host <= fewer.host
    assert sum(more.devices.values()) >= sum(fewer.devices.values())


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
    plain = dataclasses.replace(seen, capabilities=(), denied_capabilities=())
    assert plain == dataclasses.replace(described(model, info), from_file=seen.from_file)
    assert (seen.architecture, seen.quantization, seen.context_length) == ("llama", "Q4_K_M", 512)
    assert (seen.size_bytes, seen.capabilities) == (info.file_bytes, ("chat", "completion"))
    assert estimator(seen) == footprint_of(info, {}, Machine(this_processor())).host
    estimator.forget(seen)
    assert estimator(seen) == info.file_bytes + WORKER_OVERHEAD_BYTES


def test_the_file_of_a_draft_model_is_read_too(tmp_path: Path) -> None:
    for name in ("m", "d"):
        write_gguf(tmp_path / f"{name}.gguf")
    plain = dataclasses.replace(MODEL, source=str(tmp_path / "m.gguf"))
    model = dataclasses.replace(plain, options={"draft_model": str(tmp_path / "d.gguf")})
    estimator = Estimator()
    both = estimator.footprint(asyncio.run(estimator.describe(model))).parts["host"]
    alone = estimator.footprint(asyncio.run(estimator.describe(plain))).parts["host"]
    assert both == alone + dataclasses.replace(alone, other=alone.other - PROCESSES_BYTES)
    (tmp_path / "d.gguf").unlink()
    with pytest.raises(BadModelFile, match=r"d\.gguf"):
        asyncio.run(estimator.read(model))


def test_a_projector_is_read_too(tmp_path: Path) -> None:
    for name in ("m", "p"):
        write_gguf(tmp_path / f"{name}.gguf")
    size = (tmp_path / "p.gguf").stat().st_size
    plain = dataclasses.replace(MODEL, source=str(tmp_path / "m.gguf"))
    model = dataclasses.replace(plain, options={"mmproj": str(tmp_path / "p.gguf")})
    estimator = Estimator()
    both = estimator(asyncio.run(estimator.describe(model)))
    alone = estimator(asyncio.run(estimator.describe(plain)))
    assert both == alone + int(size * PROJECTOR_FACTOR)


def test_what_a_projector_computes_in_follows_from_its_file(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    shape = VisionShape(text=16, layers=1, hidden=32, ffn=64, heads=2, image=56)
    path = write_projector(tmp_path / "p.gguf", shape)
    plain = dataclasses.replace(MODEL, source=str(tmp_path / "m.gguf"))
    model = dataclasses.replace(plain, options={"mmproj": str(path)})
    estimator = Estimator()
    both = estimator(asyncio.run(estimator.describe(model)))
    alone = estimator(asyncio.run(estimator.describe(plain)))
    patches = 16
    buffers = 4 * patches * (2 * 64 + 4 * 32 + patches * 2)
    assert both == alone + path.stat().st_size + buffers


def test_adapters_are_counted(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    path = write_adapter(tmp_path / "a.gguf", "llama", "blk.0.attn_q.weight", (64, 64))
    plain = dataclasses.replace(MODEL, source=str(tmp_path / "m.gguf"))
    adapters = [{"path": str(path)}, {"path": str(path), "scale": 0.5}]
    model = dataclasses.replace(plain, options={"lora": adapters})
    estimator = Estimator()
    both = estimator(asyncio.run(estimator.describe(model)))
    alone = estimator(asyncio.run(estimator.describe(plain)))
    assert both == alone + 2 * path.stat().st_size
    wrong = dataclasses.replace(plain, options={"lora": [{"path": model.source}]})
    with pytest.raises(BadModelFile, match="is no adapter"):
        asyncio.run(estimator.read(wrong))


def test_any_engine_is_described_whose_files_are_known(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    model = dataclasses.replace(MODEL, engine="custom", source=str(tmp_path / "m.gguf"))
    seen = asyncio.run(Estimator().describe(model))
    assert (seen.architecture, seen.facts["format"]) == ("llama", "gguf")
    assert seen.facts["parameter_count"] == 8
    assert seen.from_file == ("architecture", "quantization", "context_length", "capabilities")
    assert Model.from_dict(json.loads(json.dumps(seen.as_dict()))) == seen
    assert "facts" not in seen.as_entry()
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    broken = asyncio.run(Estimator().describe(model))
    assert (broken.size_bytes, broken.facts) == (4, {}), "that engine may know better"


def test_two_models_on_one_file(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    one = dataclasses.replace(MODEL, model_id="one", source=str(tmp_path / "m.gguf"))
    two = dataclasses.replace(one, model_id="two")
    estimator = Estimator()
    for model in (one, two):
        asyncio.run(estimator.describe(model))
    before = estimator(two)
    estimator.forget(one)
    assert estimator(one) != estimator(two) == before


def test_describing_other_engines(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"12345")
    describe = Estimator().describe
    in_file = dataclasses.replace(MODEL, engine="custom", source=str(tmp_path / "weights.bin"))
    assert asyncio.run(describe(in_file)).size_bytes == 5
    by_name = dataclasses.replace(MODEL, engine="ollama", source="llama3.1:8b")
    seen = asyncio.run(describe(by_name))
    assert seen.presumed_capabilities == seen.capabilities == ("chat", "completion", "tools")
    assert seen.known_capabilities == ()
    with pytest.raises(BadModelFile):
        asyncio.run(describe(dataclasses.replace(MODEL, source=str(tmp_path / "absent.gguf"))))
