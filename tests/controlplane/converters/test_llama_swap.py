"""llama-swap's config file as ours: by tables, and that no key of it is dropped."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from modelpool.config import load_config
from modelpool.converters.base import BadSettings, Conversion
from modelpool.converters.llama_swap.converter import LlamaSwap
from modelpool.converters.llama_swap.settings import Settings, converted

SERVER = "/opt/llama/llama-server"
ENVIRON = {"HOME": "/home/me", "MODELS": "/models", "TOKEN": "secret"}
WHOLE: dict[str, Any] = {
    "healthCheckTimeout": 500,
    "logLevel": "warn",
    "logTimeFormat": "kitchen",
    "logToStdout": "both",
    "logRequests": True,
    "metricsMaxInMemory": 500,
    "captureBuffer": 15,
    "store": {"path": "/x.sqlite"},
    "ui": {"activity": {"session_id": ["X-Session-ID"]}},
    "performance": {"every": "15s"},
    "startPort": 10001,
    "sendLoadingState": True,
    "includeAliasesInList": True,
    "globalTTL": 600,
    "unloadTimeout": 20,
    "macros": {"server": f"{SERVER} --port ${{PORT}}", "ctx": 4096, "args": "-c ${ctx} -np 2"},
    "apiKeys": ["${env.TOKEN}"],
    "upstream": {"ignorePaths": ["x"]},
    "profiles": {"coding": {"pins": {"llm": "file", "none": None}}},
    "selectors": {
        "best": {"strategy": "warm", "targets": ["file", "served"], "description": "d"},
        "one": {"strategy": "pin", "targets": ["file"], "metadata": {"a": 1}},
    },
    "models": {
        "file": {
            "macros": {"temp": 0.7},
            "cmd": "# it\n${server} \\\n -m ${env.MODELS}/m.gguf ${args} --temp ${temp}",
            "name": "A file",
            "description": "described",
            "env": ["CUDA_VISIBLE_DEVICES=0,1"],
            "ttl": 60,
            "aliases": ["gpt-4o-mini"],
            "concurrencyLimit": 3,
            "filters": {
                "stripParams": "top_k, temperature,model",
                "setParams": {"seed": 1},
                "setParamsByID": {"${MODEL_ID}": {"a": 1}, "${MODEL_ID}:high": {"b": 2}},
            },
            "metadata": {"port": "${PORT}", "ctx": "${ctx}"},
            "timeouts": {"connect": 1},
            "unlisted": True,
            "sendLoadingState": False,
            "compat": {"ignoreWebsockets": True},
            "capabilities": {"in": ["text", "image"], "out": ["text"], "tools": True, "context": 9},
            "useModelName": "x",
            "checkEndpoint": "/y",
            "unloadTimeout": 5,
        },
        "served": {
            "cmd": "docker run --name ${MODEL_ID} -p ${PORT}:8080 image '{{x}}' {y} '{\"a\": 1}'",
            "cmdStop": "docker stop ${MODEL_ID}",
            "proxy": "http://127.0.0.1:${PORT}/base",
            "env": ["HF_TOKEN=${env.TOKEN}"],
            "checkEndpoint": "none",
            "useModelName": "org/name",
            "unloadTimeout": 90,
        },
    },
    "hooks": {"on_startup": {"preload": ["gpt-4o-mini", "nobody"]}},
    "routing": {
        "router": {
            "use": "group",
            "settings": {
                "groups": {"forever": {"persistent": True, "swap": False, "members": ["file"]}},
                "matrix": {"sets": {}},
            },
        },
        "scheduler": {"use": "fifo", "settings": {"fifo": {"priority": {"file": 5, "served": -1}}}},
    },
    "peers": {
        "open": {
            "proxy": "https://open.example/api",
            "apiKey": "${env.OPEN_KEY}",
            "models": ["meta/llama", "file"],
            "timeouts": {"connect": 3},
            "filters": {"setParams": {"provider": {"zdr": True}}},
        },
        "near": {"proxy": "http://127.0.0.1:9", "apiKey": "sk-open", "models": ["meta/other"]},
    },
}


def convert(document: dict[str, Any]) -> Conversion:
    return converted(Settings(document, Path("/etc/swap"), ENVIRON))


def model(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(m for m in convert(document).config["models"] if m["model_id"] == name)


def remarks(document: dict[str, Any]) -> str:
    return "\n".join(map(str, convert(document).remarks))


def of(cmd: str, **more: Any) -> dict[str, Any]:
    return {"models": {"m": {"cmd": cmd, **more}}}


def test_a_file_for_llama_server() -> None:
    assert model(WHOLE, "file") == {
        "model_id": "file",
        "engine": "gguf",
        "source": "${MODELS}/m.gguf".replace("${MODELS}", "/models"),
        "display_name": "A file",
        "aliases": ["gpt-4o-mini"],
        "ttl_minutes": 1,
        "concurrency_limit": 3,
        "metadata": {"port": "$${PORT}", "ctx": 4096, "description": "described"},
        "capabilities": ["chat", "completion", "vision", "tools"],
        "context_length": 9,
        "request": {
            "strip": ["temperature", "top_k"],
            "overrides": {"seed": 1},
            "defaults": {"a": 1},
        },
        "options": {"context_length": 2048, "parallel": 2, "temperature": 0.7},
        "devices": [0, 1],
        "warmup": True,
        "pinned": True,
        "priority": "high",
    }
    assert convert(WHOLE).config["llama_server"] == SERVER


def test_a_command() -> None:
    assert model(WHOLE, "served") == {
        "model_id": "served",
        "engine": "command",
        "source": "served",
        "options": {
            "command": [
                *("docker", "run", "--name", "served", "-p", "{port}:8080"),
                *("image", "{{{x}}}", "{{y}}", '{"a": 1}'),
            ],
            "ready_path": "",
            "environment": {"HF_TOKEN": "${TOKEN}"},
            "model_name": "org/name",
            "api": ["/v1/chat/completions", "/v1/completions"],
            "paths": {
                "/v1/chat/completions": "/base/v1/chat/completions",
                "/v1/completions": "/base/v1/completions",
            },
            "stop_command": ["docker", "stop", "served"],
            "stop_seconds": 60,
        },
        "priority": "low",
    }


def test_keys_of_the_file() -> None:
    config = convert(WHOLE).config
    assert config["default_ttl_minutes"] == 10
    assert (config["min_ttl_minutes"], config["load_wait_seconds"]) == (1, 500)
    assert (config["log_level"], config["request_log_entries"]) == ("warning", 500)
    assert list(config)[-3:] == ["providers", "models", "virtual_models"]
    assert config["providers"]["open"] == {
        "base_url": "https://open.example/api/v1",
        "api_key_variable": "OPEN_KEY",
        "models": ["meta/llama", "file"],
    }
    assert "api_key_variable" not in config["providers"]["near"]
    names = config["virtual_models"]
    assert names["best"] == {
        "kind": "fallback",
        "targets": ["file", "served"],
        "description": "d",
    }
    assert names["one"] == {"kind": "alias", "target": "file"}
    assert names["file:high"]["request"] == {"overrides": {"b": 2}}
    rules = {"overrides": {"provider": {"zdr": True}}}
    assert (
        names["open/meta/llama"]
        == names["meta/llama"]
        == {
            "kind": "alias",
            "target": "open:meta/llama",
            "request": rules,
        }
    )
    # The file's own model has that name.
    assert "open/file" in names
    assert "file" not in names


def keys(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The way to each key of a mapping in a mapping."""
    for key, inner in value.items():
        yield (*path, key)
        if isinstance(inner, dict):
            yield from keys(inner, (*path, key))


