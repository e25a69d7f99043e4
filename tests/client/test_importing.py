"""``poolctl import`` of other programs' settings: what it prints and when it does nothing. Which
settings become what is tested with the server's converters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from modelpool_client.cli import app, importing, server_program
from modelpool_client.cli.session import refuse
from typer.testing import CliRunner, Result

FOUND: dict[str, Any] = {
    "program": "llama-swap",
    "config": {"models": [{"model_id": "m"}]},
    "yaml": "# told\n\nmodels: []\n",
    "remarks": [{"setting": "groups", "text": "decided by memory"}],
    "warnings": ["a warning"],
    "by_api": {"config": {}, "models": [], "virtual_models": {}, "left": {}},
}
Asked = list[tuple[str, ...]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What the server's program was asked."""
    calls: Asked = []

    def ask(*arguments: str) -> dict[str, Any]:
        calls.append(arguments)
        return json.loads(json.dumps(FOUND))

    monkeypatch.setattr(importing, "ask_server", ask)
    return calls


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["import", *arguments])


def test_without_more_it_shows_the_file(asked: Asked) -> None:
    done = run("llama-swap", "/x/config.yaml")
    assert done.stdout.splitlines()[:3] == ["# told", "", "models: []"]
    assert "warning: a warning" in done.stdout
    assert "Nothing was done" in done.stdout
    assert asked == [("convert", "llama-swap", "/x/config.yaml")]
    assert json.loads(run("ollama", "--json").stdout) == FOUND
    assert run("lmstudio").exit_code == 0
    assert asked[1:] == [("convert", "ollama"), ("convert", "lmstudio")]


def test_it_writes_a_new_file_only(asked: Asked, tmp_path: Path) -> None:
    file = tmp_path / "pool.yaml"
    done = run("llama-swap", "--write", str(file))
    assert f"{file} is written, with 1 models" in done.stdout
    assert "- groups: decided by memory" in done.stdout
    assert file.read_text() == FOUND["yaml"]
    again = run("llama-swap", "--write", str(file))
    assert (again.exit_code, "is there already" in again.stderr) == (1, True)
    nowhere = run("llama-swap", "--write", str(tmp_path / "no" / "pool.yaml"))
    assert (nowhere.exit_code, "cannot write" in nowhere.stderr) == (1, True)
    both = run("llama-swap", "--write", "x", "--apply")
    assert (both.exit_code, "not both" in both.stderr) == (1, True)
    assert len(asked) == 2


def test_the_server_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*arguments: str) -> None:
        raise refuse("config.yaml cannot be read")

    monkeypatch.setattr(importing, "ask_server", ask)
    done = run("llama-swap")
    assert (done.exit_code, done.stderr) == (1, "error: config.yaml cannot be read\n")


def test_without_the_server_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_program, "PROGRAM", "modelpool_that_nobody_has")
    done = run("ollama")
    assert (done.exit_code, "pip install 'modelpool[server,llama]'" in done.stderr) == (1, True)


def test_a_pool_keeps_the_folders_that_it_has() -> None:
    stored = {"path": None, "source": "ollama"}
    before = {"discovery_paths": ["/own", stored], "default_ttl_minutes": 15}
    found = {"discovery_paths": [{"source": "ollama"}, "/new"], "default_ttl_minutes": 5}
    assert importing.with_own(before, found) == {
        "discovery_paths": ["/own", stored, "/new"],
        "default_ttl_minutes": 5,
    }
