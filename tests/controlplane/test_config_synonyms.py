"""Keys and variables of other programs: each is one of ours, or said to have no effect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from modelpool.catalog.parse import parse_model
from modelpool.config import ConfigError, PoolConfig, load_config
from modelpool.config_synonyms import BORROWED, SYNONYMS, WITHOUT_EFFECT

# What the documents that the project follows write, and what it is here; None: no effect.
KEYS: dict[str, tuple[Any, str | None, Any]] = {
    "pool_config.max_memory_gb": (16.5, "memory_limit_mb", 16_500),
    "pool_config.max_concurrent_models": (3, "max_concurrent_models", 3),
    "pool_config.eviction_policy": ("lru", "eviction_policy", "lru"),
    "pool_config.enable_warmup": (True, None, None),
    "pool_config.enable_speculative_loading": (True, "enable_speculative_loading", True),
    "pool_config.preload_threshold": (12, "preload_threshold", 12),
    "parallel_engine.batch_config.strategy": ("latency_aware", None, None),
    "parallel_engine.batch_config.max_batch_size": (32, None, None),
    "parallel_engine.batch_config.batch_timeout_ms": (100, None, None),
    "parallel_engine.batch_config.target_latency_ms": (200, None, None),
    "parallel_engine.resource_pool.max_workers": (4, None, None),
    "parallel_engine.resource_pool.max_memory_gb": (16.0, None, None),
    "parallel_engine.resource_pool.enable_adaptive": (True, None, None),
    "registry.auto_discover": (False, "watch_discovery_paths", False),
    "registry.auto_discover_models": (False, "watch_discovery_paths", False),
    "registry.sync_strategy": ("event_driven", None, None),
    "registry.discovery_interval": ("30s", "discovery_interval_seconds", 30),
    "registry.health_check_interval": ("500ms", "beat_seconds", 0.5),
    "registry.cache_ttl": ("1h", None, None),
    "max_memory_gb": (8, "memory_limit_mb", 8000),
    "maxLoadedModels": (10, "max_concurrent_models", 10),
    "preload_models": (["m"], "warmup_models", ("m",)),
    "enable_warmup": (True, None, None),
    "backends.ollama.endpoint": ("http://localhost:1", "ollama_base_url", "http://localhost:1"),
    "backends.ollama.endpoints": (["http://a:1"], "ollama_base_urls", ("http://a:1",)),
    "backends.ollama.models": (["gemma3:4b"], None, None),
    "backends.ollama.timeout_ms": (30_000, None, None),
    "backends.coreml.compute_units": ("all", None, None),
    "backends.coreml.cache_dir": ("/tmp/c", None, None),
    "backends.openai.api_key": ("k", None, None),
    "ollama.endpoint": ("http://localhost:1", "ollama_base_url", "http://localhost:1"),
    "ollama.models": ([{"name": "gemma3:4b"}], None, None),
    "coreml.compute_units": ("all", None, None),
    "coreml.model_cache_dir": ("/tmp/c", None, None),
    "coreml.models": ([{"name": "x"}], None, None),
    "hot_swap.enabled": (True, None, None),
    "hot_swap.grace_period_ms": (30_000, None, None),
    "hot_swap.validation_timeout_ms": (5000, None, None),
    "monitoring.metrics_interval": ("5s", None, None),
    "monitoring.health_check_interval": ("2m", "check_interval_seconds", 120),
    "monitoring.alert_thresholds.error_rate": (0.05, None, None),
    "monitoring.alert_thresholds.latency_p95_ms": (2000, None, None),
    "defaultProvider": ("openai", None, None),
    "autoLoadDefault": (True, None, None),
    "enablePersistence": (True, None, None),
    "persistencePath": ("./data/state.json", None, None),
    "enablePerformanceTracking": (True, None, None),
    "enableAutoSwitch": (False, None, None),
    "autoSwitchThreshold": (0.7, None, None),
    "autoSaveInterval": (30_000, None, None),
}
# How auto chooses: of theirs, and of ours.
CHOICE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "routing": (
        {"strategy": "balanced", "default_model": "m", "complexity_mapping": {"trivial": "t"}},
        {"strategy": "balanced", "default_model": "m", "complexity_mapping": {"trivial": "t"}},
    ),
    "selection": (
        {
            "algorithm": "multi_criteria",
            "weights": {"performance": 0.4, "cost": 0.3, "reliability": 0.2, "capabilities": 0.1},
            "constraints": {"max_latency_ms": 5000, "max_cost_per_request": 0.01},
        },
        {
            "weights": {"performance": 0.4, "cost": 0.3, "reliability": 0.2, "capabilities": 0.1},
            "constraints": {"max_latency_ms": 5000, "max_cost_per_request": 0.01},
        },
    ),
}
VARIABLES: dict[str, tuple[str, str | None, Any]] = {
    "MODEL_MANAGER_MAX_LOADED": ("9", "max_concurrent_models", 9),
    "MODEL_MANAGER_PERSISTENCE_PATH": ("./data/state.json", None, None),
    "MODEL_MANAGER_AUTO_LOAD_DEFAULT": ("true", None, None),
    "MODEL_MANAGER_ENABLE_PERFORMANCE_TRACKING": ("true", None, None),
    "EXTERNAL_MODELS_DIR": ("/models", "external_models_dir", "/models"),
    "ENABLE_GGUF_MODELS": ("false", "enable_gguf_models", False),
    "ENABLE_SMART_SWITCHING": ("true", None, None),
    "MODEL_KEEPALIVE_MINUTES": ("20", "default_ttl_minutes", 20),
}


def nested(path: str, value: Any) -> dict[str, Any]:
    for key in reversed(path.split(".")):
        value = {key: value}
    return value  # type: ignore[no-any-return]


def load(folder: Path, data: Any, **environ: str) -> PoolConfig:
    file = folder / "pool.yaml"
    file.write_text(json.dumps(data), encoding="utf-8")
    return load_config(file, environ)


def wrong(folder: Path, data: Any, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, data, **environ)
    return str(caught.value)


@pytest.mark.parametrize("is_wrapped", [False, True])
@pytest.mark.parametrize("path", KEYS)
def test_each_key_of_theirs(tmp_path: Path, path: str, is_wrapped: bool) -> None:
    value, key, expected = KEYS[path]
    data = nested(path, value)
    config = load(tmp_path, {"model_system": data} if is_wrapped else data)
    shown = f"model_system.{path}" if is_wrapped else path
    remark = config.warnings[0]
    if key is None:
        named = remark.partition(" has no effect: ")[0]  # it, or the object that it stands in
        assert f"{shown}.".startswith(f"{named}.")
        assert config.as_dict() == load(tmp_path, {}).as_dict()
    else:
        assert remark == f"{shown} is understood as {key}"
        assert getattr(config, key) == expected


@pytest.mark.parametrize("is_wrapped", [False, True])
@pytest.mark.parametrize("key", CHOICE)
def test_how_auto_chooses(tmp_path: Path, key: str, is_wrapped: bool) -> None:
    said, expected = CHOICE[key]
    config = load(tmp_path, {"model_system": {key: said}} if is_wrapped else {key: said})
    assert config.routing == expected
    told = f"model_system.{key}" if is_wrapped else key
    assert config.warnings == (() if told == "routing" else (f"{told} is understood as routing",))


def test_both_say_a_part_of_how_auto_chooses(tmp_path: Path) -> None:
    said = {key: said for key, (said, _) in CHOICE.items()}
    config = load(tmp_path, said)
    assert config.routing == {**CHOICE["routing"][1], **CHOICE["selection"][1]}
    contradiction = {"routing": {"weights": {"cost": 1}}, "selection": {"weights": {"cost": 2}}}
    assert "selection contradicts routing" in wrong(tmp_path, contradiction)
    assert "weights.taste: is not known" in wrong(tmp_path, {"routing": {"weights": {"taste": 1}}})
    assert "auto stands for itself" in wrong(tmp_path, {"routing": {"default_model": "auto"}})
    assert "algorithm should be" in wrong(tmp_path, {"selection": {"algorithm": "luck"}})


def test_the_table_above_has_all_that_is_understood() -> None:
    paths = {*KEYS, *CHOICE, "registry.discovery_paths", "api_backends"}
    for path in SYNONYMS:
        assert any(p == path or p.startswith(f"{path}.") for p in paths), path
    assert VARIABLES.keys() == {*BORROWED, *WITHOUT_EFFECT}


@pytest.mark.parametrize("name", VARIABLES)
def test_each_variable_of_theirs(name: str) -> None:
    value, key, expected = VARIABLES[name]
    config = load_config(None, {name: value})
    if key is None:
        assert any(w.startswith(f"{name} has no effect: ") for w in config.warnings)
    else:
        assert getattr(config, key) == expected


def test_their_providers_are_ours(tmp_path: Path) -> None:
    model = {"name": "gpt-x", "context_window": 8000, "cost_per_token": 2e-6, "cost_per_image": 1}
    theirs = {"openai": {"api_key": "${MINE}", "models": [model, "gpt-y"]}, "claude": {}}
    config = load(tmp_path, {"api_backends": theirs}, MINE="sk-0123456789")
    assert config.warnings == ("api_backends is understood as providers",)
    provider = config.providers["openai"]
    assert provider.api_key_variable == "MINE"
    assert "anthropic" in config.providers
    ids = [m.model_id for m in config.models]
    assert ids == ["openai", "openai:gpt-x", "openai:gpt-y", "anthropic"]
    assert config.models[1].prices == {"input": 2.0, "output": 2.0, "image": 1.0}
    assert config.models[1].context_length == 8000


def test_a_key_in_the_file_is_left_out(tmp_path: Path) -> None:
    config = load(tmp_path, {"api_backends": {"openai": {"api_key": "sk-0123456789"}}})
    assert "api_backends.openai.api_key has no effect: " in config.warnings[0]
    assert "sk-0123" not in " ".join(config.warnings) + json.dumps(config.as_dict())


def test_what_is_wrong_with_their_providers(tmp_path: Path) -> None:
    text = wrong(tmp_path, {"api_backends": {"openai": {"speed": 1}}})
    assert "api_backends openai has speed, which is unknown" in text
    text = wrong(tmp_path, {"api_backends": {"openai": {"models": [{"name": "a", "b": 1}]}}})
    assert "api_backends openai has a model with b, which is unknown" in text
    text = wrong(tmp_path, {"providers": {"mine": {}}})
    assert "mine needs base_url" in text


def test_folders_are_relative_to_the_file(tmp_path: Path) -> None:
    config = load(tmp_path, {"registry": {"discovery_paths": ["/models", "mine", "~/m"]}})
    found = [p.path for p in config.discovery_paths]
    assert found == ["/models", str(tmp_path / "mine"), str(Path.home() / "m")]


def test_what_is_wrong_is_said_with_their_name(tmp_path: Path) -> None:
    text = wrong(tmp_path, {"pool_config": {"max_concurrent_models": "many"}})
    assert "pool.yaml, pool_config.max_concurrent_models: max_concurrent_models should be" in text
    text = wrong(
        tmp_path, {"pool_config": {"max_memory_gb": "much", "max_memory": 1}, "registry": 5}
    )
    assert "pool_config.max_memory_gb should be a number of GB" in text
    assert "pool_config.max_memory is unknown; did you mean max_memory_gb" in text
    assert "registry should be an object with auto_discover, " in text
    text = wrong(tmp_path, {"registry": {"discovery_interval": "soon"}, "model_system": []})
    assert "registry.discovery_interval should be a number of seconds, or one with a unit" in text
    assert "model_system should be an object" in text


def test_two_names_of_one_key_must_agree(tmp_path: Path) -> None:
    data: dict[str, Any] = {"max_concurrent_models": 3, "maxLoadedModels": 3}
    assert load(tmp_path, data).max_concurrent_models == 3
    text = wrong(tmp_path, data | {"pool_config": {"max_concurrent_models": 4}})
    assert "pool_config.max_concurrent_models contradicts max_concurrent_models" in text


def test_values_from_variables_stay_hidden(tmp_path: Path) -> None:
    data = {"backends": {"ollama": {"endpoint": "http://${HOST_NAME}:1"}}}
    config = load(tmp_path, data, HOST_NAME="secret.example")
    assert config.ollama_base_url == "http://secret.example:1"
    assert config.as_dict()["ollama_base_url"] == "http://${HOST_NAME}:1"
    text = wrong(tmp_path, {"max_memory_gb": "${GB}"}, GB="16")
    assert "max_memory_gb cannot come from a variable; memory_limit_mb can" in text


def test_a_whole_file_of_theirs_makes_a_pool(tmp_path: Path) -> None:
    whole: dict[str, Any] = {}
    for path, (value, _, _) in KEYS.items():
        at = whole
        *parents, last = path.split(".")
        for key in parents:
            at = at.setdefault(key, {})
        at[last] = value
    for twin in ("max_memory_gb", "maxLoadedModels"):
        del whole[twin]
    whole |= {key: said for key, (said, _) in CHOICE.items()}
    whole["api_backends"] = {"openai": {"api_key": "k", "models": [{"name": "gpt-4-turbo"}]}}
    config = load(tmp_path, whole)
    assert (config.memory_limit_mb, config.max_concurrent_models) == (16_500, 3)
    again = load(tmp_path, config.as_file())
    assert again.as_dict() == config.as_dict()
    assert not any("has no effect" in w or "understood as" in w for w in again.warnings)


# -- entries of models ----------------------------------------------------------------------------

ENTRY_KEYS: dict[str, tuple[Any, str, Any]] = {
    "model_name": ("M", "display_name", "M"),
    "display_name": ("M", "display_name", "M"),
    "displayName": ("M", "display_name", "M"),
    "memory_gb": (4.5, "memory_mb", 4500),
    "memory_usage_mb": (512, "memory_mb", 512),
    "context_length": (8192, "context_length", 8192),
    "contextWindow": (8192, "context_length", 8192),
    "context_window": (8192, "context_length", 8192),
    "quantization": ("4bit", "quantization", "4bit"),
    "model_type": ("code", "model_type", "code"),
    "tags": (["t"], "tags", ("t",)),
    "capabilities": (["chat"], "capabilities", ("chat",)),
    "priority": ("high", "priority", "high"),
    "ttl_minutes": (0, "ttl_minutes", 0),
    "warmup": (True, "warmup", True),
}
METADATA: dict[str, Any] = {
    "repository": "reactor",
    "cost_per_token": 0.00003,
    "cost_per_image": 0.04,
    "performance_profile": {"tokens_per_second": 150, "cold_start_time_ms": 2000},
    "input_shape": [1, 3, 224, 224],
    "output_shape": [1, 1000],
    "input_schema": {"type": "object"},
    "output_schema": {"type": "object"},
    "resource_requirements": {"memory_mb": 1},
    "last_updated": "2025-11-11",
}


@pytest.mark.parametrize("key", ENTRY_KEYS)
def test_each_key_of_an_entry(key: str) -> None:
    value, ours, expected = ENTRY_KEYS[key]
    model = parse_model({"model_id": "m", "engine": "fake", "source": "x", key: value})
    assert getattr(model, ours) == expected


@pytest.mark.parametrize("key", METADATA)
def test_each_key_of_an_entry_that_is_kept(key: str) -> None:
    model = parse_model({"model_id": "m", "engine": "fake", "source": "x", key: METADATA[key]})
    assert model.metadata == {key: METADATA[key]}


@pytest.mark.parametrize("key", ["model_id", "id", "name"])
@pytest.mark.parametrize("place", ["source", "path", "local_path", "model_path", "hf_model_id"])
def test_each_name_of_id_and_source(key: str, place: str) -> None:
    model = parse_model({key: "m", place: "owner/repo", "engine": "fake"})
    assert (model.model_id, model.source) == ("m", "owner/repo")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("gguf", "auto"),
        ("GGUF", "auto"),
        ("llama.cpp", "llama.cpp"),
        ("TRANSFORMERS", "transformers"),
        ("MLX", "mlx"),
        ("ONNX", "onnx"),
        ("VLLM", "vllm"),
        ("claude", "anthropic"),
        ("openai", "openai"),
    ],
)
@pytest.mark.parametrize("key", ["backend", "provider", "engine"])
def test_each_name_of_an_engine(key: str, theirs: str, ours: str) -> None:
    assert parse_model({"model_id": "m", "source": "/x", key: theirs}).engine == ours
