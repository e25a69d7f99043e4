"""Whatever is done to a model's files: it is read, or one kind of error says what is wrong."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modelpool.catalog.errors import BadModelFile
from modelpool.catalog.formats.base import Entry, Listing
from modelpool.catalog.formats.registry import companion_of, formats, read
from modelpool.catalog.model_info import ModelInfo
from support.examples import examples
from support.model_files import (
    QWEN,
    blobs,
    coreml,
    folder,
    mlpackage,
    onnx,
    onnx_external,
    onnx_tensor,
    safetensors,
)

ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": "a/b"}
TOKENIZER = {"tokenizer_class": "T", "chat_template": "{{ tools }}"}
GENAI = {"model": {"type": "phi", "decoder": {"filename": "m.onnx", "head_size": 8}}}


def transformers(path: Path) -> Path:
    files = {"config.json": QWEN, "tokenizer_config.json": TOKENIZER}
    return folder(path, {**files, "model.safetensors": safetensors(metadata={"format": "pt"})})


def graph(path: Path) -> Path:
    data = onnx(onnx_tensor("w", 1, (2, 3), 24), onnx_external("e", (4,), "e.data", length=16))
    return folder(path, {"m.onnx": data, "e.data": bytes(16)}) / "m.onnx"


# How a model is made in a folder, and which of its files is damaged.
MODELS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "weights": (transformers, "model.safetensors"),
    "config": (transformers, "config.json"),
    "tokenizer": (transformers, "tokenizer_config.json"),
    "adapter": (
        lambda p: folder(
            p, {"adapter_config.json": ADAPTER, "adapter_model.safetensors": safetensors()}
        ),
        "adapter_config.json",
    ),
    "graph": (graph, "m.onnx"),
    "genai": (
        lambda p: folder(p, {"genai_config.json": GENAI, "m.onnx": onnx()}),
        "genai_config.json",
    ),
    "specification": (lambda p: folder(p, {"m.mlmodel": coreml()}) / "m.mlmodel", "m.mlmodel"),
    "manifest": (lambda p: mlpackage(p / "m.mlpackage"), "m.mlpackage/Manifest.json"),
    "blobs": (
        lambda p: mlpackage(p / "m.mlpackage"),
        "m.mlpackage/Data/com.apple.CoreML/weights/weight.bin",
    ),
}
COUNTS = ("file_bytes", "tensor_bytes", "parameter_count", "context_length", "block_count")


def outcome(path: Path) -> ModelInfo | None:
    """What is read, which is then in order; None for a bad file."""
    try:
        info = read(path)
    except BadModelFile as e:
        assert len(e.message) < 700  # noqa: PT017  # any other exception fails the test
        return None
    companion_of(info)
    values = [getattr(info, name) for name in COUNTS]
    assert all(v is None or (type(v) is int and 0 <= v < 2**62) for v in values)
    assert all(math.isfinite(v) for v in info.rope_scaling.values() if isinstance(v, float))
    return info


@pytest.fixture(scope="module", params=MODELS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    make, name = MODELS[request.param]
    base = tmp_path_factory.mktemp(request.param)
    path = make(base)
    assert outcome(path) is not None
    return path, base / name, (base / name).read_bytes()


NOISE = st.one_of(
    st.binary(min_size=1, max_size=12),
    st.sampled_from(
        [b"\xff" * 8, b"\x80" * 10, b"1e999", b"[" * 3000, b"-1", b"null", b"\xc3\x28"]
    ),
)


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), NOISE), max_size=4), st.none() | st.floats(0, 1))
def test_noise_and_truncation(
    made: tuple[Path, Path, bytes], changes: list[tuple[float, bytes]], end: float | None
) -> None:
    path, file, whole = made
    data = bytearray(whole[: min(len(whole), 4096)])
    for place, noise in changes:
        at = int(place * len(data))
        data[at : at + len(noise)] = noise
    kept = data + whole[4096:]
    file.write_bytes(kept if end is None else kept[: int(end * len(kept))])
    outcome(path)


@settings(max_examples=examples(60), deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes(made: tuple[Path, Path, bytes], data: bytes) -> None:
    path, file, _ = made
    file.write_bytes(data)
    outcome(path)


def test_every_truncation(made: tuple[Path, Path, bytes]) -> None:
    path, file, whole = made
    for length in range(0, len(whole), max(len(whole) // 200, 1)):
        file.write_bytes(whole[:length])
        outcome(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = [
    *QWEN, "text_config", "rope_scaling", "layer_types", "sliding_window", "id2label",
    "quantization", "quantization_config", "vision_config", "thinker_config", "head_dim",
    "sentence_transformers", "num_local_experts", "qk_rope_head_dim", "qk_nope_head_dim",
]  # fmt: skip


@settings(max_examples=examples(400), deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=6))
def test_values_of_any_type(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "values"
    outcome(folder(transformers(path), {"config.json": QWEN | values}))


@pytest.mark.parametrize("name", ["m.safetensors", "m.onnx", "m.mlmodel", "m.gguf"])
@pytest.mark.parametrize(
    "begin", [b"\xff" * 8, b"\x00\x00\x00\x40" + bytes(4), b"\x3a\xff\xff\xff\xff\x7f", b"GGUF"]
)
def test_a_lying_length_takes_no_memory(tmp_path: Path, name: str, begin: bytes) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        file.write(begin)
        file.truncate(2**36)
    tracemalloc.start()
    try:
        assert outcome(path) is None
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


def test_blobs_that_lie_about_their_number(tmp_path: Path) -> None:
    path = mlpackage(tmp_path / "m.mlpackage")
    data = (2**31).to_bytes(4, "little") + blobs((1, 4))[4:]
    folder(path, {"Data/com.apple.CoreML/weights/weight.bin": data})
    assert outcome(path) is None


SPECIAL_NAMES = [
    "config.json",
    "adapter_config.json",
    "genai_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
    "m.gguf",
    "decoder_model.onnx",
    "encoder.onnx",
    "pytorch_model.bin",
    "weights.npz",
    "a.mlpackage",
    ".mlmodel",
    ".onnx",
    ".gguf",
    ".part",
]
NAMES = st.one_of(
    st.text(max_size=12).filter(lambda n: "/" not in n and n not in (".", "..")),
    st.builds(
        lambda stem, i, n, suffix, end: f"{stem}-{i:05}-of-{n:05}{suffix}{end}",
        st.sampled_from(["model", "a", ""]),
        st.integers(0, 99999),
        st.integers(0, 99999),
        st.sampled_from([".gguf", ".safetensors", ".onnx", ".bin"]),
        st.sampled_from(["", ".part", ".aria2", ".incomplete"]),
    ),
    st.sampled_from(SPECIAL_NAMES),
)


@settings(max_examples=examples(500), deadline=None)
@given(st.dictionaries(NAMES, st.tuples(st.booleans(), st.integers(0, 2**60)), max_size=8))
def test_any_folder_can_be_listed(entries: dict[str, tuple[bool, int]]) -> None:
    """What a candidate has is there, and no two models have the same path."""
    at = Listing(Path("/m"), tuple(Entry(n, *what) for n, what in entries.items()))
    for made in formats().values():
        found = list(made.candidates(at))
        paths = [c.path for c in found if c.companion is None]
        assert len(set(paths)) == len(paths)
        for candidate in found:
            files = {f.name for f in candidate.files if f.parent == Path("/m")}
            assert files <= entries.keys()
            assert candidate.path == Path("/m") or candidate.path.name in entries


def test_what_cannot_be_read(tmp_path: Path) -> None:
    for name in ("absent.gguf", "absent", "a\0b", "x" * 300, ".", "a.onnx", "b.mlpackage"):
        assert outcome(tmp_path / name) is None


def test_a_folder_that_is_none_names_the_models_in_it(tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="is a folder that is no model of a format known here"):
        read(tmp_path)
    folder(tmp_path, {"a.gguf": b"x", "b.onnx": b"x"})
    with pytest.raises(BadModelFile, match=r"none itself: name one of a\.gguf, b\.onnx"):
        read(tmp_path)
    with pytest.raises(BadModelFile, match="is of no format known here: gguf"):
        read(folder(tmp_path, {"x.zip": b"PK"}) / "x.zip")
    store = folder(tmp_path, {"sha256-0123": b"GGUF"}) / "sha256-0123"
    with pytest.raises(BadModelFile, match="is truncated"):
        read(store)
