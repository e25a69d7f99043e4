"""What the engines of arrays decide without their libraries: of files, graphs, next tokens."""

from __future__ import annotations

import json
import queue
import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.errors import LoadFailed
from modelpool_worker.engines.coreml.engine import CoreMl, specification_of
from modelpool_worker.engines.file_check import (
    check_message,
    check_safetensors,
    safetensors_bytes,
)
from modelpool_worker.engines.hf_folder import read_writer
from modelpool_worker.engines.mlx import text as mlx_text
from modelpool_worker.engines.mlx.engine import Mlx
from modelpool_worker.engines.onnx.engine import Onnx
from modelpool_worker.engines.onnx.session import load_failure, providers_of
from modelpool_worker.engines.onnx.tensors import counts_samples
from modelpool_worker.engines.onnx.texts import pooling_of, text_graph
from modelpool_worker.engines.sampling import Sampler
from modelpool_worker.hosting.cancel import Cancel
from modelpool_worker.hosting.contract import Sampling, TextRequest

DEMO = Path(__file__).parents[2] / "configs" / "models" / "pool-demo"


def graph_file(path: Path) -> Path:
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    sides = [onnx.helper.make_tensor_value_info(n, 1, ["batch", 4]) for n in "xy"]
    graph = onnx.helper.make_graph([node], "g", sides[:1], sides[1:])
    onnx.save(onnx.helper.make_model(graph), path)
    return path


def refused(call: Any, *arguments: Any) -> LoadFailed:
    with pytest.raises(LoadFailed) as caught:
        call(*arguments)
    return caught.value


# -- files -----------------------------------------------------------------------------------------


def test_a_graph_that_was_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = graph_file(tmp_path / "whole.onnx").read_bytes()
    check_message(str(tmp_path / "whole.onnx"), 7, "ONNX graph")
    cut = tmp_path / "cut.onnx"
    graph_end = next(n for n in range(len(whole)) if _is_taken(cut, whole[:n]))
    # Behind the graph only the version of its operators may miss.
    assert graph_end > len(whole) - 10
    for junk in (b"", b"<html>not found</html>", bytes(64), b"GGUF" + bytes(40)):
        cut.write_bytes(junk)
        assert refused(Onnx().inspect, str(cut)).code == "bad_file"


