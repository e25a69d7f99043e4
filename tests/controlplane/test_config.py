"""The configuration: defaults, files, environment, and errors all at once."""

from __future__ import annotations

import json
import os
import pwd
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from modelpool import config as config_module
from modelpool import config_keys
from modelpool.config import (
    ConfigError,
    PoolConfig,
    PortRange,
    json_schema,
    load_config,
    patched,
)

ROOT = Path(__file__).parents[2]
FIXTURES = Path(__file__).parent / "fixtures"
DEFAULTS = PoolConfig(state_dir=Path("/var/pool"))
WRITE_SCHEMA = (
    "from modelpool.config import json_schema; print(json.dumps(json_schema(), indent=2))"
)


def load(tmp_path: Path, text: str, name: str = "pool.yaml", **environ: str) -> PoolConfig:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return load_config(file, environ)


def wrong(tmp_path: Path, text: str, name: str = "pool.yaml", **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, name, **environ)
    return [str(e).replace(f"{tmp_path}/", "") for e in caught.value.errors]


def test_defaults_are_those_of_the_documents() -> None:
    assert DEFAULTS.port == 8050
    assert DEFAULTS.port_range == PortRange(start=8051, end=8099)
    assert len(DEFAULTS.port_range) == 49
    assert DEFAULTS.ttl_range == (5, 60)
    assert (DEFAULTS.default_ttl_minutes, DEFAULTS.grace_minutes) == (15, 2)
    assert DEFAULTS.memory_limit_mb <= 32_000
    assert DEFAULTS.memory_limit_bytes == DEFAULTS.memory_limit_mb * 1_000_000
    assert DEFAULTS.database == Path("/var/pool/pool.db")
    assert 8051 in DEFAULTS.port_range
    assert 8100 not in DEFAULTS.port_range


def test_memory_limit_defaults_to_the_machine_where_that_is_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for machine, limit in ((8_000, 8_000), (64_000, 32_000)):
        monkeypatch.setattr(config_keys, "machine_memory_mb", lambda machine=machine: machine)
        assert PoolConfig().memory_limit_mb == limit
        assert patched(DEFAULTS, {"memory_limit_mb": None}).memory_limit_mb == limit


def test_reads_the_first_documents_file() -> None:
    config = load_config(FIXTURES / "model_pool_config.json", {})
    given_keys = json.loads((FIXTURES / "model_pool_config.json").read_text(encoding="utf-8"))
    assert {key: config.as_dict()[key] for key in given_keys} == given_keys
    assert config.ollama_servers == ("http://localhost:11434",)


def test_without_a_file_the_state_is_in_the_users_folder() -> None:
    assert load_config(None, {"XDG_STATE_HOME": "/s"}).state_dir == Path("/s/modelpool")
    assert load_config(None, {}).state_dir == Path.home() / ".local/state/modelpool"


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = load(tmp_path, "models: [{model_id: a, source: m/a.gguf}]")
    assert config.state_dir == tmp_path / ".modelpool"
    assert config.models[0].source == f"{tmp_path}/m/a.gguf"
    assert config.file == tmp_path / "pool.yaml"
    assert load(tmp_path, "state_dir: ../s").state_dir == tmp_path.parent / "s"
    assert load(tmp_path, "state_dir: s", MODELPOOL_STATE_DIR="t").state_dir == Path.cwd() / "t"


def test_the_environment_wins(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "port_range: {start: 9001, end: 9009}\nmax_concurrent_models: 2\nauto_unload: true",
        MODELPOOL_PORT_RANGE__START="9002",
        MODELPOOL_AUTO_UNLOAD="false",
        MODELPOOL_WARMUP_MODELS='["a:7b"]',
        MODELPOOL_GRACE_MINUTES="0.5",
        MODELPOOL_LOG_LEVEL="debug",
        MODEL_MANAGER_MAX_LOADED="9",
        MODEL_KEEPALIVE_MINUTES="20",
    )
    assert config.port_range == PortRange(start=9002, end=9009)
    assert config.auto_unload is False
    assert config.warmup_models == ("a:7b",)
    assert (config.grace_minutes, config.log_level) == (0.5, "debug")
    assert (config.max_concurrent_models, config.default_ttl_minutes) == (9, 20)


