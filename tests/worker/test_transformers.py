"""What the engine ``transformers`` knows of files and options without its libraries."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from demo_formats import DEMO_FOLDER, DEMO_GGUF
from modelpool_client.errors import LoadFailed
from modelpool_worker.engines.gguf import read_element_count
from modelpool_worker.engines.transformers.engine import Transformers
from modelpool_worker.engines.transformers.pooling import Module, pooling_of, read_sentences
from modelpool_worker.engines.transformers.source import labels_of, read_source, task_of
from safetensors.numpy import save_file

MIB = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the demo's."""
    return Path(shutil.copytree(DEMO_FOLDER, tmp_path / "demo"))


def refusal(source: Path) -> tuple[str, str]:
    with pytest.raises(LoadFailed) as e:
        Transformers().inspect(str(source))
    return e.value.code, e.value.message


def test_a_folder() -> None:
    source = read_source(str(DEMO_FOLDER))
    assert (source.architecture, source.task) == ("LlamaForCausalLM", "text")
    assert source.trained_length == 1024
    assert source.cache_width == 2 * 4 * 3 * 32
    assert 2 * source.elements == pytest.approx(source.bytes, rel=0.01)


def test_a_gguf_file() -> None:
    source = read_source(str(DEMO_GGUF))
    folder = read_source(str(DEMO_FOLDER))
    assert source.gguf_file == DEMO_GGUF.name
    assert source.trained_length == 1024
    assert source.cache_width == folder.cache_width
    assert read_element_count(str(DEMO_GGUF)) == folder.elements


def test_pickles_are_refused_with_the_reason(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    code, message = refusal(folder)
    assert code == "bad_file"
    assert "pickles" in message
    assert "pytorch_model.bin" in message


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("config.json", None, "is missing"),
        ("config.json", b"{", "no JSON"),
        ("config.json", b"[]", "no JSON object"),
        ("config.json", b"{}", "no architecture"),
        ("model.safetensors", None, "no weights"),
        ("model.safetensors", b"x" * 100, "no whole safetensors"),
        ("model.safetensors", b"", "no whole safetensors"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "b.safetensors"}}', "b.safet"),
        ("model.safetensors.index.json", b"{}", "weight_map"),
    ],
)
def test_damaged_folders(folder: Path, name: str, data: bytes | None, words: str) -> None:
    (folder / name).unlink() if data is None else (folder / name).write_bytes(data)
    code, message = refusal(folder)
    assert code == "bad_file"
    assert words in message


def test_weights_that_were_cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    assert "truncated" in refusal(folder)[1]


def test_sources_that_are_none(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nothing")[0] == "bad_file"
    assert "folder" in refusal(DEMO_FOLDER / "model.safetensors")[1]
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    assert refusal(tmp_path / "x.gguf")[0] == "bad_file"


@pytest.mark.parametrize(
    ("architecture", "config", "has_modules", "task"),
    [
        ("LlamaForCausalLM", {}, False, "text"),
        ("GPT2LMHeadModel", {}, False, "text"),
        ("T5ForConditionalGeneration", {}, False, "text"),
        ("Qwen3ForCausalLM", {}, True, "embeddings"),
        ("BertModel", {}, False, "embeddings"),
        ("BertForMaskedLM", {}, False, "embeddings"),
        ("BertForSequenceClassification", {"id2label": {"0": "LABEL_0"}}, False, "rerank"),
        ("BertForSequenceClassification", {"num_labels": 1}, True, "rerank"),
        ("BertForSequenceClassification", {}, False, "classify"),
        ("XLMRobertaForSequenceClassification", {"num_labels": 5}, False, "classify"),
    ],
)
def test_what_a_model_is_for(
    architecture: str, config: dict[str, Any], has_modules: bool, task: str
) -> None:
    assert task_of(architecture, config, has_modules=has_modules) == task


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("LlavaForConditionalGeneration", {"vision_config": {}}),
        ("BertForTokenClassification", {}),
        ("llama", {}),
    ],
)
def test_what_is_for_nothing_here(architecture: str, config: dict[str, Any]) -> None:
    with pytest.raises(LoadFailed) as e:
        task_of(architecture, config, has_modules=False)
    assert e.value.code == "unsupported_arch"


def test_labels_by_their_numbers() -> None:
    named = {"10": "k", "2": "c", "0": "a"}
    assert labels_of({"id2label": named}) == ["a", "c", "k"]
    assert labels_of({"num_labels": 3}) == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert labels_of({}) == ["LABEL_0", "LABEL_1"]


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode": "mean"}, "mean"),
    ],
)
def test_poolings(config: dict[str, Any], pooling: str) -> None:
    assert pooling_of(config) == pooling