def _is_taken(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    return _code(lambda p: check_message(p, 7, "ONNX graph"), path) is None


def _code(check: Callable[[str], None], path: Path) -> str | None:
    """With which it is refused."""
    try:
        check(str(path))
    except LoadFailed as e:
        return e.code
    return None


@given(st.binary(max_size=200))
def test_no_bytes_make_the_check_fail_otherwise(tmp_path_factory: Any, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.bin"
    path.write_bytes(data)
    for check in (lambda p: check_message(p, 7, "graph"), check_safetensors):
        assert _code(check, path) in (None, "bad_file")


def test_weights_that_were_cut_are_refused_and_counted(tmp_path: Path) -> None:
    header = {
        "a": {"dtype": "F16", "shape": [8], "data_offsets": [0, 16]},
        "b": {"dtype": "U32", "shape": [2], "data_offsets": [16, 24]},
        "__metadata__": {"format": "mlx"},
    }
    text = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(24))
    check_safetensors(str(path))
    assert safetensors_bytes(str(path)) == 24
    assert safetensors_bytes(str(path), 4) == 40
    path.write_bytes(path.read_bytes()[:-1])
    assert "truncated" in refused(check_safetensors, str(path)).message


def test_a_folder_of_mlx(tmp_path: Path) -> None:
    Mlx().inspect(str(DEMO))
    config = read_writer(str(DEMO))
    assert (config.kind, config.context_length, config.end_tokens) == ("llama", 1024, (2,))
    assert config.cache_width == 2 * 4 * 3 * 32
    assert config.defaults == {"temperature": 0}
    small, large = (
        Mlx().memory_bytes(str(DEMO), {"dtype": "file", "context_length": n}) for n in (16, 1024)
    )
    assert small is not None
    assert large is not None
    assert large - small == 8 * (1024 - 16) * config.cache_width * 2
    for problem in ("config.json", "tokenizer.json", "model.safetensors"):
        folder = tmp_path / problem
        folder.mkdir()
        for file in DEMO.iterdir():
            if file.name != problem:
                (folder / file.name).symlink_to(file)
        error = refused(Mlx().inspect, str(folder))
        assert error.code == "bad_file"
        assert problem.removeprefix("model") in error.message


def test_code_that_a_model_of_mlx_brings_is_not_run(tmp_path: Path) -> None:
    for file in DEMO.iterdir():
        (tmp_path / file.name).symlink_to(file)
    config = json.loads((DEMO / "config.json").read_text())
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_file": "own.py"}))
    error = refused(Mlx().inspect, str(tmp_path))
    assert (error.code, "own.py" in error.message) == ("unsupported_arch", True)


class _Breaks:
    """A generator of mlx-lm that cannot let go of a sequence the first time."""

    def __init__(self) -> None:
        self.count = 0
        self.begun = threading.Event()

    def insert(self, *_: Any, **__: Any) -> tuple[int]:
        self.count += 1
        self.begun.set()
        return (self.count,)

    def remove(self, _: Any) -> None:
        raise RuntimeError("cannot")

    def next(self) -> tuple[list[Any], list[Any]]:
        answer = SimpleNamespace(uid=self.count, token=1, finish_reason="length")
        return [], [answer] if self.count > 1 else []


def test_the_loop_of_mlx_outlives_whatever_fails_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = _Breaks()
    monkeypatch.setattr(mlx_text, "_generator", lambda *_: generator)
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    run = mlx_text._Run(None, (), 1, 1, inbox)
    threading.Thread(target=run.forever, daemon=True).start()

    def asked(sink: Any) -> TextRequest:
        request = TextRequest([1], 1, Sampling(), Cancel())
        inbox.put(mlx_text._Sequence(request, sink, lambda _: b"x", None, ()))
        return request

    class Sink:
        def __init__(self) -> None:
            self.over = threading.Event()

        def push(self, *_: Any) -> None:
            pass

        def end(self) -> None:
            self.over.set()

        def fail(self, _: BaseException) -> None:
            self.over.set()

    second = Sink()
    left = asked(Sink())
    assert generator.begun.wait(60)
    left.cancel.set()
    asked(second)
    assert second.over.wait(60)


def test_a_folder_of_genai(tmp_path: Path) -> None:
    folder = tmp_path / "genai"
    folder.mkdir()
    assert "genai_config.json" in refused(Onnx().inspect, str(folder)).message
    decoder = {"filename": "model.onnx", "head_size": 32, "num_hidden_layers": 4}
    model: dict[str, Any] = {"type": "llama", "vocab_size": 9, "context_length": 64}
    model |= {"eos_token_id": [2, 3], "decoder": {**decoder, "num_key_value_heads": 3}}
    file = folder / "genai_config.json"
    file.write_text(json.dumps({"model": model, "search": {"do_sample": False}}))
    assert "model.onnx, which is missing" in refused(Onnx().inspect, str(folder)).message
    graph_file(folder / "model.onnx")
    Onnx().inspect(str(folder))
    one, four = (Onnx().memory_bytes(str(folder), {"parallel": n}) for n in (1, 4))
    assert one is not None
    assert four is not None
    assert four - one == 3 * 64 * 2 * 4 * 3 * 32 * 4
    file.write_text(json.dumps({"model": {**model, "type": "whisper"}}))
    assert refused(Onnx().inspect, str(folder)).code == "unsupported_arch"
    file.write_text('{"model": {"type": "llama"}}')
    assert refused(Onnx().inspect, str(folder)).code == "bad_file"


def test_packages_of_coreml(tmp_path: Path) -> None:
    package = tmp_path / "x.mlpackage"
    package.mkdir()
    assert "misses Manifest.json" in refused(CoreMl().inspect, str(package)).message
    manifest = package / "Manifest.json"
    for place in ("../../etc/passwd", "/etc/passwd"):
        entry = {"rootModelIdentifier": "r", "itemInfoEntries": {"r": {"path": place}}}
        manifest.write_text(json.dumps(entry))
        assert "is not in it" in refused(specification_of, str(package)).message
    compiled = tmp_path / "x.mlmodelc"
    compiled.mkdir()
    assert "misses metadata.json" in refused(CoreMl().inspect, str(compiled)).message


# -- graphs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "outputs", "batched"),
    [
        ([["batch", 3]], [["batch"]], True),
        ([["unk__214", 2048]], [["unk__215", 214]], True),
        ([[None, 3, "?", "?"]], [[None, 2]], True),
        ([["p2o.DynamicDimension.0", 3]], [["p2o.DynamicDimension.2", 9]], True),
        ([["batch", 3]], [["detections", 7]], False),
        ([["sequence_length", 576]], [["sequence_length"]], False),
        ([["batch", "sequence"], [2, "batch", 128]], [["batch", 1]], False),
        ([["batch", 3], []], [["batch", 1]], False),
        ([[1, 3]], [["batch", 3]], False),
        ([["batch", 3]], [[]], False),
        ([["batch", 3]], [], False),
    ],
)
def test_whether_samples_are_counted(
    inputs: list[list[Any]], outputs: list[list[Any]], batched: bool
) -> None:
    assert counts_samples(inputs, outputs) is batched


