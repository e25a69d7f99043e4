"""Every command of the docs, as it stands there, on a real pool with the demo model; but for those
that say what they need, or which other test runs them (``support.doc_blocks``)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.doc_blocks import Block, blocks, pages

from e2e.helpers import clean_environment
from e2e.support import PoolProcess

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs" / "models" / "pool-demo.gguf"
RUN = [found for page in pages() if (found := [b for b in blocks(page) if b.is_run])]
# These go on until somebody ends them.
FOLLOWS = re.compile(r"^(poolctl events)( *#.*)?$", re.MULTILINE)
BLOCK_SECONDS = 120


@pytest.fixture(scope="module")
def pool_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    options = {"temperature": 0, "parallel": 4, "threads": 1}
    demo = {"model_id": "pool-demo", "engine": "llama.cpp", "source": str(DEMO), "warmup": True}
    folder = tmp_path_factory.mktemp("docs")
    models = [{**demo, "options": options}]
    with PoolProcess(folder, models, option_file_paths=[str(folder)]) as pool:
        pool.wait_for("pool-demo", "HOT")
        yield pool


@pytest.fixture
def pool(pool_of_all: PoolProcess) -> Iterator[PoolProcess]:
    """As a reader of the page has it, who may have read no other."""
    yield pool_of_all
    pool_of_all.delete_models(but="pool-demo")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with what people have who come from another program."""
    models = tmp_path / "models"
    models.mkdir()
    (models / "some-Q8_0.gguf").write_bytes(DEMO.read_bytes())
    (tmp_path / "config.yaml").write_text(f"models: {{a: {{cmd: llama-server -m {DEMO}}}}}\n")
    (tmp_path / ".ollama" / "models" / "manifests").mkdir(parents=True)
    (tmp_path / ".lmstudio" / "models").mkdir(parents=True)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("found", RUN, ids=lambda found: found[0].page)
def test_the_commands_of_a_page_do_what_it_says(
    pool: PoolProcess, home: Path, found: list[Block]
) -> None:
    environment = clean_environment(
        HOME=str(home),
        MODELPOOL_URL=pool.url,
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        COLUMNS="200",
    )
    for block in found:
        for command, lines in _commands(block, pool):
            done = subprocess.run(
                command,
                cwd=home,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=BLOCK_SECONDS,
            )
            said = done.stdout + done.stderr
            shown = " ".join(said.split())
            assert done.returncode == 0, f"{block}: {command[-1]}\n{said}"
            for line in lines:
                wanted = " ".join(line.split())  # columns are as wide as what is in them
                assert wanted in shown, f"{block}: {command[-1]} says no {line!r}, but\n{said}"


def _commands(block: Block, pool: PoolProcess) -> Iterator[tuple[list[str], list[str]]]:
    """Each with the lines that it is to say; … stands for any text."""
    text = _here(block.text, pool)
    if block.kind == "python":
        yield [sys.executable, "-c", text], []
    elif block.kind == "sh":
        text = FOLLOWS.sub(r"timeout 2 \1 || test $? = 124", text)
        yield ["bash", "-euo", "pipefail", "-c", text], []
    else:
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, *lines = part.strip().splitlines()
            wanted = [piece for line in lines for piece in line.split("…") if piece.strip()]
            yield ["bash", "-euo", "pipefail", "-c", command], wanted


def _here(text: str, pool: PoolProcess) -> str:
    """With this pool's addresses, and a file where the page has a place for one."""
    demo_port = json.loads(pool.http.get("/models/pool-demo").text)["port"] or pool.ports[0]
    for name in ("localhost", "127.0.0.1"):
        text = text.replace(f"{name}:8050", f"127.0.0.1:{pool.port}")
        text = text.replace(f"{name}:8051", f"127.0.0.1:{demo_port}")
    return text.replace(".venv/bin/", "").replace("/path/to/model.gguf", str(DEMO))
