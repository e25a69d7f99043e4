"""LM Studio's folder as ours: fields by a table, a folder as it writes one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from modelpool.config import load_config
from modelpool.converters.base import BadSettings, Conversion, Found
from modelpool.converters.lm_studio.converter import LmStudio
from modelpool.converters.lm_studio.settings import _FIELDS, WITHOUT_EFFECT, Settings, converted
from support.model_tree import gguf

FILE = "pub/repo-GGUF/repo-Q4_K_M.gguf"
FOUND = Found("pub/repo-GGUF:Q4_K_M", f"/models/{FILE}", {"mmproj": "/p"})


def convert(
    load: list[dict[str, Any]] | None = None,
    operation: list[dict[str, Any]] | None = None,
    found: tuple[Found, ...] = (FOUND,),
    **more: Any,
) -> Conversion:
    said = {"preset": "", "load": {"fields": load or []}, "operation": {"fields": operation or []}}
    files = {f"{FILE}.json": said} if load or operation else {}
    given: dict[str, Any] = {"app": {}, "server": {}, "models": files, "index": {}, **more}
    return converted(Settings(folder="/models", found=found, **given))


def field(key: str, value: Any) -> dict[str, Any]:
    return {"key": key, "value": value}


def ticked(value: Any, checked: bool = True) -> dict[str, Any]:
    return {"checked": checked, "value": value}


@pytest.mark.parametrize(
    ("key", "value", "options"),
    [
        ("llm.load.contextLength", 8192, {"context_length": 8192, "parallel": 1}),
        ("embedding.load.contextLength", 512, {"context_length": 512, "parallel": 1}),
        ("llm.load.numParallelSessions", 4, {"parallel": 4}),
        ("llm.load.seed", ticked(7), {"seed": 7}),
        ("llm.load.llama.acceleration.offloadRatio", "off", {"gpu_layers": 0}),
        ("llm.load.llama.acceleration.offloadRatio", 1, {"gpu_layers": 999}),
        ("llm.load.llama.acceleration.offloadRatio", 0.5, {}),
        ("llm.load.llama.cpuThreadPoolSize", 6, {"threads": 6}),
        ("llm.load.llama.evalBatchSize", 512, {"batch_size": 512}),
        ("llm.load.llama.flashAttention", True, {"flash_attention": "on"}),
        ("llm.load.llama.ropeFrequencyBase", ticked(10000.0), {"rope_freq_base": 10000.0}),
        ("llm.load.llama.tryMmap", False, {"mmap": False}),
        ("llm.load.llama.useUnifiedKvCache", True, {"kv_unified": True}),
        ("llm.load.llama.kCacheQuantizationType", ticked("q8_0"), {"cache_type_k": "q8_0"}),
        ("llm.load.llama.kCacheQuantizationType", "q8_0", {"cache_type_k": "q8_0"}),
        ("llm.load.llama.vCacheQuantizationType", ticked("q8_0", False), {}),
        ("llm.load.llama.keepModelInMemory", True, {}),
        ("load.gpuSplitConfig", {"strategy": "evenly"}, {}),
        ("llm.load.novel", 1, {}),
    ],
)
def test_a_field_of_the_load(key: str, value: Any, options: dict[str, Any]) -> None:
    found = convert([field(key, value)])
    (entry,) = found.config["models"]
    assert entry["options"] == {"mmproj": "/p", **options}
    is_unticked = isinstance(value, dict) and value.get("checked") is False
    if not options and not is_unticked:
        assert any(r.setting.endswith(key) for r in found.remarks)


def test_a_context_that_requests_share_is_for_as_many_as_ever() -> None:
    fields = [field("llm.load.contextLength", 8192)]
    fields.append(field("llm.load.llama.useUnifiedKvCache", True))
    (entry,) = convert(fields).config["models"]
    assert entry["options"] == {"mmproj": "/p", "context_length": 8192, "kv_unified": True}


def test_fields_of_answers_are_defaults() -> None:
    fields = [
        field("llm.prediction.temperature", 0.2),
        field("llm.prediction.topKSampling", 20),
        field("llm.prediction.topPSampling", ticked(0.9)),
        field("llm.prediction.maxPredictedTokens", ticked(100)),
        field("llm.prediction.stopStrings", ["END"]),
        field("llm.prediction.systemPrompt", "Say ${it}."),
        field("llm.prediction.reasoning.enableThinking", False),
    ]
    (entry,) = convert(operation=fields).config["models"]
    assert entry["options"] == {"mmproj": "/p", "temperature": 0.2, "reasoning": False}
    assert entry["request"] == {
        "defaults": {"top_k": 20, "top_p": 0.9, "max_tokens": 100, "stop": ["END"]},
        "system_prompt": "Say $${it}.",
    }


def test_settings_of_program_and_server() -> None:
    found = convert(
        app={
            "developer": {
                "jitModelTTL": {"enabled": True, "ttlSeconds": 7200},
                "unloadPreviousJITModelOnLoad": True,
            },
            "defaultContextLength": {"type": "custom", "value": 8192},
            "modelLoadingGuardrails": {"mode": "high"},
        },
        server={"port": 1234, "networkInterface": "0.0.0.0", "cors": True, "verbose": True},
    )
    assert found.config == {
        "default_ttl_minutes": 120,
        "allowed_origins": ["*"],
        "max_ttl_minutes": 120,
        "discovery_paths": [{"source": "lm_studio", "path": "/models"}],
    }
    told = {r.setting for r in found.remarks}
    assert told == {
        "server.port",
        "server.networkInterface",
        "server.verbose",
        "settings.unloadPreviousJITModelOnLoad",
        "settings.modelLoadingGuardrails",
        "settings.defaultContextLength",
        "settings.json",
    }


def test_names_of_its_api_go_on() -> None:
    index = {"models": [{"indexedModelIdentifier": FILE, "defaultIdentifier": "repo"}, 3]}
    assert convert(index=index).config["aliases"] == {"repo": "pub/repo-GGUF:Q4_K_M"}
    (entry,) = convert([field("llm.load.seed", 1)], index=index).config["models"]
    assert entry["aliases"] == ["repo"]


def test_settings_of_a_model_that_is_no_file_are_told() -> None:
    found = convert([field("llm.load.seed", 1)], found=())
    assert "models" not in found.config
    assert any(r.setting == f"model {FILE}" for r in found.remarks)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llm.load.contextLength", "much"),
        ("llm.load.contextLength", True),
        ("llm.load.contextLength", None),
        ("llm.load.llama.evalBatchSize", 1.5),
        ("llm.prediction.topPSampling", ticked("x")),
    ],
)
def test_a_value_of_another_kind_is_refused(key: str, value: Any) -> None:
    with pytest.raises(BadSettings, match=key):
        convert([field(key, value)])


_VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just("max"))


@given(st.sampled_from([*_FIELDS, *WITHOUT_EFFECT, "novel"]), _VALUES)
def test_any_field_is_carried_over_told_or_refused(name: str, value: Any) -> None:
    key = f"llm.load.{name}"
    try:
        found = convert([field(key, value)])
    except BadSettings:
        return
    (entry,) = found.config["models"]
    is_carried = entry.get("options") != {"mmproj": "/p"} or "request" in entry
    says_nothing = value in (None, "", "auto", -1) or (isinstance(value, int) and value < 0)
    assert is_carried or any(name in r.setting for r in found.remarks) or says_nothing


def test_a_folder_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / ".lmstudio"
    model = folder / "models" / FILE
    model.parent.mkdir(parents=True)
    model.write_bytes(gguf("repo"))
    own = folder / ".internal" / "user-concrete-model-default-config" / f"{FILE}.json"
    own.parent.mkdir(parents=True)
    own.write_text(json.dumps({"load": {"fields": [field("llm.load.contextLength", 2048)]}}))
    (folder / "settings.json").write_text("\ufeff{}")
    found = LmStudio().convert(LmStudio().read(None, {}, tmp_path))
    (entry,) = found.config["models"]
    assert entry["model_id"] == "pub/repo-GGUF:Q4_K_M"
    assert (entry["source"], entry["options"]["context_length"]) == (str(model), 2048)
    file = tmp_path / "pool.yaml"
    file.write_text(yaml.safe_dump(dict(found.config)))
    assert load_config(file, os.environ).models[0].model_id == entry["model_id"]
    (folder / "settings.json").write_text("[")
    with pytest.raises(BadSettings, match=r"settings\.json is not JSON"):
        LmStudio().read(folder, {}, tmp_path)
    (folder / "settings.json").write_text("[]")
    with pytest.raises(BadSettings, match="should hold an object"):
        LmStudio().read(folder, {}, tmp_path)
    with pytest.raises(BadSettings, match="no folder of LM Studio"):
        LmStudio().read(None, {}, tmp_path / "nowhere")
