"""``poolctl import``: what other programs had is served by a pool that starts with it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.llama_server_double import install

from e2e.helpers import chat, content
from e2e.support import PoolProcess
from e2e.test_poolctl import poolctl

DEMO = Path(__file__).parents[2] / "configs" / "models" / "pool-demo.gguf"
SERVER = Path(__file__).parents[1] / "support" / "strict_server.py"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """llama-swap's: a model of llama-server, a server of another kind, and a selector."""
    program, notes = install(tmp_path), tmp_path / "notes"
    notes.mkdir()
    file = tmp_path / "swap.yaml"
    file.write_text(
        f"""
macros: {{server: "{program} --port ${{PORT}}"}}
selectors: {{any: {{strategy: warm, targets: [demo, served]}}}}
models:
  demo:
    cmd: |
      # the program is a macro
      ${{server}} -m {DEMO} \\
      -c 512 -np 2 --jinja
    aliases: [gpt-4o-mini]
    filters: {{setParamsByID: {{"${{MODEL_ID}}:short": {{max_tokens: 1}}}}}}
  served:
    cmd: {sys.executable} {SERVER} --port ${{PORT}} --notes {notes} --model served
    checkEndpoint: /ready
    ttl: 3600
"""
    )
    return file


@pytest.mark.slow
def test_a_file_of_llama_swap_starts_a_pool_that_serves(settings: Path, tmp_path: Path) -> None:
    made = tmp_path / "made.yaml"
    done = poolctl(NOWHERE, "import", "llama-swap", str(settings), "--write", str(made))
    assert done.returncode == 0, done.stderr
    assert f"modelpool up --config {made}" in done.stdout
    assert "models.demo.cmd: --port, --jinja: without effect here" in done.stdout
    text = made.read_text()
    assert text.startswith(f"# Made by `poolctl import llama-swap` from {settings}.")
    converted: dict[str, Any] = yaml.safe_load(text)
    models = converted.pop("models")
    with PoolProcess(tmp_path, models, **converted) as pool:
        assert content(pool.http.post("/v1/chat/completions", json=chat("demo", "hi"))) == "hi"
        by_alias = pool.http.post("/v1/chat/completions", json=chat("gpt-4o-mini", "ho"))
        assert content(by_alias) == "ho"
        short = pool.http.post("/v1/chat/completions", json=chat("demo:short", "a b c"))
        assert short.headers["x-modelpool-changed"] == "max_tokens=1 (override)"
        served = pool.http.post("/v1/chat/completions", json=chat("served", "hi"))
        assert content(served) == "hi hi hi "
        assert content(pool.http.post("/v1/chat/completions", json=chat("any", "hi"))) == "hi"
        assert pool.model("demo")["effective_options"]["context_length"] == 256


@pytest.mark.slow
def test_what_may_be_told_at_run_time_is_applied(settings: Path, tmp_path: Path) -> None:
    """And where the pool refuses a part of it nothing has changed."""
    models = [{"model_id": "own", "engine": "fake", "source": "x", "aliases": ["demo"]}]
    with PoolProcess(tmp_path, models) as pool:
        before = pool.http.get("/config").json()
        done = poolctl(pool, "import", "llama-swap", str(settings), "--apply")
        assert (done.returncode, "'demo'" in done.stderr) == (1, True), done.stderr
        assert pool.http.get("/config").json() == before
        assert pool.http.delete("/models/own").status_code == 200
        done = poolctl(pool, "import", "llama-swap", str(settings), "--apply")
        assert done.returncode == 0, done.stderr
        assert "1 models added" in done.stdout
        assert "virtual models: demo:short\n" in done.stdout
        assert "not told: model served: command can only be said" in done.stdout
        assert "not told: virtual model any: it names served" in done.stdout
        assert pool.http.get("/config").json()["default_ttl_minutes"] == 0
        assert pool.http.get("/virtual-models/demo:short").json()["missing"] == []