TWO, THREE = ("input_ids", "attention_mask"), ("input_ids", "attention_mask", "token_type_ids")
CLASSES = {"architectures": ["BertForSequenceClassification"]}


@pytest.mark.parametrize(
    ("inputs", "outputs", "config", "purpose", "output"),
    [
        (TWO, {"last_hidden_state": 3}, {}, "embeddings", "last_hidden_state"),
        (
            THREE,
            {"token_embeddings": 3, "sentence_embedding": 2},
            {},
            "embeddings",
            "sentence_embedding",
        ),
        (TWO, {"logits": 2}, {**CLASSES, "id2label": {"0": "LABEL_0"}}, "rerank", "logits"),
        (TWO, {"logits": 2}, {**CLASSES, "id2label": {"0": "a", "1": "b"}}, "classify", "logits"),
        (TWO, {"logits": 3}, {"architectures": ["LlamaForCausalLM"]}, None, ""),
        (("input_ids", "past_key_values.0.key"), {"last_hidden_state": 3}, {}, None, ""),
        (("pixel_values",), {"last_hidden_state": 3}, {}, None, ""),
    ],
)
def test_what_a_graph_that_reads_texts_is_for(
    inputs: Sequence[str], outputs: dict[str, int], config: Any, purpose: str | None, output: str
) -> None:
    found = text_graph(inputs, outputs, config)
    assert (found and found.purpose) == purpose
    if found:
        assert found.output == output


def test_how_a_folder_pools(tmp_path: Path) -> None:
    assert pooling_of(str(tmp_path)) == ("mean", True)
    (tmp_path / "1_Pooling").mkdir()
    said = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(said))
    (tmp_path / "modules.json").write_text("[]")
    assert pooling_of(str(tmp_path)) == ("cls", False)
    (tmp_path / "2_Normalize").mkdir()
    assert pooling_of(str(tmp_path)) == ("cls", True)


def test_execution_providers() -> None:
    cpu, cuda = "CPUExecutionProvider", "CUDAExecutionProvider"
    assert providers_of([cpu], {}) == [cpu]
    assert providers_of([cuda, cpu], {}) == [cuda, cpu]
    assert providers_of([cuda, cpu], {"execution_providers": ["cpu"]}) == [cpu]
    error = refused(
        providers_of, ["AzureExecutionProvider", cpu], {"execution_providers": ["cuda"]}
    )
    assert (error.code, error.param) == ("bad_config", "options.execution_providers")
    assert "has no cuda; it has cpu" in error.message


class InvalidProtobuf(Exception):
    """As the library's own is called."""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidProtobuf("Load model from x failed"), "bad_file"),
        (RuntimeError("Unsupported model IR version: 99, max supported"), "unsupported_arch"),
        (RuntimeError("Unsupported model_type in config.json: x"), "unsupported_arch"),
        (RuntimeError("std::bad_alloc"), "oom"),
        (MemoryError(), "oom"),
        (RuntimeError("something else"), "load_failed"),
    ],
)
def test_why_a_graph_is_not_loaded(error: Exception, code: str) -> None:
    assert load_failure("x.onnx", error).code == code


# -- the next token --------------------------------------------------------------------------------


class Only:
    """A constraint that lets some tokens come."""

    def __init__(self, size: int, *allowed: int) -> None:
        self._size = size
        self._allowed = allowed
        self.accepted: list[int] = []

    def mask(self) -> bytes:
        bits = np.zeros(self._size, dtype=np.uint8)
        bits[list(self._allowed)] = 1
        return np.packbits(bits, bitorder="little").tobytes()

    def accept(self, token: int) -> None:
        self.accepted.append(token)