NEEDED = {("models",), ("models", "file", "cmd"), ("models", "served", "cmd"), ("macros", "ctx")}
# What is there in any case, and what says the same as nothing at all.
SAME = {
    ("routing", "router", "use"),
    ("routing", "scheduler", "use"),
    ("routing", "router", "settings", "groups", "forever", "members"),
    ("routing", "router", "settings", "matrix", "sets"),
}


@pytest.mark.parametrize("path", list(keys(WHOLE)), ids=".".join)
def test_no_key_is_dropped_without_a_word(path: tuple[str, ...]) -> None:
    """Without it either the result is another, or the file is none."""
    less = copy.deepcopy(WHOLE)
    inner = less
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    try:
        changed = convert(less) != convert(WHOLE)
    except BadSettings:
        return
    named = any(part in str(r) for r in convert(WHOLE).remarks for part in path[-1:])
    above = any(
        r.setting.split(".")[:n] == list(path[:n])
        for n in range(1, len(path))
        for r in convert(WHOLE).remarks
        if len(r.setting.split(".")) == n
    )
    assert changed or named or above or path in SAME


def test_an_unknown_key_is_told() -> None:
    told = remarks({**of("x", novel=1), "other": 2})
    assert "models.m.novel: is no key that this converter knows" in told
    assert "other: is no key that this converter knows" in told


