"""What can change while the pool runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from modelpool.config import LIVE_KEYS, PoolConfig, load_config, patched
from modelpool_client.errors import InvalidRequest

DEFAULTS = PoolConfig(state_dir=Path("/var/pool"))


def test_patch_changes_live_keys_only() -> None:
    config = patched(DEFAULTS, {"default_ttl_minutes": 30, "auto_unload": False})
    assert (config.default_ttl_minutes, config.auto_unload) == (30, False)
    assert (config.state_dir, DEFAULTS.auto_unload) == (DEFAULTS.state_dir, True)
    assert patched(DEFAULTS, {}) == DEFAULTS


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
    file.write_text("ollama_base_url: http://localhost:11434", encoding="utf-8")
    config = patched(load_config(file, {}), {"crash_budget": 1})
    assert (config.file, len(config.warnings)) == (file, 1)


def test_live_keys_are_keys() -> None:
    assert set(PoolConfig.model_fields) > LIVE_KEYS
    assert not LIVE_KEYS & {"port", "host", "state_dir", "models", "port_range", "warmup_models"}