def test_our_own_variable_wins_over_a_borrowed_one() -> None:
    environ = {"MODEL_MANAGER_MAX_LOADED": "9", "MODELPOOL_MAX_CONCURRENT_MODELS": "4"}
    assert load_config(None, environ).max_concurrent_models == 4


def test_variables_that_are_no_keys_are_remarked_upon() -> None:
    ours = {"MODELPOOL_CONFIG": "x", "MODELPOOL_STOP_ASKED": "1"}
    environ = {"MODELPOOL_PROT": "1", "ENABLE_SMART_SWITCHING": "1", **ours}
    first, second = load_config(None, environ).warnings
    assert "MODELPOOL_PROT" in first
    assert "did you mean port" in first
    assert "ENABLE_SMART_SWITCHING" in second


@pytest.mark.parametrize(
    ("text", "value"),
    [("adaptive", "adaptive"), ("unlimited", "unlimited"), ("4", 4), ('"4"', 4)],
)
def test_the_limit_of_a_worker_is_a_number_or_a_word(
    tmp_path: Path, text: str, value: int | str
) -> None:
    model = f"models: [{{model_id: a, engine: fake, source: x, concurrency_limit: {text}}}]"
    config = load(tmp_path, f"concurrency_limit: {text}")
    assert config.concurrency_limit == value
    if text != '"4"':
        assert load(tmp_path, model).models[0].concurrency_limit == value


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "fast", "true", "[]", "null"])
def test_no_other_limit_of_a_worker(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="concurrency_limit must be a whole number from 1"):
        load(tmp_path, f"concurrency_limit: {text}")
    if text != "null":  # as the pool
        model = f"models: [{{model_id: a, engine: fake, source: x, concurrency_limit: {text}}}]"
        with pytest.raises(ConfigError, match="concurrency_limit must be a whole number from 1"):
            load(tmp_path, model)


def test_low_ones_that_give_up_before_their_turn_are_remarked_upon(tmp_path: Path) -> None:
    text = "{priority_ageing_seconds: 50, load_wait_seconds: 100}"
    assert load(tmp_path, text).warnings[0].startswith("priority_ageing_seconds is 50")
    assert not load(tmp_path, "{priority_ageing_seconds: 49, load_wait_seconds: 100}").warnings


def test_a_limit_above_the_machine_is_remarked_upon(tmp_path: Path) -> None:
    assert "memory_limit_mb" in load(tmp_path, "memory_limit_mb: 900000000").warnings[0]


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        ("max_concurrent_models: 1\nwarmup_models: [a, b]", "2 copies are to be HOT from the"),
        ("max_concurrent_models: 1\nwarmup_models: [c]", "2 copies are to be HOT from the"),
        (
            "port_range: {start: 8051, end: 8053}",
            "max_concurrent_models is 5, but port_range",
        ),
        ("warmup_models: [b]", "ttl_minutes of b has no effect"),
        ("warmup_models: [c]", "the schedule of c cannot unload it"),
        ("warmup_models: [a]", ""),
    ],
)
def test_what_contradicts_itself_but_may_be_changed_is_remarked_upon(
    tmp_path: Path, text: str, remark: str
) -> None:
    models = """
models:
  - {id: a, path: a.gguf}
  - {id: b, path: b.gguf, ttl_minutes: 7}
  - {id: c, path: c.gguf, min_replicas: 2, schedule: [{cron: "0 1 * * *", action: unload}]}
"""
    warnings = load(tmp_path, text + models).warnings
    assert bool(warnings) == bool(remark)
    assert not remark or warnings[0].startswith(remark)


