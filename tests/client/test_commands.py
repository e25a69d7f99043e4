"""What holds for every command of ``poolctl``, those that are added later too: help, --json, and an
error that says what is wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from modelpool_client.cli import app
from typer.main import get_command
from typer.testing import CliRunner

WHY = "not now, for some reason"
# They ask no pool, or not first; of what they say: test_cli.py, test_service.py, test_importing.py.
WITHOUT_A_POOL = {
    *("version", "doctor", "service install", "service status", "service uninstall"),
    *("import llama-swap", "import lmstudio", "import ollama"),
}
# Of arguments by their names; others are a word. What is a file has to be one.
VALUES = {"MINUTES": "5", "VERSION": "1", "SOURCE": "hf:a/b", "KEY=VALUE...": "grace_minutes=1"}
VALUES |= {"NUMBER": "1", "PARAMETER=VALUE...": "temperature=0", "kind": "settings", "FILE": "FILE"}
# What a command wants beside its arguments before it asks.
MORE = {
    "register": ("m", "--source", "/nowhere/x.gguf"),
    "alias set": ("m",),
    "rm": ("--yes",),
    "prune": ("--yes",),
    "alerts silence": ("--model", "m"),
    "outcomes report": ("--good",),
}


def _commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(_commands(get_command(app)))


class Refusing(BaseHTTPRequestHandler):
    """A pool that says no to everything."""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        said = {"message": WHY, "type": "conflict", "code": "conflict", "source": "pool"}
        body = json.dumps({"error": said}).encode()
        self.send_response(409)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def refusing() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize("name", COMMANDS)
def test_it_says_what_it_is_for(name: str) -> None:
    told = run(*name.split(), "--help")
    assert told.exit_code == 0
    assert name in told.stdout
    assert COMMANDS[name].help.strip()


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in WITHOUT_A_POOL])
def test_its_errors_are_for_programs_too(name: str, refusing: str, tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    file.write_text('{"models": []}')
    needed = [p for p in COMMANDS[name].params if p.param_type_name == "argument" and p.required]
    arguments = [VALUES.get(p.metavar or p.name, "m") for p in needed]
    arguments = [str(file) if each == "FILE" else each for each in arguments]
    line = ["--url", refusing, *name.split(), *arguments, *MORE.get(name, ())]
    told = run(*line, "--json")
    assert (told.exit_code, told.stdout) == (1, ""), (line, told.output)
    assert json.loads(told.stderr)["error"]["message"] == WHY
