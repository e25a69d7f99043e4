"""A pool whose engines are servers that commands start: through the gateway and at their ports."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from support.llama_server_double import install

from e2e.helpers import alive, assert_error, chat, content, streamed, until
from e2e.support import PoolProcess

DEMO = Path(__file__).parents[2] / "configs" / "models" / "pool-demo.gguf"
SERVER = Path(__file__).parents[1] / "support" / "strict_server.py"


def preset(notes: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(SERVER), "--port", "{port}", "--notes", str(notes), *arguments]
    return {"command": [*command, ["--busy", "{busy}"]], "ready_path": "/ready"}


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


def pid(notes: Path) -> int:
    return int(json.loads((notes / "started.json").read_text())["pid"])


def pool_of(tmp_path: Path, notes: Path, **keys: Any) -> PoolProcess:
    own = preset(notes, "--model", "{model_id}", "--grandchild", "session")
    own |= {"options": {"busy": {"type": "number", "minimum": 0}}, "capabilities": ["chat"]}
    models = [{"model_id": "served", "engine": "mine", "source": "x/y", "memory_mb": 50}]
    return PoolProcess(tmp_path, models, engine_presets={"mine": own}, **keys)


def test_a_preset_of_the_config_file_is_an_engine(tmp_path: Path, notes: Path) -> None:
    """Loaded by a request, asked through the gateway and at the worker, unloaded with all that it
    has started."""
    with pool_of(tmp_path, notes) as pool:
        engines = {e["name"]: e for e in pool.http.get("/engines").json()["engines"]}
        assert engines["mine"]["usable"], engines["mine"]
        assert "busy" in engines["mine"]["options"]
        assert not engines["vllm"]["usable"]
        assert "pip install vllm" in engines["vllm"]["install_hint"]
        answer = pool.http.post("/v1/chat/completions", json=chat("served", "hi"))
        assert content(answer) == "hi hi hi "
        port = pool.http.get("/models/served").json()["port"]
        direct = streamed(f"http://127.0.0.1:{port}", chat("served", "ho"))
        assert (direct.text, direct.is_done) == ("ho ho ho ", True)
        grandchild = int((notes / "grandchild.json").read_text())
        assert alive(grandchild)
        assert pool.http.post("/models/served/unload").status_code == 200
        assert not alive(pid(notes))
        assert not alive(grandchild)
        # Again, after its options were changed by the API: no command is in that.
        changed = pool.http.patch("/models/served/options", json={"busy": 0.2})
        assert changed.status_code == 200, changed.text
        answer = pool.http.post("/v1/chat/completions", json=chat("served", "hi"))
        assert content(answer) == "hi hi hi "
        assert "--busy" in json.loads((notes / "started.json").read_text())["argv"]


def test_a_server_that_dies_is_started_anew(tmp_path: Path, notes: Path) -> None:
    with pool_of(tmp_path, notes) as pool:
        pool.http.post("/v1/chat/completions", json=chat("served", "hi"))
        first = pid(notes)
        os.kill(first, signal.SIGKILL)
        until(lambda: not alive(first), "its end")
        asked = chat("served", "again")
        until(lambda: pool.http.post("/v1/chat/completions", json=asked).status_code == 200, "it")
        assert pid(notes) != first


def test_clients_of_the_api_start_no_programs(tmp_path: Path, notes: Path) -> None:
    command = [*preset(notes)["command"][:-1]]
    entry = {"model_id": "evil", "engine": "command", "source": "x", "memory_mb": 50}
    entry["options"] = {"command": command, "ready_path": "/ready"}
    guarded = {
        "environment": {"LD_PRELOAD": "/tmp/x.so"},
        "program": "/bin/sh",
        "arguments": ["--trust-remote-code"],
    }
    with pool_of(tmp_path, notes) as pool:
        answer = pool.http.post("/models/register", json=entry)
        text = assert_error(answer, 400, "only_in_config", "options.command")
        assert "allow_commands_by_api" in text
        for name, value in guarded.items():
            mine = {"model_id": "evil", "engine": "mine", "source": "x", "options": {name: value}}
            answer = pool.http.post("/models/register", json=mine)
            assert_error(answer, 400, "only_in_config", f"options.{name}")
            answer = pool.http.patch("/models/served/options", json={name: value})
            assert_error(answer, 400, "only_in_config", f"options.{name}")
        answer = pool.http.patch("/config", json={"allow_commands_by_api": True})
        assert answer.status_code == 400
        imported = pool.http.post("/registry", json={"models": [entry]})
        assert "only_in_config" in imported.text or "can only be said" in imported.text
        assert pool.http.get("/models/evil").status_code == 404
        # Without any of it an engine of the config file is everybody's.
        mine = {"model_id": "other", "engine": "mine", "source": "x", "memory_mb": 50}
        assert pool.http.post("/models/register", json=mine).status_code == 201


def test_unless_the_config_file_lets_them(tmp_path: Path, notes: Path) -> None:
    command = preset(notes)["command"][:-1]
    entry = {"model_id": "free", "engine": "command", "source": "x", "memory_mb": 50}
    entry["options"] = {"command": command, "ready_path": "/ready"}
    with pool_of(tmp_path, notes, allow_commands_by_api=True) as pool:
        assert pool.http.post("/models/register", json=entry).status_code == 201
        answer = pool.http.post("/v1/chat/completions", json=chat("free", "hi"))
        assert content(answer) == "hi hi hi "


def test_auto_says_which_engine_it_took_and_why(tmp_path: Path) -> None:
    program = install(tmp_path)
    models = [{"model_id": "demo", "engine": "gguf", "source": str(DEMO)}]
    with PoolProcess(tmp_path, models, llama_server=str(program)) as pool:
        engines = {e["name"]: e for e in pool.http.get("/engines").json()["engines"]}
        why = f"llama-server: {program} (named in the config file)"
        assert engines["auto"]["reason"].startswith(why)
        before = pool.model("demo")
        assert (before["engine"], before["engine_runs"]) == ("auto", None)
        assert before["architecture"] == "llama"
        assert content(pool.http.post("/v1/chat/completions", json=chat("demo", "hi"))) == "hi"
        assert f"4711 (cafe): {program}" in pool.model("demo")["engine_runs"]