def test_every_error_at_once_with_its_key_and_place(tmp_path: Path) -> None:
    text = """
        min_ttl_minutes: 70
        max_concurent_models: 3
        host: 0.0.0.0
        auto_unload: "yes"
        check_interval_seconds: .nan
        port_range: {start: a, ende: 3}
        models:
          - {model_id: a/load, source: 3}
          - {model_id: b, source: x.gguf, ttl_minutes: 3}
    """
    lines = wrong(tmp_path, text, MODELPOOL_PORT="true", MODEL_MANAGER_MAX_LOADED="many")
    expected = [
        "pool.yaml: models[0].model_id must not end in 'load'",
        "pool.yaml: models[0].source must be a string",
        "pool.yaml: models[0].engine is required",
        "pool.yaml: models[1].ttl_minutes must be 0",
        "pool.yaml: host only loopback",
        "environment variable MODELPOOL_PORT: port should be a whole number",
        "pool.yaml: port_range.start should be a whole number",
        "pool.yaml: port_range.ende is unknown; did you mean end",
        "pool.yaml: check_interval_seconds should be a finite number",
        "environment variable MODEL_MANAGER_MAX_LOADED: max_concurrent_models should be",
        "pool.yaml: auto_unload should be true or false",
        "pool.yaml: max_concurent_models is unknown; did you mean max_concurrent_models",
        "pool.yaml: min_ttl_minutes is above max_ttl_minutes",
    ]
    for line in expected:
        assert any(got.startswith(line) for got in lines), (line, lines)
    assert len(lines) == len(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("default_ttl_minutes: 3", "default_ttl_minutes should be 0 (never) or between 5 and 60"),
        ("port_range: {start: 9, end: 8}", "port_range starts after its end"),
        ("port: 8060", "port is one of port_range"),
        ("host: example.org", "host only loopback"),
        ("host: 192.168.0.1", "host only loopback"),
        (
            "allowed_origins: [https://app.example, https://app.example/]",
            "allowed_origins[1] should be an origin as browsers send it",
        ),
        ("allowed_origins: '*'", "allowed_origins should be a list"),
        ("allowed_hosts: ['*']", "allowed_hosts[0] should be a host without a port"),
        ("allowed_hosts: [pool.example:8050]", "allowed_hosts[0] should be a host without a port"),
        ("state_dir: ''", "state_dir should be the path of a folder"),
        ("state_dir: 3", "state_dir should be the path of a folder"),
        ("state_dir: ~no-such-user/x", "state_dir begins with the home of a user that there is"),
        ("models_dir: ~no-such-user/x", "models_dir begins with the home of a user that there is"),
        (
            "discovery_paths: [~no-such-user/x]",
            "discovery_paths[0].path begins with the home of a user that there is not",
        ),
        (
            "option_file_paths: [~no-such-user/x]",
            "option_file_paths[0] begins with the home of a user that there is not",
        ),
        (
            "models: [{id: a, path: ~no-such-user/a.gguf}]",
            "models[0].source begins with the home of a user that there is not: ~no-such-user",
        ),
        (
            "models: [{id: a, path: ~no-such-user/a, engine: transformers}]",
            "models[0].source begins with the home of a user that there is not: ~no-such-user",
        ),
        ("warmup_models: pool-demo", "warmup_models should be a list"),
        ("warmup_models: [3]", "warmup_models[0] should be a valid string"),
        ("warmup_models: [a, b, a]", "warmup_models name a more than once"),
        ("models: {a: 1}", "models should be a list"),
        ("models: [3]", "models[0] a model must be an object"),
        ("restart_backoff_seconds: 90", "restart_backoff_seconds is above"),
        ("port_range: 3", "port_range should be an object with start and end"),
        ("grace_minutes: -1", "grace_minutes should be greater than or equal to 0"),
        ("log_level: loud", "log_level should be 'debug'"),
        ("1: 2", "1 is unknown"),
        ("port: 1\nport: 2", "is not valid: the key 'port' stands there twice"),
        ("[1", "is not valid"),
        ("- 1", "should hold keys and values"),
        ("[" * 5000, "is nested too deeply"),
    ],
)
def test_one_thing_wrong(tmp_path: Path, text: str, message: str) -> None:
    (line,) = wrong(tmp_path, text)
    assert line.startswith(f"pool.yaml: {message}")


def test_zero_and_loopback_are_right(tmp_path: Path) -> None:
    assert load(tmp_path, "default_ttl_minutes: 0").default_ttl_minutes == 0
    for host in ("localhost", "127.0.0.2", "::1"):
        assert load(tmp_path, f"host: '{host}'").host == host


def test_two_models_with_one_name(tmp_path: Path) -> None:
    entries = "[{id: a, path: a.gguf, aliases: [c]}, {id: b, path: b.gguf, aliases: [c]}]"
    (line,) = wrong(tmp_path, f"models: {entries}")
    assert line == "pool.yaml: models give the name 'c' to two models"


def test_models_are_held_against_the_files_own_ttl_range(tmp_path: Path) -> None:
    text = "min_ttl_minutes: 1\nmodels: [{id: a, path: a.gguf, ttl_minutes: 2}]"
    assert load(tmp_path, text).models[0].ttl_minutes == 2


