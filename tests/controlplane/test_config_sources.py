"""Where each value of the configuration comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from modelpool.config import LIVE_KEYS, PoolConfig, load_config, patched, reloaded
from modelpool.config_sources import sources_of


def read(folder: Path, said: dict[str, Any], environ: dict[str, str]) -> PoolConfig:
    file = folder / "pool.json"
    file.write_text(json.dumps(said))
    return load_config(file, environ)


@pytest.mark.parametrize(
    ("key", "kind", "place"),
    [
        ("port", "file", "{file}"),
        ("grace_minutes", "default", ""),
        ("log_level", "environment", "environment variable MODELPOOL_LOG_LEVEL"),
        ("port_range", "file", "{file}, environment variable MODELPOOL_PORT_RANGE__END"),
        ("default_ttl_minutes", "file", "{file}"),
        ("state_dir", "default", ""),
    ],
)
def test_a_value_names_its_place(tmp_path: Path, key: str, kind: str, place: str) -> None:
    said = {"port": 9000, "port_range": {"start": 9001, "end": 9002}, "log_level": "error"}
    said |= {"default_ttl_minutes": "${TTL}"}
    environ = {"MODELPOOL_LOG_LEVEL": "debug", "MODELPOOL_PORT_RANGE__END": "9009"}
    config = read(tmp_path, said, environ | {"TTL": "7"})
    found = sources_of(config, config)[key]
    assert (found.kind, found.place) == (kind, place.format(file=tmp_path / "pool.json"))
    assert not found.will_change
    assert found.is_live == (key in LIVE_KEYS)


def test_a_value_of_the_environment_is_shown_as_the_file_has_it(tmp_path: Path) -> None:
    config = read(tmp_path, {"default_ttl_minutes": "${TTL}"}, {"TTL": "7"})
    assert sources_of(config, config)["default_ttl_minutes"].value == "${TTL}"


def test_a_change_at_run_time_and_its_end(tmp_path: Path) -> None:
    configured = read(tmp_path, {"grace_minutes": 3}, {})
    config = patched(configured, {"grace_minutes": 5, "max_concurrent_models": 4})
    found = sources_of(config, configured)
    assert (found["grace_minutes"].kind, found["grace_minutes"].value) == ("runtime", 5)
    assert (found["grace_minutes"].after_restart, found["grace_minutes"].will_change) == (3, True)
    assert found["max_concurrent_models"].kind == "runtime"
    back = patched(config, {"grace_minutes": 3})
    assert sources_of(back, configured)["grace_minutes"].kind == "file"


def test_what_waits_for_a_restart(tmp_path: Path) -> None:
    former = read(tmp_path, {"port": 9000}, {})
    said = read(tmp_path, {"port": 9005, "grace_minutes": 9}, {})
    config = reloaded(former, former, said).config
    found = sources_of(config, said)
    assert (found["port"].value, found["port"].after_restart) == (9000, 9005)
    assert not found["port"].is_live
    assert (found["grace_minutes"].value, found["grace_minutes"].kind) == (9, "file")


def test_every_key_has_a_source_and_no_secret(tmp_path: Path) -> None:
    config = read(tmp_path, {"hub_url": "https://${HOST}"}, {"HOST": "secret.example"})
    found = sources_of(config, config)
    assert set(found) == set(PoolConfig.model_fields) - {"models"}
    assert "secret.example" not in str(found)
