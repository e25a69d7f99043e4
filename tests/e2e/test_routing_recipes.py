"""The examples of docs/routing.md, docs/ensembles.md and docs/batching.md, as they stand there, on
real pools."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from modelpool_client.cli.app import app
from support.plugins import stranger
from typer.testing import CliRunner

from e2e.conftest import MakePool
from e2e.helpers import clean_environment, fake, until
from e2e.support import PoolProcess

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)
URL = "http://127.0.0.1:8050"
# Workers tell of their requests with a beat, which is awaited; asked again these change nothing.
LATER = ("poolctl usage", "poolctl requests")
FINDING = """
import time
from modelpool_worker.batching.options import OPTIONS
from modelpool_worker.engine import Engine, Usable
from modelpool_worker.hosting.contract import Hosted

class Stranger(Engine):
    name = "finding"
    formats = ("none",)
    capabilities = ("embeddings",)
    surfaces = ("/v1/embeddings",)
    options = OPTIONS

    def probe(self):
        return Usable(True)

    def memory_bytes(self, source, options):
        return 1_000_000

    def serve(self, job, status):
        from modelpool_worker.hosting.server import serve
        serve(job, status, Hosted(embeddings=Model()))

class Model:
    context_length = 100

    def encode(self, text):
        return list(text.encode())

    def embed(self, batch):
        time.sleep(0.05)
        return [[float(len(tokens)), 1.0] for tokens in batch]
"""


def commands(block: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a block with the lines that its output has."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *lines = part.strip().splitlines()
        yield command, lines


def environment(pool: PoolProcess) -> dict[str, str]:
    programs = Path(sys.executable).parent
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return clean_environment(MODELPOOL_URL=pool.url, PATH=path, COLUMNS="200")


def say(pool: PoolProcess, command: str) -> str:
    """The output of a command of a shell; those of poolctl alone need no process of their own."""
    command = command.replace(URL, pool.url)
    words = shlex.split(command)
    if words[0] != "poolctl" or "|" in words:
        return run(pool, ["bash", "-c", command])
    return CliRunner().invoke(app, words[1:], env=environment(pool)).output


def run(pool: PoolProcess, command: list[str]) -> str:
    done = subprocess.run(
        command, env=environment(pool), capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr


def test_the_examples_do_what_the_page_says(
    make_pool: MakePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pool = make_pool(
        fake("small", metadata={"quality": 0.7}),
        fake("large", options={"reply": "large"}, metadata={"quality": 0.85}),
        fake("broken", options={"fail_load": "oom"}, metadata={"quality": 0.95}),
        fake("topics", options={"reply": "billing"}, metadata={"quality": 0.1}),
    )
    check(pool, "routing.md")


def test_the_examples_of_models_made_of_several(make_pool: MakePool) -> None:
    replies = {
        "a": "42",
        "b": "42",
        "c": "41",
        "judge": "2",
        "unsure": "I'm sorry, but I can't help with that.",
    }
    pool = make_pool(
        *(fake(name, options={"reply": reply}) for name, reply in replies.items()),
        fake("broken", options={"fail_load": "oom"}),
        fake("slow", options={"first_token_seconds": 600}),
        ports=12,
    )
    check(pool, "ensembles.md")


def test_the_examples_of_many_requests(make_pool: MakePool, site: Path) -> None:
    stranger("finding", FINDING, site)
    options = {"batch_policy": "latency", "max_batch_size": 32, "batch_target_p95_ms": 200}
    pool = make_pool({**fake("finder"), "engine": "finding", "options": options})
    check(pool, "batching.md", least=4)


def check(pool: PoolProcess, page: str, least: int = 8) -> None:
    """Every example of a page says what stands under it."""
    blocks = BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    assert len(blocks) >= least
    for kind, block in blocks:
        if kind == "python":
            assert run(pool, [sys.executable, "-c", block.replace(URL, pool.url)]) == ""
            continue
        for command, lines in commands(block):
            assert lines, f"{command} says nothing"
            if command.startswith(LATER):
                until(partial(says, pool, command, lines), f"{command} to say {lines}")
            output = say(pool, command)
            for line in lines:
                assert line in output, (command, line, output)


def says(pool: PoolProcess, command: str, lines: Sequence[str]) -> bool:
    output = say(pool, command)
    return all(line in output for line in lines)