def data(token: int) -> bytes:
    return bytes([token])


def sampler(prompt: Sequence[int] = (0,), **how: Any) -> Sampler:
    more = {k: how.pop(k) for k in ("alternatives", "constraint") if k in how}
    request = TextRequest(prompt, 99, Sampling(**how), Cancel(), **more)
    return Sampler(request, {"temperature": 0}, data)


LOGITS = np.array([0.0, 1.0, 3.0, 2.0, -1.0], dtype=np.float32)
vectors = st.lists(st.floats(-20, 20, width=32), min_size=5, max_size=5).map(np.array)


@given(vectors, st.integers(0, 99), st.integers(1, 5), st.floats(0.01, 1), st.floats(0, 1))
def test_only_the_likeliest_are_drawn(
    logits: Any, seed: int, top_k: int, top_p: float, min_p: float
) -> None:
    before = logits.copy()
    token = sampler(temperature=1.0, seed=seed, top_k=top_k, top_p=top_p, min_p=min_p).choose(
        logits, data
    )
    assert (logits == before).all()
    order = list(np.argsort(-logits.astype(np.float32), kind="stable"))
    assert order.index(token.id) < top_k
    chances = np.exp(logits - logits.max())
    assert chances[token.id] >= min_p * 0.999
    again = sampler(temperature=1.0, seed=seed, top_k=top_k, top_p=top_p, min_p=min_p)
    assert again.choose(logits, data) == token


def test_tokens_come_as_often_as_they_are_likely() -> None:
    many = sampler(temperature=2.0, seed=1)
    drawn = np.bincount([many.choose(LOGITS, data).id for _ in range(20_000)], minlength=5)
    chances = np.exp(LOGITS / 2) / np.exp(LOGITS / 2).sum()
    assert np.abs(drawn / 20_000 - chances).max() < 0.015


@pytest.mark.parametrize(
    ("how", "chosen"),
    [
        ({}, [2, 2, 2]),
        ({"logit_bias": {4: 100.0}}, [4, 4, 4]),
        ({"logit_bias": {2: -100.0, 99: 5.0}}, [3, 3, 3]),
        ({"presence_penalty": 1.5}, [2, 3, 2]),
        ({"frequency_penalty": 1.2}, [2, 3, 2]),
        ({"repeat_penalty": 2.0}, [2, 3, 2]),
        ({"repeat_penalty": 2.0, "prompt": [2]}, [3, 2, 2]),
    ],
)
def test_how_logits_are_changed(how: dict[str, Any], chosen: list[int]) -> None:
    one = sampler(**how)
    assert [one.choose(LOGITS, data).id for _ in chosen] == chosen


def test_a_grammar_decides_what_may_come() -> None:
    grammar = Only(5, 1, 4)
    one = sampler(constraint=grammar)
    assert [one.choose(LOGITS, data).id for _ in range(2)] == [1, 1]
    assert grammar.accepted == [1, 1]


def test_log_probabilities_are_the_models_own() -> None:
    token = sampler(alternatives=2, logit_bias={4: 100.0}).choose(LOGITS, data)
    expected = LOGITS - np.log(np.exp(LOGITS).sum())
    assert token.logprob == pytest.approx(expected[4], abs=1e-5)
    told = [(i, text, pytest.approx(expected[i], abs=1e-5)) for i, text in ((2, b"\2"), (3, b"\3"))]
    assert list(token.alternatives) == told


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for engine, extra in ((Onnx(), "onnx"), (Mlx(), "mlx")):
        found = engine.probe()
        assert not found.usable
        assert f"modelpool[{extra}]" in found.install_hint


@pytest.mark.parametrize("system", ["linux", "win32"])
def test_coreml_is_macos_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, system: str) -> None:
    monkeypatch.setattr("sys.platform", system)
    assert "macOS only" in CoreMl().probe().reason
    model = tmp_path / "x.mlmodel"
    model.write_bytes(b"\x08\x01\x12\x00\xb2\x1f\x00")  # a version, a description, a program
    job = SimpleNamespace(source=str(model), options={})
    error = refused(CoreMl().serve, job, None)
    assert error.code == "missing_dependency"
    assert "CoreML computes on macOS only" in error.message
