"""Ollama's variables as ours, by tables; where they are read from; the store's models."""

from __future__ import annotations

import contextlib
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
from modelpool.converters.ollama.converter import Ollama
from modelpool.converters.ollama.settings import (
    _VARIABLES,
    WITHOUT_EFFECT,
    Settings,
    Variable,
    converted,
    duration,
)
from modelpool.converters.ollama.units import NoVariables, variables_in
from support.model_tree import gguf

BASE = {"ollama_port": 11434, "discovery_paths": [{"source": "ollama"}]}
STORED = Found(
    "llama3.2:3b",
    "/blobs/sha256-1",
    {"temperature": 0.5},
    ("mine:latest",),
    {"defaults": {"stop": ["${x}"]}},
)


def convert(models: tuple[Found, ...] = (), **variables: str) -> Conversion:
    said = {name: Variable(value, "x") for name, value in variables.items()}
    return converted(Settings(said, models, "/store"))


@pytest.mark.parametrize(
    ("name", "value", "config"),
    [
        ("OLLAMA_HOST", "127.0.0.1:9999", {"ollama_port": 9999}),
        ("OLLAMA_HOST", "http://localhost:8888/", {"ollama_port": 8888}),
        ("OLLAMA_HOST", "0.0.0.0", {}),
        ("OLLAMA_MODELS", "/m", {"discovery_paths": [{"source": "ollama", "path": "/m"}]}),
        ("OLLAMA_KEEP_ALIVE", "10m", {"default_ttl_minutes": 10}),
        ("OLLAMA_KEEP_ALIVE", "24h", {"default_ttl_minutes": 1440, "max_ttl_minutes": 1440}),
        ("OLLAMA_KEEP_ALIVE", "90", {"default_ttl_minutes": 1.5, "min_ttl_minutes": 1.5}),
        ("OLLAMA_KEEP_ALIVE", "-1", {"default_ttl_minutes": 0}),
        ("OLLAMA_KEEP_ALIVE", "-1m", {"default_ttl_minutes": 0}),
        (
            "OLLAMA_KEEP_ALIVE",
            "0",
            {"grace_minutes": 0, "default_ttl_minutes": 0.1, "min_ttl_minutes": 0.1},
        ),
        ("OLLAMA_LOAD_TIMEOUT", "5m", {"load_stall_seconds": 300}),
        ("OLLAMA_LOAD_TIMEOUT", "0", {}),
        ("OLLAMA_MAX_LOADED_MODELS", "3", {"max_concurrent_models": 3}),
        ("OLLAMA_MAX_LOADED_MODELS", "0", {}),
        ("OLLAMA_MAX_QUEUE", "512", {"max_waiting_requests": 512}),
        ("OLLAMA_DEBUG", "1", {"log_level": "debug"}),
        ("OLLAMA_DEBUG", "2", {"log_level": "debug"}),
        ("OLLAMA_DEBUG", "false", {}),
        ("OLLAMA_ORIGINS", "https://a.example, what", {"allowed_origins": ["https://a.example"]}),
        ("OLLAMA_NOPRUNE", "1", {}),
        ("OLLAMA_NOVEL", "1", {}),
    ],
)
def test_a_variable(name: str, value: str, config: dict[str, Any]) -> None:
    found = convert(**{name: value})
    assert found.config == {**BASE, **config}
    if found.config == BASE and name != "OLLAMA_DEBUG":
        assert any(r.setting == name for r in found.remarks)


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        ({"OLLAMA_NUM_PARALLEL": "4"}, {"parallel": 4}),
        ({"OLLAMA_CONTEXT_LENGTH": "8192"}, {"context_length": 8192, "parallel": 1}),
        ({"OLLAMA_KV_CACHE_TYPE": "q8_0"}, {"cache_type_k": "q8_0", "cache_type_v": "q8_0"}),
        ({"OLLAMA_FLASH_ATTENTION": "1"}, {"flash_attention": "on"}),
    ],
)
def test_what_is_said_of_every_model(variables: dict[str, str], options: dict[str, Any]) -> None:
    found = convert((STORED,), **variables)
    assert found.config["models"] == [
        {
            "model_id": "llama3.2:3b",
            "engine": "gguf",
            "source": "/blobs/sha256-1",
            "aliases": ["mine:latest"],
            "options": {**options, "temperature": 0.5},
            "request": {"defaults": {"stop": ["$${x}"]}},
        }
    ]
    assert any("models that come later" in r.text for r in found.remarks)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OLLAMA_HOST", "127.0.0.1:99999"),
        ("OLLAMA_MODELS", "relative"),
        ("OLLAMA_KEEP_ALIVE", "soon"),
        ("OLLAMA_MAX_QUEUE", "-3"),
        ("OLLAMA_KV_CACHE_TYPE", "q2"),
        ("OLLAMA_FLASH_ATTENTION", "maybe"),
        ("OLLAMA_DEBUG", "maybe"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(name: str, value: str) -> None:
    with pytest.raises(BadSettings, match=name):
        convert(**{name: value})


@given(st.sampled_from([*_VARIABLES, *WITHOUT_EFFECT, "OLLAMA_X"]), st.text(max_size=8))
def test_any_value_is_carried_over_told_or_refused(name: str, value: str) -> None:
    try:
        found = convert(**{name: value})
    except BadSettings:
        return
    says_off = name == "OLLAMA_DEBUG" or not value.strip()
    assert found.config != BASE or any(r.setting == name for r in found.remarks) or says_off


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("5m", 300), ("1h30m", 5400), ("1.5h", 5400), ("300", 300), ("-1", -1), ("-5m", -300)),
        *(("500ms", 0.5), ("0", 0), ("", None), ("5", 5), ("m", None), ("5 m", None), ("5d", None)),
    ],
)
def test_durations_are_those_of_go(text: str, seconds: float | None) -> None:
    if seconds is None:
        with pytest.raises(ValueError, match="is no duration"):
            duration(text)
    else:
        assert duration(text) == seconds