@pytest.mark.parametrize(
    "config",
    [
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
        {"pooling_mode_weightedmean_tokens": True},
        {"pooling_mode": "new"},
        {},
    ],
)
def test_poolings_that_are_not_known(config: dict[str, Any]) -> None:
    with pytest.raises(LoadFailed) as e:
        pooling_of(config)
    assert e.value.code == "unsupported_arch"


def modules(folder: Path, **kinds: str) -> None:
    told = [
        {"path": path, "type": f"sentence_transformers.models.{k}"} for path, k in kinds.items()
    ]
    (folder / "modules.json").write_text(json.dumps(told))


def test_modules_of_sentence_transformers(tmp_path: Path) -> None:
    assert read_sentences(str(tmp_path)).pooling is None
    for name in ("pool", "dense"):
        (tmp_path / name).mkdir()
    (tmp_path / "pool" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    activation = '{"activation_function": "torch.nn.modules.activation.Tanh"}'
    (tmp_path / "dense" / "config.json").write_text(activation)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 40}')
    modules(tmp_path, pool="Pooling", dense="Dense", norm="Normalize")
    said = read_sentences(str(tmp_path))
    assert (said.pooling, said.normalises, said.max_length) == ("cls", True, 40)
    assert said.dense == (Module(str(tmp_path / "dense"), "Tanh"),)
    modules(tmp_path, x="LSTM")
    with pytest.raises(LoadFailed, match="LSTM"):
        read_sentences(str(tmp_path))
    modules(tmp_path, **{"../x": "Pooling"})
    with pytest.raises(LoadFailed, match="elsewhere"):
        read_sentences(str(tmp_path))


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"dtype": "int8"}, "options.dtype"),
        ({"device": "tpu"}, "options.device"),
        ({"device": "cuda:x"}, "options.device"),
        ({"pooling": "sum"}, "options.pooling"),
        ({"quantization": "gptq"}, "options.quantization"),
        ({"chat_template": "no template"}, "options.chat_template"),
        ({"chat_template_file": "relative.jinja"}, "options.chat_template_file"),
        (
            {"chat_template": "{{x}}", "chat_template_file": "/x"},
            "options.chat_template_file",
        ),
        ({"quantization": "torchao-int8", "dtype": "float32"}, "options.quantization"),
        ({"unheard": 1}, "options.unheard"),
    ],
)
def test_wrong_options(options: dict[str, Any], param: str) -> None:
    with pytest.raises(LoadFailed) as e:
        Transformers().check(options)
    assert (e.value.code, e.value.param) == ("bad_config", param)


def test_only_the_config_file_may_have_code_run() -> None:
    assert Transformers.options["trust_remote_code"]["only_in_config"]


def test_memory_grows_with_what_is_asked_for(tmp_path: Path) -> None:
    engine = Transformers()

    def told(source: Path = DEMO_FOLDER, **options: Any) -> int:
        found = engine.memory_bytes(str(source), {"device": "cpu", **options})
        assert found is not None
        return found

    weights = 4 * read_source(str(DEMO_FOLDER)).elements
    cache = 4 * 768 * 8 * 1024
    assert told() > weights + cache + 300 * MIB
    assert told(parallel=16) - told() >= cache
    assert told(context_length=2048) - told() == cache
    assert told() - told(dtype="bfloat16") == (weights + cache) // 2
    assert told(DEMO_GGUF) == pytest.approx(told(), rel=0.1)
    assert engine.memory_bytes(str(DEMO_FOLDER), {"device": "cuda"}) is None
    assert engine.memory_bytes(str(tmp_path), {"device": "cpu"}) is None


def test_counts_of_files_that_hold_several_tensors(tmp_path: Path) -> None:
    arrays = {"a": np.zeros((3, 4), np.float32), "b": np.zeros(5, np.float16)}
    save_file(arrays, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    assert read_source(str(tmp_path)).elements == 17


def test_a_library_that_only_one_model_needs_is_missed_before_its_load(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Transformers()
    missing = {"torchao", "mslk"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name not in missing or None)
    monkeypatch.setattr("importlib.metadata.version", lambda _: "1")
    assert engine.probe_for({}).usable
    assert engine.probe_for({"quantization": "bitsandbytes-8bit"}).usable
    found = engine.probe_for({"quantization": "torchao-int8"})
    assert (found.usable, found.install_hint) == (False, "pip install torchao")
    assert "'torchao-int8'" in found.reason
    missing.remove("torchao")
    assert engine.probe_for({"quantization": "torchao-int8"}).usable
    assert engine.probe_for({"quantization": "torchao-int4"}).install_hint == "pip install mslk"