@pytest.mark.parametrize(
    ("command", "source"),
    [
        ("/opt/x/python3.11 -m my.server --port ${PORT}", "m"),
        ("python3 -m my.server --model org/name --port ${PORT}", "org/name"),
        ("my-server -m /m.bin --port ${PORT}", "/m.bin"),
    ],
)
def test_a_module_of_python_is_no_file_of_a_model(command: str, source: str) -> None:
    assert model({"models": {"m": {"cmd": command}}}, "m")["source"] == source


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({}, "it has no models"),
        ({"models": []}, "it has no models"),
        ({"models": [1]}, "models should be a mapping"),
        ({"models": {"m": 1}}, "models.m should be a mapping"),
        ({"models": {"m": {}}}, "models.m has no cmd"),
        (of("a 'b"), "cannot be split"),
        (of("a ${b}"), "models.m.cmd has \\${b}, which is no macro"),
        ({**of("${a}"), "macros": {"a": "${b}", "b": "${a}"}}, "name each other"),
        (of("${env.NOBODY} x"), "environment variable NOBODY, which is not set"),
        (of("x", ttl="soon"), "models.m.ttl should be a number"),
        (of("x", env=["A"]), "should be a list of NAME=VALUE"),
        (of("x", proxy="http://127.0.0.1:x"), "no port that can be one"),
        ({**of("x"), "globalTTL": -1}, "globalTTL should be a number"),
        ({**of("x"), "logLevel": "loud"}, "logLevel should be"),
        ({**of("x"), "selectors": {"s": {"strategy": "x", "targets": ["m"]}}}, "which is none"),
        (
            {**of("x"), "routing": {"scheduler": {"settings": {"fifo": {"priority": {"n": 1}}}}}},
            "names n, which is no model",
        ),
    ],
)
def test_what_llama_swap_would_refuse_is_refused(document: dict[str, Any], why: str) -> None:
    with pytest.raises(BadSettings, match=why):
        convert(document)


STAYS = f"{SERVER} -m /m.gguf"


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (of(f"{STAYS} -ot a=CPU"), "its -ot is no option"),
        (of(STAYS, env=["GGML_X=1"]), "its env sets GGML_X"),
        (
            of(STAYS, env=["CUDA_VISIBLE_DEVICES=GPU-1"]),
            "its CUDA_VISIBLE_DEVICES names devices otherwise",
        ),
        (of(STAYS, cmdStop="x"), "it has a cmdStop"),
        (of(STAYS, proxy="http://localhost:${PORT}/x"), "its proxy is /x"),
    ],
)
def test_a_command_that_says_more_than_options_can_stays_one(
    document: dict[str, Any], why: str
) -> None:
    entry = model(document, "m")
    assert (entry["engine"], entry["source"]) == ("command", "/m.gguf")
    assert f"models.m.cmd: stays a command: {why}" in remarks(document)
    assert "llama_server" not in convert(document).config


def test_the_program_that_most_run_is_the_engine() -> None:
    models = {
        "a": {"cmd": "/a/llama-server -m /1"},
        "b": {"cmd": "/b/llama-server -m /2"},
        "c": {"cmd": "/b/llama-server -m three"},
    }
    config = convert({"models": models}).config
    assert config["llama_server"] == "/b/llama-server"
    assert [m["engine"] for m in config["models"]] == ["command", "gguf", "gguf"]
    assert config["models"][2]["source"] == "/etc/swap/three"
    assert "models.c.cmd: three was taken as a path from the config file's folder" in remarks(
        {"models": models}
    )