UNIT = """[Service]
# Environment="OLLAMA_COMMENTED=1"
Environment="OLLAMA_HOST=0.0.0.0" OLLAMA_DEBUG=1
Environment = "OLLAMA_KEEP_ALIVE=24h"
ExecStart=/usr/local/bin/ollama serve
"""
PLIST = """<?xml version="1.0" encoding="UTF-8"?>
<plist version="1.0"><dict><key>EnvironmentVariables</key><dict>
<key>OLLAMA_FLASH_ATTENTION</key><string>1</string></dict></dict></plist>"""


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        (
            "override.conf",
            UNIT,
            {"OLLAMA_HOST": "0.0.0.0", "OLLAMA_DEBUG": "1", "OLLAMA_KEEP_ALIVE": "24h"},
        ),
        ("x.conf", "Environment=A=1\nEnvironment=\nEnvironment=B=2", {"B": "2"}),
        ("x.service", "Environment=A=1 \\\n B=2", {"A": "1", "B": "2"}),
        ("ollama.env", "# c\nexport A='x y'\nB=\"2\"\n\nC=", {"A": "x y", "B": "2", "C": ""}),
        ("homebrew.mxcl.ollama.plist", PLIST, {"OLLAMA_FLASH_ATTENTION": "1"}),
    ],
)
def test_where_variables_are_set(name: str, text: str, found: dict[str, str]) -> None:
    assert variables_in(text, name) == found


@pytest.mark.parametrize(
    ("name", "text"),
    [("x.conf", "Environment='A"), ("x.env", "what is this"), ("x.plist", "none"), ("y.plist", "")],
)
def test_a_file_that_sets_none_is_told(name: str, text: str) -> None:
    with pytest.raises(NoVariables):
        variables_in(text, name)


@given(st.text(), st.sampled_from(["a.conf", "a.env", "a.plist"]))
def test_any_text_is_read_or_refused(text: str, name: str) -> None:
    with contextlib.suppress(NoVariables):
        assert all(isinstance(value, str) for value in variables_in(text, name).values())


def layer(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": digest, "size": size}


def store(folder: Path) -> Path:
    """With one model of two tags, a parameter and no more."""
    (folder / "blobs").mkdir(parents=True)
    weights, params = gguf("stored"), json.dumps({"temperature": 0.25}).encode()
    (folder / "blobs" / "sha256-aa").write_bytes(weights)
    (folder / "blobs" / "sha256-bb").write_bytes(params)
    layers = [layer("model", "sha256:aa", len(weights)), layer("params", "sha256:bb", len(params))]
    tags = folder / "manifests" / "registry.ollama.ai" / "library" / "stored"
    tags.mkdir(parents=True)
    for tag in ("1b", "latest"):
        (tags / tag).write_text(json.dumps({"layers": layers}))
    return folder


def test_units_overrides_environment_and_store_are_read_in_this_order(tmp_path: Path) -> None:
    home, units = tmp_path / "home", tmp_path / "units"
    models = store(tmp_path / "store")
    (units / "ollama.service.d").mkdir(parents=True)
    (units / "ollama.service").write_text("Environment=OLLAMA_DEBUG=1 OLLAMA_NUM_PARALLEL=8")
    (units / "ollama.service.d" / "override.conf").write_text(
        f"Environment=OLLAMA_MODELS={models} OLLAMA_NUM_PARALLEL=2"
    )
    converter = Ollama(units=(tmp_path / "none", units))
    settings = converter.read(None, {"OLLAMA_DEBUG": "0", "PATH": "/bin"}, home)
    assert {n: v.value for n, v in settings.variables.items()} == {
        "OLLAMA_DEBUG": "0",
        "OLLAMA_MODELS": str(models),
        "OLLAMA_NUM_PARALLEL": "2",
    }
    found = converter.convert(settings)
    (entry,) = found.config["models"]
    assert (entry["model_id"], entry["aliases"]) == ("stored:1b", ["stored:latest"])
    assert entry["options"] == {"parallel": 2, "temperature": 0.25}
    file = tmp_path / "pool.yaml"
    file.write_text(yaml.safe_dump(dict(found.config)))
    assert load_config(file, os.environ).models[0].model_id == "stored:1b"


def test_nothing_of_ollama_is_told(tmp_path: Path) -> None:
    converter = Ollama(units=())
    with pytest.raises(BadSettings, match="cannot be read"):
        converter.read(tmp_path / "none.conf", {}, tmp_path)
    if not Path("/usr/share/ollama/.ollama/models").exists():
        with pytest.raises(BadSettings, match="nothing of Ollama here"):
            converter.read(None, {}, tmp_path)
