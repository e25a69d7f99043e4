"""``poolctl`` as people and programs use it: a real process against a real pool."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import Add
from e2e.helpers import WAIT_SECONDS, clean_environment, fake, free_block
from e2e.support import PoolProcess

COMMAND = [sys.executable, "-c", "from modelpool_client.cli import main; main()"]


def poolctl(
    pool: PoolProcess | str, *arguments: str, said: str | None = None
) -> subprocess.CompletedProcess[str]:
    url = pool if isinstance(pool, str) else pool.url
    return subprocess.run(
        [*COMMAND, *arguments],
        env=clean_environment(MODELPOOL_URL=url, COLUMNS="200"),
        input=said,
        capture_output=True,
        text=True,
        timeout=60,
    )


def out(pool: PoolProcess, *arguments: str) -> str:
    """What it prints; it must succeed."""
    done = poolctl(pool, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def document(pool: PoolProcess, *arguments: str) -> Any:
    return json.loads(out(pool, *arguments, "--json"))


def test_the_life_of_a_model(pool: PoolProcess) -> None:
    out(pool, "register", "ctl/model:1b", "--engine", "fake", "--source", "none", "--tag", "t")
    try:
        assert "ctl/model:1b" in out(pool, "list")
        assert "HOT at http://" in out(pool, "load", "ctl/model:1b")
        assert "HOT" in out(pool, "status", "ctl/model:1b")
        assert "ctl/model:1b" in out(pool, "status")
        assert "20 min granted" in out(pool, "extend", "ctl/model:1b", "20")
        assert out(pool, "chat", "ctl/model:1b", "say this").strip() == "say this"
        assert "ready" in out(pool, "logs", "ctl/model:1b")
        out(pool, "unload", "ctl/model:1b")
        assert pool.state_of("ctl/model:1b") == "COLD"
    finally:
        out(pool, "delete", "ctl/model:1b")
    assert "ctl/model:1b" not in out(pool, "list")


def test_json_everywhere(pool: PoolProcess, add: Add) -> None:
    m = add()
    assert m in [model["model_id"] for model in document(pool, "list")["models"]]
    assert document(pool, "load", m)["model"]["state"] == "HOT"
    assert document(pool, "status", m)["model_id"] == m
    assert document(pool, "status")["health"]["status"] == "healthy"
    assert document(pool, "extend", m, "1")["model_id"] == m
    assert document(pool, "unload", m)["model"]["state"] == "COLD"
    assert {e["name"] for e in document(pool, "engines", "--all")["engines"]} >= {
        "fake",
        "llama.cpp",
    }
    assert document(pool, "config")["port"] == pool.port


def test_a_load_shows_how_far_it_is(pool: PoolProcess, add: Add) -> None:
    m = add(load_seconds=1, load_steps=5)
    done = poolctl(pool, "load", m, "--no-wait")
    assert done.returncode == 0
    assert "WARMING" in done.stdout
    pool.wait_for(m, "HOT")


def test_events_as_they_happen(pool: PoolProcess, add: Add) -> None:
    m = add()
    command = [*COMMAND, "events", "--json", "--model", m, "-n", "2"]
    environment = clean_environment(MODELPOOL_URL=pool.url)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as listening:
        try:
            end = time.monotonic() + WAIT_SECONDS
            while listening.poll() is None and time.monotonic() < end:
                pool.load(m)
                pool.http.post(f"/models/{m}/unload", json={})
            assert listening.wait(WAIT_SECONDS) == 0
        finally:
            listening.kill()
        assert listening.stdout is not None
        lines = [json.loads(line) for line in listening.stdout.read().splitlines()]
    assert len(lines) == 2
    assert all(line["model_id"] == m and line["reason"] for line in lines)


def test_the_configuration(pool: PoolProcess) -> None:
    assert "default_ttl_minutes" in out(pool, "config", "get")
    out(pool, "config", "set", "default_ttl_minutes=20")
    try:
        assert "20" in out(pool, "config", "get", "default_ttl_minutes")
    finally:
        out(pool, "config", "set", "default_ttl_minutes=15")
    wrong = poolctl(pool, "config", "set", "default_ttl_minutes=-3")
    assert wrong.returncode == 1
    assert "default_ttl_minutes" in wrong.stderr


def test_export_and_import(pool: PoolProcess, tmp_path: Path) -> None:
    file = tmp_path / "registry.json"
    out(pool, "export", str(file))
    registry = json.loads(file.read_text())
    assert "plain" in [m["model_id"] for m in registry["models"]]
    file.write_text(json.dumps({"models": [fake("brought/in:1b")]}))
    try:
        assert "1 added" in out(pool, "import", str(file))
        assert pool.state_of("brought/in:1b") == "COLD"
    finally:
        pool.http.delete("/models/brought/in:1b")


def test_doctor(pool: PoolProcess) -> None:
    done = poolctl(pool, "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "healthy" in done.stdout
    assert "engine fake" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["status", "nope"], 4, "poolctl list"),
        (["load", "nope"], 4, "nope"),
        (["unload", "nope"], 4, "nope"),
        (["extend", "plain", "-5"], 2, "-5"),
        (["load"], 2, "MODEL"),
        (["register", "x"], 2, "source"),
        (["register", "plain", "--engine", "fake", "--source", "none"], 1, "poolctl delete"),
        (["import", "/nowhere/file.json"], 1, "/nowhere/file.json"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else None,
)
def test_exit_codes(pool: PoolProcess, arguments: list[str], code: int, text: str) -> None:
    done = poolctl(pool, *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_a_load_that_fails(pool: PoolProcess, add: Add) -> None:
    m = add(fail_load="oom", message="no room for the tensors")
    done = poolctl(pool, "load", m)
    assert done.returncode == 5
    assert "no room for the tensors" in done.stderr
    told = poolctl(pool, "load", m, "--json")
    assert told.returncode == 5
    assert json.loads(told.stderr)["error"]["code"] == "oom"


def test_no_pool_there() -> None:
    done = poolctl(f"http://127.0.0.1:{free_block(1)}", "list")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
