"""A pull whose manager and whose own process are killed in the middle."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from modelpool_client.cli import app
from support.hub import Hub, running_hub
from typer.testing import CliRunner

from e2e.conftest import MakePool
from e2e.helpers import command_line, until
from e2e.support import PoolProcess

GGUF = (Path(__file__).parents[2] / "configs" / "models" / "pool-demo.gguf").read_bytes()
PROGRAM = "modelpool.pulling.program"
# The whole file would take a quarter of a minute.
SLOWLY, PART = 0.12, 200_000


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        hub.repos["owner/tiny"] = {"tiny-Q4_0.gguf": GGUF}
        yield hub


def job_of(pool: PoolProcess) -> dict[str, Any]:
    (job,) = pool.http.get("/jobs", params={"kind": "pull"}).json()["jobs"]
    found: dict[str, Any] = job
    return found


def program_of(pool: PoolProcess) -> psutil.Process:
    children = psutil.Process(pool.pid).children(recursive=True)
    (program,) = [child for child in children if PROGRAM in command_line(child)]
    return program


def test_killed_in_the_middle_it_goes_on(hub: Hub, make_pool: MakePool, tmp_path: Path) -> None:
    models = tmp_path / "models"
    part = models / "owner" / "tiny" / ".tiny-Q4_0.gguf.part"
    slow = {"pull_max_mb_per_second": SLOWLY}
    pool = make_pool(hub_url=hub.url, models_dir=str(models), **slow)
    begun = pool.http.post("/models/pull", json={"source": "hf:owner/tiny"})
    assert begun.status_code == 202, begun.text
    until(lambda: part.exists() and part.stat().st_size > PART, "some of the file")
    program = program_of(pool)
    # In that order: a manager that sees its program die begins it again.
    pool.kill()
    with contextlib.suppress(psutil.NoSuchProcess):
        program.kill()
    until(lambda: not program.is_running(), "the end of the pull's process")
    kept = part.stat().st_size
    assert PART < kept < len(GGUF)
    assert not (models / "owner" / "tiny" / "tiny-Q4_0.gguf").exists()
    settings = json.loads(pool.config.read_text())
    pool.config.write_text(json.dumps(settings | {"pull_max_mb_per_second": 0}))
    pool.start()
    until(lambda: job_of(pool)["state"] == "succeeded", "the pull's end")
    assert (models / "owner" / "tiny" / "tiny-Q4_0.gguf").read_bytes() == GGUF
    assert hub.asked("/lfs/")[-1].headers["range"] == f"bytes={kept}-"
    assert pool.http.get("/models/owner/tiny:Q4_0").json()["state"] == "COLD"


def test_its_process_killed_alone_is_begun_again_by_itself(
    hub: Hub, make_pool: MakePool, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    part = models / "owner" / "tiny" / ".tiny-Q4_0.gguf.part"
    slow = {"pull_max_mb_per_second": SLOWLY}
    pool = make_pool(hub_url=hub.url, models_dir=str(models), **slow)
    begun = pool.http.post("/models/pull", json={"source": "hf:owner/tiny"})
    assert begun.status_code == 202, begun.text
    until(lambda: part.exists() and part.stat().st_size > PART, "some of the file")
    program_of(pool).kill()
    pool.http.patch("/config", json={"pull_max_mb_per_second": 0}).raise_for_status()
    until(lambda: job_of(pool)["state"] == "succeeded", "the pull's end")
    assert (models / "owner" / "tiny" / "tiny-Q4_0.gguf").read_bytes() == GGUF
    job = pool.http.get(f"/jobs/{job_of(pool)['job_id']}").json()
    assert job["attempts"] == 2
    assert any("ended by SIGKILL" in line["text"] for line in job["log"])
    assert "range" in hub.asked("/lfs/")[-1].headers


def test_poolctl(hub: Hub, make_pool: MakePool, tmp_path: Path) -> None:
    models = tmp_path / "models"
    pool = make_pool(hub_url=hub.url, models_dir=str(models))

    def poolctl(*args: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, ["--url", pool.url, *args])
        assert done.exit_code == code, done.output
        return done.output

    assert "(no model)" not in poolctl("disk")
    assert poolctl("run", "owner/tiny", "Hello", "--max-tokens", "4", "--temperature", "0").strip()
    assert "owner/tiny:Q4_0 is there" in poolctl("pull", "owner/tiny")
    assert "hf:owner/tiny" in poolctl("disk")
    assert "current" in poolctl("outdated")
    hub.repos["owner/tiny"]["tiny-Q4_0.gguf"] = GGUF + b"\0" * 32
    assert "outdated" in poolctl("outdated", code=1)
    assert "0 files" in poolctl("prune", "--dry-run")
    assert "say --yes" in poolctl("rm", "owner/tiny:Q4_0", code=1)
    assert "1 files, 1.8 MB" in poolctl("rm", "owner/tiny:Q4_0", "--yes")
    assert not list(models.rglob("*.gguf"))
