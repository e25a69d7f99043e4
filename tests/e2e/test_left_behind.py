"""What a worker that is killed leaves behind its manager ends: processes of other groups,
containers, models in servers of Ollama."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from support.ollama import FakeModel, fake_ollama

from e2e.helpers import alive, chat, content, until
from e2e.support import PoolProcess

SUPPORT = Path(__file__).parents[1] / "support"
# Of one that was killed none is started anew while we look.
KEYS: dict[str, Any] = {"restart_backoff_seconds": 60, "failed_retry_seconds": 60}


def killed(pool: PoolProcess, name: str, which: str) -> None:
    """Its worker's front, or the engine child."""
    about = pool.http.get(f"/models/{name}").json()
    port = about["port"]
    health = pool.http.get(f"http://127.0.0.1:{port}/health").json()
    pid = about["worker_pid"] if which == "front" else health["engine_pid"]
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("which", ["front", pytest.param("engine", marks=pytest.mark.slow)])
def test_a_server_that_has_left_the_group(tmp_path: Path, which: str) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    command = [sys.executable, str(SUPPORT / "strict_server.py"), "--port", "{port}"]
    command += ["--notes", str(notes), "--grandchild", "session"]
    options = {"command": command, "ready_path": "/ready"}
    entry = {"model_id": "served", "engine": "command", "source": "x", "memory_mb": 50}
    with PoolProcess(tmp_path, [{**entry, "options": options}], **KEYS) as pool:
        answer = pool.http.post("/v1/chat/completions", json=chat("served", "hi"))
        assert content(answer) == "hi hi hi "
        pid = int(json.loads((notes / "started.json").read_text())["pid"])
        grandchild = int((notes / "grandchild.json").read_text())
        assert alive(grandchild)
        killed(pool, "served", which)
        until(lambda: not alive(pid) and not alive(grandchild), "their end")


@pytest.mark.parametrize("which", ["front", pytest.param("engine", marks=pytest.mark.slow)])
def test_a_container(tmp_path: Path, which: str) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    runtime = [sys.executable, str(SUPPORT / "container_double.py")]
    preset = {
        "command": [*runtime, "run", str(notes), "{worker_id}", "{port}"],
        "stop_command": [*runtime, "stop", str(notes), "{worker_id}"],
        "ready_path": "/ready",
        "is_outside": True,
        "capabilities": ["chat"],
    }
    models = [{"model_id": "served", "engine": "contained", "source": "x", "memory_mb": 50}]
    with PoolProcess(tmp_path, models, engine_presets={"contained": preset}, **KEYS) as pool:

        def load() -> int:
            assert pool.http.post("/models/served/load?wait=60").status_code == 200
            return int(json.loads((notes / "started.json").read_text())["pid"])

        def stops() -> list[str]:
            return (notes / "stops").read_text().split() if (notes / "stops").exists() else []

        pid = load()
        killed(pool, "served", which)
        until(lambda: not alive(pid), "its end")
        assert len(stops()) == 1
        # In order: nobody ends it a second time.
        until(lambda: pool.http.get("/models/served").json()["state"] != "HOT", "the news")
        pid = load()
        assert pool.http.post("/models/served/unload").status_code == 200
        assert not alive(pid)
        assert len(stops()) == len(set(stops())) == 2


def test_a_model_of_ollama(tmp_path: Path) -> None:
    with fake_ollama({"m:1b": FakeModel()}) as server:
        models = [{"model_id": "m", "engine": "ollama", "source": "m:1b"}]
        with PoolProcess(tmp_path, models, ollama_base_url=server.url, **KEYS) as pool:
            answer = pool.http.post("/models/m/load?wait=60")
            assert answer.status_code == 200, answer.text
            assert list(server.loaded) == ["m:1b"]
            killed(pool, "m", "front")
            until(lambda: server.unloads["m:1b"] == 1, "the unload")
            until(lambda: not server.loaded, "its end")
            until(lambda: pool.http.get("/models/m").json()["state"] != "HOT", "the news")
            answer = pool.http.post("/models/m/load?wait=60")
            assert answer.status_code == 200, answer.text
            assert pool.http.post("/models/m/unload").status_code == 200
            assert server.unloads["m:1b"] == 2