def test_a_server_elsewhere_is_left_out_and_told() -> None:
    document = of("sleep", proxy="http://192.168.1.5:1")
    assert convert(document).config["models"] == []
    assert "another machine" in remarks(document)


@pytest.mark.parametrize(
    ("cmd", "more", "api"),
    [
        ("x", {}, ["/v1/chat/completions", "/v1/completions"]),
        ("x", {"capabilities": {"reranker": True}}, ["/v1/rerank"]),
        ("x", {"capabilities": {"out": ["audio"]}}, ["/v1/audio/speech"]),
        ("/w/whisper-server -m x", {}, ["/v1/audio/transcriptions"]),
        ("sd-server", {}, ["/v1/images/generations"]),
        ("llama-server -hf x --embedding", {}, ["/v1/embeddings"]),
    ],
)
def test_what_a_command_answers(cmd: str, more: dict[str, Any], api: list[str]) -> None:
    assert model(of(cmd, **more), "m")["options"]["api"] == api


def read(path: Path) -> dict[str, Any]:
    return dict(LlamaSwap().read(path, {}, path).document)


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="cannot be read"):
        read(tmp_path / "config.yml")
    with pytest.raises(BadSettings, match=r"holds no file \*\.yaml or \*\.yml"):
        read(tmp_path)
    (tmp_path / "config.yml").write_text("a: [")
    for path in (tmp_path, tmp_path / "config.yml"):
        with pytest.raises(BadSettings, match=r"config\.yml is not valid"):
            read(path)


def test_a_variable_may_stand_in_brackets(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text('apiKeys: [${env.A}, "${env.B}"]\nmodels: {"${env.C}": {cmd: ${env.D} x}}')
    assert read(file) == {
        "apiKeys": ["${env.A}", "${env.B}"],
        "models": {"${env.C}": {"cmd": "${env.D} x"}},
    }


def files(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_the_files_of_a_folder_are_put_together(tmp_path: Path) -> None:
    first = "models: {a: {cmd: x}}\nmacros: {one: 1}\napiKeys: [k]\nglobalTTL: 9\nhooks:"
    last = "hooks: {on_startup: {preload: [b]}}\nrouting: {router: {use: group}}"
    files(tmp_path, c=last, a=first, b="")
    (tmp_path / "b.yml").write_text("models: {b: {cmd: y}}\nmacros: {two: 2}\napiKeys: [l]")
    (tmp_path / "notes.txt").write_text("no: [")
    (tmp_path / "more.yaml").mkdir()
    assert read(tmp_path) == {
        "models": {"a": {"cmd": "x"}, "b": {"cmd": "y"}},
        "macros": {"one": 1, "two": 2},
        "apiKeys": ["k", "l"],
        "globalTTL": 9,
        "hooks": {"on_startup": {"preload": ["b"]}},
        "routing": {"router": {"use": "group"}},
    }


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ("models: {a: {cmd: x}}", "models: {a: {cmd: x}}", r"b\.yaml has models\.a, which another"),
        ("peers: {p: {}}", "peers: {p: {}}", r"has peers\.p"),
        ("globalTTL: 1", "globalTTL: 2", "says of globalTTL what another file"),
        ("startPort: 1", "startPort: [1]", "says of startPort"),
        (
            "routing: {router: {settings: {groups: {g: {members: [a]}}}}}",
            "routing: {router: {settings: {groups: {g: {members: [b]}}}}}",
            r"has routing\.router\.settings\.groups\.g",
        ),
    ],
)
def test_files_that_do_not_go_together(tmp_path: Path, one: str, other: str, told: str) -> None:
    with pytest.raises(BadSettings, match=told):
        read(files(tmp_path, a=one, b=other))


def test_what_comes_out_is_a_configuration(tmp_path: Path) -> None:
    file = tmp_path / "pool.yaml"
    file.write_text(yaml.safe_dump(dict(convert(WHOLE).config), sort_keys=False))
    environ = {**os.environ, **ENVIRON, "OPEN_KEY": "k"}
    config = load_config(file, environ)
    assert {m.model_id for m in config.models} >= {"file", "served", "open", "open:meta/llama"}