@pytest.mark.parametrize("name", ["pool.json", "pool.yaml"])
def test_files_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"port: \xff")
    for file in (tmp_path / name, tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(ConfigError, match=re.escape(str(file))):
            load_config(file, {})


def test_json_with_a_key_twice(tmp_path: Path) -> None:
    (line,) = wrong(tmp_path, '{"port": 1, "port": 2}', "pool.json")
    assert "stands there twice" in line


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "").port == 8050


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("key", sorted(PoolConfig.model_fields))
@pytest.mark.parametrize("value", [{"a": None}, {"a": 3}, {"a": {"zz": 1}}, [None]])
def test_nothing_where_an_object_should_be_is_named(key: str, value: Any) -> None:
    name = f"MODELPOOL_{key.upper()}"
    places: set[str] = set()
    try:
        load_config(None, {name: json.dumps(value)})
    except ConfigError as e:
        places = {issue.where for issue in e.errors}
    assert places <= {f"environment variable {name}"}


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(PoolConfig.model_fields)), JSON))
def test_arbitrary_values_are_right_or_named_with_their_place(data: dict[str, Any]) -> None:
    environ = {f"MODELPOOL_{key.upper()}": json.dumps(value) for key, value in data.items()}
    places = {f"environment variable {name}" for name in environ}
    try:
        load_config(None, environ)
    except ConfigError as e:
        found = [issue.where for issue in e.errors]
    else:
        return
    assert found
    assert set(found) <= places


def test_as_dict_makes_the_same_configuration(tmp_path: Path) -> None:
    config = load(tmp_path, "port: 8040\nmodels: [{id: a, path: a.gguf, tags: [x]}]")
    again = load(tmp_path, json.dumps(config.as_dict()), "again.json")
    assert again.as_dict() == config.as_dict()


def test_the_schema_in_the_repository_is_current() -> None:
    text = (ROOT / "configs/schema.json").read_text(encoding="utf-8")
    assert json.loads(text) == json_schema(), f"write it again: {WRITE_SCHEMA}"


def test_pool_yaml_works_as_it_is() -> None:
    config = load_config(ROOT / "configs/pool.yaml", {})
    (model,) = config.models
    assert config.warmup_models == (model.model_id,) == ("pool-demo",)
    assert model.source == str(ROOT / "configs/models/pool-demo.gguf")
    assert config.state_dir == ROOT / ".modelpool"


def test_the_example_holds_every_key_with_its_default(tmp_path: Path) -> None:
    text = (ROOT / "configs/pool.example.yaml").read_text(encoding="utf-8")
    data = yaml.safe_load(re.sub(r"^#(?=[a-z_]+:|  )", "", text, flags=re.MULTILINE))
    assert set(data) == set(PoolConfig.model_fields)
    plain = PoolConfig().as_dict() | {"memory_limit_mb": None, "state_dir": ".modelpool"}
    own = {"models"}
    assert {k: v for k, v in data.items() if k not in own} == {
        k: v for k, v in plain.items() if k not in own
    }
    assert load(tmp_path, yaml.safe_dump(data)).models[0].aliases == ("coder",)


def test_errors_read_well() -> None:
    error = ConfigError([config_module.ConfigIssue("port", "is odd", "pool.yaml")])
    assert str(error) == "the configuration is wrong:\n  pool.yaml: port is odd"


def test_the_homes_of_others(tmp_path: Path) -> None:
    """As a shell has them; a name that only begins so is a file's."""
    user = pwd.getpwuid(os.getuid())
    paths = {"discovery_paths": [f"~{user.pw_name}/m"], "models_dir": f"~{user.pw_name}/m"}
    sources = {f"~{user.pw_name}/a.gguf": "llama.cpp", f"~{user.pw_name}/b": "transformers"}
    sources |= {"~c.gguf": "llama.cpp", "owner/repo": "transformers"}
    models = [{"id": f"m{i}", "path": p, "engine": e} for i, (p, e) in enumerate(sources.items())]
    config = load(tmp_path, json.dumps({**paths, "models": models}))
    home = user.pw_dir
    assert config.discovery_paths[0].path == str(config.models_dir) == f"{home}/m"
    found = [model.source for model in config.models]
    assert found == [f"{home}/a.gguf", f"{home}/b", str(tmp_path / "~c.gguf"), "owner/repo"]
