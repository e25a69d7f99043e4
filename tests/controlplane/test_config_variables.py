"""``${NAME}`` in the config file: the variable is in force, and its value is never shown."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.app import Running, running
from modelpool.catalog.variables import fill, plain, template
from modelpool.config import (
    STOP_KEYS,
    ConfigError,
    PoolConfig,
    json_schema,
    load_config,
    patched,
    reloaded,
)
from modelpool.engines import check_models
from modelpool.reload import reload_config
from support.in_process import client_of

SECRET = "hunter2-and-more"


def load(folder: Path, text: str, **environ: str) -> PoolConfig:
    file = folder / "pool.yaml"
    file.write_text(text, encoding="utf-8")
    return load_config(file, environ, check=check_models)


def wrong(folder: Path, text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, **environ)
    shown = str(caught.value)
    assert not [v for v in environ.values() if len(v) > 3 and v in shown], shown
    return [str(e).replace(f"{folder}/", "") for e in caught.value.errors]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}", "one"),
        ("x${A}y${A}z", "xoneyonez"),
        ("${EMPTY}", ""),
        ("${EMPTY:-b}", "b"),
        ("${NONE:-}", ""),
        ("${NONE:-a b:-c}", "a b:-c"),
        ("${A:-b}", "one"),
        ("$${A}", "${A}"),
        ("$${A} ${A}", "${A} one"),
        ("$$${A}", "$${A}"),
        ("$A $ {A} $$ $", "$A $ {A} $$ $"),
    ],
)
def test_what_is_filled_in(text: str, value: str) -> None:
    assert fill(text, {"A": "one", "EMPTY": ""}) == value


@given(st.text())
def test_an_escaped_text_is_itself(text: str) -> None:
    assert fill(template(text), {}) == text


@pytest.mark.parametrize("text", ["${", "${}", "${1}", "${A", "${A-b}", "${A:b}", "${A:-${B}}"])
def test_what_is_no_variable(tmp_path: Path, text: str) -> None:
    (line,) = wrong(tmp_path, json.dumps({"ollama_base_url": text}), A="one", B="two")
    assert line.startswith("pool.yaml: ollama_base_url has '${")
    assert "write ${NAME} or ${NAME:-default}, or $${" in line


def test_wherever_a_value_stands(tmp_path: Path) -> None:
    text = """
        port: ${PORT}
        port_range: {start: "${FIRST}", end: 9000}
        auto_unload: ${AUTO}
        grace_minutes: ${GRACE:-0.5}
        log_level: ${LEVEL}
        memory_limit_mb: ${MEMORY}
        device_memory_mb: {"cuda:0": "${DEVICE}"}
        state_dir: ${STATE}/pool
        warmup_models: ["${NAME}"]
        max_ttl_minutes: ${MOST}
        registrars: [{kind: "${KIND}", ttl_seconds: "${SECONDS}"}]
        models:
          - id: ${NAME}
            engine: ${ENGINE}
            path: ${FOLDER}/x
            ttl_minutes: ${TTL}
            memory_gb: ${GB}
            pinned: ${YES}
            tags: ["${TAG}", b]
            schedule: [{cron: "${CRON}", action: load}]
            metadata: {deep: [{er: "${SECRET}"}]}
            options: {tokens: "${TOKENS}", reply: "${REPLY}", garbage: "${YES}"}
    """
    config = load(
        tmp_path,
        text,
        PORT="8960",
        FIRST="8961",
        AUTO="false",
        LEVEL="debug",
        MEMORY="1000",
        DEVICE="7",
        STATE="/var/x",
        NAME="m",
        MOST="100",
        KIND="etcd",
        SECONDS="9",
        ENGINE="fake",
        FOLDER="/models",
        TTL="90",
        GB="0.5",
        YES="true",
        TAG="a",
        CRON="0 8 * * *",
        SECRET=SECRET,
        TOKENS="3",
        REPLY="42",
    )
    assert (config.port, config.port_range.start, config.auto_unload) == (8960, 8961, False)
    assert (config.grace_minutes, config.log_level) == (0.5, "debug")
    assert (config.memory_limit_mb, config.device_memory_mb) == (1000, {"cuda:0": 7})
    assert (config.state_dir, config.warmup_models) == (Path("/var/x/pool"), ("m",))
    assert (config.registrars[0].kind, config.registrars[0].ttl_seconds) == ("etcd", 9)
    (model,) = config.models
    assert (model.model_id, model.engine, model.source) == ("m", "fake", "/models/x")
    assert (model.ttl_minutes, model.memory_mb, model.pinned) == (90, 500, True)
    assert (model.tags, model.metadata) == (("a", "b"), {"deep": [{"er": SECRET}]})
    assert model.options == {"tokens": 3, "reply": "42", "garbage": True}
    for value in (*model.options.values(), *model.tags, model.memory_mb, config.port):
        assert type(value) in (int, float, str, bool), "nothing of the marks is left"


def test_what_is_not_set_is_named_with_key_file_and_variable(tmp_path: Path) -> None:
    text = """
        port: ${PORT}
        registrars: [{kind: http, url: "${URL}"}]
        models: [{id: a, engine: fake, path: x, options: {tokens: "${TOKENS}"}}]
        warmup_models: [a, "${NAME}"]
    """
    assert wrong(tmp_path, text) == [
        f"pool.yaml: {key} names the environment variable {name}, which is not set:"
        f" set it, or give a default, ${{{name}:-default}}"
        for key, name in (
            ("port", "PORT"),
            ("registrars[0].url", "URL"),
            ("models[0].options.tokens", "TOKENS"),
            ("warmup_models[1]", "NAME"),
        )
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port: ${X}", "port should be a whole number, not '${X}'"),
        ("port: 1${X}", "port should be a whole number, not '1${X}'"),
        ("auto_unload: ${X}", "auto_unload should be true or false, not '${X}'"),
        (
            "log_level: ${X}",
            "log_level should be 'debug', 'info', 'warning' or 'error'",
        ),
        ("host: ${X}", "host only loopback"),
        ('port_range: "${X}"', "port_range should be an object with start and end"),
        ('device_memory_mb: {"cuda:0": "${X}"}', "device_memory_mb.cuda:0 should be a whole"),
        ('registrars: ["${X}"]', "registrars[0] should be an object"),
        ('registrars: [{kind: "${X}"}]', "registrars[0].kind is no kind of registrar"),
        ('registrars: [{kind: http, url: "ftp://${X}"}]', "registrars[0].url should be an address"),
        ('models: ["${X}"]', "models[0] a model must be an object"),
        ('models: [{id: "${X}/load", path: a.gguf}]', "models[0].id must not end in 'load'"),
        ('models: [{id: a, engine: "${X}", path: x}]', "models[0].engine this version has no"),
        ('models: [{id: a, path: a.gguf, memory_mb: "${X}"}]', "models[0].memory_mb must be a num"),
        ('models: [{id: a, path: a.gguf, priority: "${X}"}]', "models[0].priority must be one of"),
        (
            'models: [{id: a, path: a.gguf, schedule: [{cron: "${X}", action: load}]}]',
            "models[0].schedule has a bad cron expression, '${X}'",
        ),
        (
            'models: [{id: a, path: a.gguf, options: {threads: "${X}"}}]',
            "models[0].options.threads must be an integer, not a string",
        ),
    ],
)
def test_the_value_is_in_no_error(tmp_path: Path, text: str, message: str) -> None:
    (line,) = wrong(tmp_path, text, X=SECRET)
    assert line.startswith(f"pool.yaml: {message}"), line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port: ${X}", "port should be less than or equal to 65535, not '${X}'"),
        ("grace_minutes: ${X}", "grace_minutes should be less than or equal to"),
        (
            "min_ttl_minutes: 80\nmax_ttl_minutes: ${Y}",
            "min_ttl_minutes is above max_ttl_minutes, ${Y}",
        ),
        ('models: [{id: a, path: a.gguf, memory_mb: "-${X}"}]', "models[0].memory_mb must be betw"),
        ('models: [{id: a, path: a.gguf, ttl_minutes: "${X}"}]', "models[0].ttl_minutes must be 0"),
        (
            'models: [{id: a, path: a.gguf, options: {threads: "${X}"}}]',
            "models[0].options.threads",
        ),
    ],
)
def test_nor_a_number_that_is_out_of_bounds(tmp_path: Path, text: str, message: str) -> None:
    (line,) = wrong(tmp_path, text, X="987654321", Y="71.25")
    assert line.startswith(f"pool.yaml: {message}"), line


def test_the_environments_own_variable_wins_and_is_shown(tmp_path: Path) -> None:
    config = load(tmp_path, "grace_minutes: ${X}", X="3", MODELPOOL_GRACE_MINUTES="4")
    assert (config.grace_minutes, config.as_dict()["grace_minutes"]) == (4, 4)


def test_a_changed_key_is_shown_again(tmp_path: Path) -> None:
    config = load(tmp_path, "grace_minutes: ${X}\nmax_ttl_minutes: ${Y}", X="3", Y="70")
    assert config.as_dict()["grace_minutes"] == "${X}"
    changed = patched(config, {"grace_minutes": 5})
    assert changed.as_dict()["grace_minutes"] == 5
    assert changed.as_dict()["max_ttl_minutes"] == "${Y}"


def test_a_reload_reads_them_again(tmp_path: Path) -> None:
    text = "grace_minutes: ${X}\nport: ${P}\nmodels: [{id: a, engine: fake, path: '${X}'}]"
    former = load(tmp_path, text, X="3", P="8000")
    same = reloaded(former, former, load(tmp_path, text, X="3", P="8000"))
    assert (same.changed, same.needs_restart, same.models) == ({}, {}, ())
    new = reloaded(former, former, load(tmp_path, text, X="4", P="8001"))
    assert (new.changed, new.needs_restart) == ({"grace_minutes": "${X}"}, {"port": "${P}"})
    assert (new.config.grace_minutes, new.config.port) == (4, 8000)
    assert [m.source for m in new.models] == ["4"]
    assert new.config.as_dict()["grace_minutes"] == "${X}"


def test_who_stops_a_pool_needs_only_what_it_takes(tmp_path: Path) -> None:
    file = tmp_path / "pool.yaml"
    file.write_text(
        "port: ${P}\nstate_dir: s\ngrace_minutes: ${X}\nnope: 1\nmodels: [{id: '${KEY}'}]"
    )
    found = load_config(file, {"P": "8000"}, only=STOP_KEYS)
    assert (found.port, found.state_dir) == (8000, tmp_path / "s")
    with pytest.raises(ConfigError) as caught:
        load_config(file, {}, only=STOP_KEYS)
    assert [e.key for e in caught.value.errors] == ["port"]


def test_the_schema_takes_one_wherever_there_is_a_value(tmp_path: Path) -> None:
    schema = jsonschema_rs.validator_for(json_schema())
    names = PoolConfig.model_fields.keys() - {"models", "registrars", "port_range", "warmup_models"}
    names -= {"allowed_hosts", "allowed_origins", "discovery_paths", "option_file_paths"}
    names -= {"attach_companions"}
    names -= {"ollama_base_urls", "providers", "remote_models"}
    names -= {"aliases", "alerts", "virtual_models", "presets", "routing"}
    for key in sorted(names - {"device_memory_mb", "engine_presets", "environments"}):
        assert schema.is_valid({key: "${NAME}"}), key
        assert schema.is_valid({key: "a${NAME:-x}"}), key
    nested: list[dict[str, Any]] = [
        {"port_range": {"start": "${A}", "end": 2}},
        {"alerts": {"enabled": "${A}", "rules": {"R": {"above": "${B}"}}}},
        {"allowed_hosts": ["${A}"], "allowed_origins": ["https://${A}"]},
        {"device_memory_mb": {"cuda:0": "${A}"}},
        {"aliases": {"a": "${B}", "c": ["${D}"]}},
        {"virtual_models": {"a": {"kind": "alias", "target": "${B}"}}},
        {"presets": {"A": {"temperature": "${B}"}}, "routing": {"strategy": "${C}"}},
        {"engine_presets": {"a": {"command": ["x"], "environment": {"B": "${B}"}}}},
        {
            "environments": {
                "a": {"python": "${A}"},
                "b": {"extras": ["${B}"], "packages": ["${C}"]},
            }
        },
        {"discovery_paths": ["${A}", {"path": "${B}"}], "option_file_paths": ["${A}"]},
        {"registrars": [{"kind": "http", "ttl_seconds": "${A}"}]},
        {"models": [{"model_id": "a", "source": "${A}", "warmup": "${B}", "priority": "${C}"}]},
        {"models": [{"model_id": "a", "source": "s", "options": {"threads": "${A}"}}]},
    ]
    for data in nested:
        assert schema.is_valid(data), data
    for bad in ({"port": "8050"}, {"auto_unload": "yes"}, {"log_level": "loud"}):
        assert not schema.is_valid(bad), bad


def test_the_value_is_shown_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = """
        ollama_base_url: http://${SECRET}
        max_ttl_minutes: ${NUMBER}
        models:
          - id: m
            engine: fake
            path: ${SECRET}
            display_name: My ${SECRET}
            memory_mb: ${NUMBER}
            tags: ["${SECRET}"]
            metadata: {key: "${SECRET}", literal: "$${NOT}"}
            options: {reply: "${SECRET}", message: plain}
          - {id: other, engine: fake, path: x, metadata: {literal: "$${NOT}"}}
          - {id: missing, path: missing.gguf}
    """
    environ = {"SECRET": SECRET, "NUMBER": "77.25", "MODELPOOL_STATE_DIR": str(tmp_path / "s")}
    seen: list[str] = []

    async def scene(http: httpx.AsyncClient, pool: Running) -> None:
        assert pool.services.catalog.get("m").options["reply"] == SECRET
        for path in ("/config", "/config/file", "/models", "/models/m", "/registry", "/metrics"):
            answer = await http.get(path)
            assert answer.status_code == 200, path
            seen.append(answer.text)
        registry = (await http.get("/registry")).json()
        again = await http.post("/registry", json=registry)
        assert again.json() == {
            "added": [],
            "updated": [],
            "unchanged": ["m", "missing", "other"],
            "deleted": [],
        }
        partial = {"models": [{"model_id": "m", "priority": "high"}], "replace": True}
        assert (await http.post("/registry", json=partial)).json()["updated"] == ["m"]
        assert pool.services.catalog.get("m").options["reply"] == SECRET
        later = ("/config/file", "/registry", "/models/m/history")
        seen.extend([(await http.get(path)).text for path in later])
        for body in ({"min_ttl_minutes": 80}, {"default_ttl_minutes": 79}):
            refused = await http.patch("/config", json=body)
            assert refused.status_code == 400
            seen.append(refused.text)
        await reload_config(pool.services, "test")
        seen.extend(json.dumps(dict(e.data)) for e in pool.services.events._kept)

    async def main() -> None:
        async with (
            running(load(tmp_path, text, **environ)) as pool,
            client_of(pool.entry) as http,
        ):
            await scene(http, pool)

    with caplog.at_level(logging.DEBUG), pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        asyncio.run(main())
    seen.append(caplog.text)
    with sqlite3.connect(tmp_path / "s" / "pool.db") as db:
        seen.extend(db.iterdump())
    for each in seen:
        assert SECRET not in each, each
        assert "77.25" not in each, each
    written = json.loads(seen[1])
    (tmp_path / "again.json").write_text(json.dumps(written))
    again, first = load_config(tmp_path / "again.json", environ), load(tmp_path, text, **environ)
    assert {m.model_id: m for m in again.models} == {m.model_id: m for m in first.models}, (
        "the file that the pool writes makes the same pool"
    )


def test_marks_are_taken_away_from_everything() -> None:
    filled = [fill("${A}", {"A": "b"})]
    assert [type(v) for v in plain(filled)] == [str]
    assert repr(filled) == "['${A}']"
