"""What can change while the pool runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from modelpool.config import (
    LIVE_KEYS,
    PoolConfig,
    load_config,
    patched,
    refuse_new_secrets,
    reloaded,
)
from modelpool_client.errors import InvalidRequest
from modelpool_client.wire import Allowlist

DEFAULTS = PoolConfig(state_dir=Path("/var/pool"))


def made(**keys: Any) -> PoolConfig:
    return PoolConfig(**{"state_dir": DEFAULTS.state_dir, **keys})


def test_patch_changes_live_keys_only() -> None:
    config = patched(DEFAULTS, {"default_ttl_minutes": 30, "auto_unload": False})
    assert (config.default_ttl_minutes, config.auto_unload) == (30, False)
    assert (config.state_dir, DEFAULTS.auto_unload) == (DEFAULTS.state_dir, True)
    assert patched(DEFAULTS, {}) == DEFAULTS


def test_who_may_ask_can_change() -> None:
    config = patched(DEFAULTS, {"allowed_origins": ["null"], "allowed_hosts": ["*.pool.example"]})
    assert config.allowlist == Allowlist(("null",), ("*.pool.example",))
    shown = config.as_dict()
    assert (shown["allowed_origins"], shown["allowed_hosts"]) == (["null"], ["*.pool.example"])


@pytest.mark.parametrize(
    ("changes", "param", "message"),
    [
        ({"port": 8050}, "port", "needs a restart"),
        ({"warmup_models": []}, "warmup_models", "needs a restart"),
        ({"defaultttl_minutes": 1}, "defaultttl_minutes", "did you mean default_ttl_minutes"),
        ({"auto_unload": 1}, "auto_unload", "true or false"),
        ({"min_ttl_minutes": 61}, "min_ttl_minutes", "above max_ttl_minutes"),
        ({"max_concurrent_models": 0}, "max_concurrent_models", "greater"),
        ({"grace_minutes": float("nan")}, "grace_minutes", "finite"),
        ({"allowed_origins": ["app.example"]}, "allowed_origins[0]", "should be an origin"),
        ({3: 4}, "3", "unknown"),
        ({"\ud800": 1}, "\\ud800", "unknown"),
        ([], None, "object"),
    ],
)
def test_patch_refuses(changes: object, param: str | None, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        patched(DEFAULTS, changes)
    assert caught.value.param == param
    json.dumps(caught.value.body(), ensure_ascii=False).encode()


def test_patch_says_everything_at_once() -> None:
    with pytest.raises(InvalidRequest) as caught:
        patched(DEFAULTS, {"port": 1, "grace_minutes": True, "min_ttl_minutes": 99})
    params = [e["param"] for e in caught.value.details["errors"]]
    assert params == ["port", "grace_minutes", "min_ttl_minutes"]


def test_patch_keeps_the_notes(tmp_path: Path) -> None:
    file = tmp_path / "pool.yaml"
    text = "{priority_ageing_seconds: 50, load_wait_seconds: 100}"
    file.write_text(text, encoding="utf-8")
    config = patched(load_config(file, {}), {"crash_budget": 1})
    assert (config.file, len(config.warnings)) == (file, 1)


@pytest.mark.parametrize(
    ("now", "former", "said", "changed", "in_force"),
    [
        ({}, {}, {}, {}, {}),
        ({}, {}, {"grace_minutes": 3}, {"grace_minutes": 3}, {"grace_minutes": 3}),
        # Set at run time, and the file says what it said: it stays.
        (
            {"grace_minutes": 9},
            {"grace_minutes": 1},
            {"grace_minutes": 1},
            {},
            {"grace_minutes": 9},
        ),
        # The file says otherwise than it did: it wins, also where that is the default again.
        (
            {"grace_minutes": 9},
            {"grace_minutes": 1},
            {"grace_minutes": 4},
            {"grace_minutes": 4},
            {"grace_minutes": 4},
        ),
        (
            {"grace_minutes": 9},
            {"grace_minutes": 9},
            {},
            {"grace_minutes": 2},
            {"grace_minutes": 2},
        ),
        # What was set at run time is what the file says by now.
        ({"grace_minutes": 9}, {}, {"grace_minutes": 9}, {}, {"grace_minutes": 9}),
    ],
)
def test_a_file_that_was_read_again(
    now: dict[str, object],
    former: dict[str, object],
    said: dict[str, object],
    changed: dict[str, object],
    in_force: dict[str, object],
) -> None:
    result = reloaded(made(**now), made(**former), made(**said))
    assert (result.changed, result.needs_restart) == (changed, {})
    assert {key: getattr(result.config, key) for key in in_force} == in_force


def test_keys_that_need_a_restart_are_named_until_it_comes() -> None:
    said = made(port=9000, log_level="debug", grace_minutes=3)
    for former in (DEFAULTS, said):
        result = reloaded(DEFAULTS, former, said)
        assert result.needs_restart == {"log_level": "debug", "port": 9000}
        assert (result.config.port, result.config.log_level) == (8050, "info")


def test_a_file_may_contradict_what_was_set_at_run_time() -> None:
    with pytest.raises(InvalidRequest, match="between 20 and 60"):
        reloaded(
            made(min_ttl_minutes=20, default_ttl_minutes=30), DEFAULTS, made(default_ttl_minutes=10)
        )


def test_models_and_notes_are_those_of_the_new_file(tmp_path: Path) -> None:
    file = tmp_path / "pool.yaml"
    file.write_text("models: [{model_id: m, engine: fake, source: x}]", encoding="utf-8")
    said = load_config(file, {"MODELPOOL_STATE_DIR": "/var/pool"})
    result = reloaded(DEFAULTS, DEFAULTS, said)
    assert [m.model_id for m in result.config.models] == ["m"]
    assert result.config.file == file
    assert result.needs_restart == {}


def test_models_are_compared_with_what_the_file_said_before(tmp_path: Path) -> None:
    def said(*entries: str) -> PoolConfig:
        file = tmp_path / "pool.yaml"
        lines = [f"{{model_id: {entry}, engine: fake, source: x}}" for entry in entries]
        file.write_text(f"models: [{', '.join(lines)}]", encoding="utf-8")
        return load_config(file, {"MODELPOOL_STATE_DIR": "/var/pool"})

    former = said("same", "other", "gone")
    result = reloaded(DEFAULTS, former, said("same", "other, ttl_minutes: 7", "new"))
    assert [m.model_id for m in result.models] == ["other", "new"]
    assert result.gone == ("gone",)


@pytest.mark.parametrize(
    ("wanted", "is_fine"),
    [
        ({}, True),
        ({"token_file": "/etc/token"}, True),
        ({"token_file": "/etc/token", "ttl_seconds": 60, "prefix": "/other"}, True),
        ({"token_file": "/etc/shadow"}, False),
        ({"token_file": "/etc/token", "url": "http://elsewhere:2379"}, False),
        ({"token_file": "/etc/token", "kind": "consul", "url": "http://127.0.0.1:2379"}, False),
    ],
)
def test_no_secret_is_sent_where_the_file_does_not_send_it(
    wanted: dict[str, object], is_fine: bool
) -> None:
    said = made(registrars=[{"kind": "etcd", "token_file": "/etc/token"}])
    config = patched(DEFAULTS, {"registrars": [{"kind": "http"}, {"kind": "etcd", **wanted}]})
    if is_fine:
        refuse_new_secrets(config, (DEFAULTS, said))
        return
    with pytest.raises(InvalidRequest, match="only be set in the config file") as caught:
        refuse_new_secrets(config, (DEFAULTS, said))
    assert caught.value.param == "registrars[1].token_file"


def test_live_keys_are_keys() -> None:
    assert set(PoolConfig.model_fields) > LIVE_KEYS
    assert not LIVE_KEYS & {"port", "host", "state_dir", "models", "port_range", "warmup_models"}
