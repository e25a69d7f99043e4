"""An engine that only another virtual environment has: said before anybody asks, installed by a
job from wheels of this machine alone, served from there, and its version watched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest
from support.wheels import repack, write_package

from e2e.helpers import content, until
from e2e.support import PoolProcess
from e2e.test_poolctl import out, poolctl

NEEDED = ("httpx", "typer", "rich", "httptools", "psutil", "uvloop", "wsproto", "python-multipart")
ENGINE = """
from modelpool_worker.engine import Usable
from modelpool_worker.engines.fake import Fake

class Odd(Fake):
    name = "odd"
    for_tests = False

    def probe(self):
        return Usable(True, version="odd 1")
"""
ENTRY = "[modelpool.engines]\nodd = odd_engine:Odd\n"
MODEL = {"model_id": "m", "engine": "odd", "environment": "other", "source": "none"}
SECONDS = 240


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    repack(NEEDED, folder)
    write_package(folder, "odd_engine", {"odd_engine.py": ENGINE}, ENTRY)
    return folder


@pytest.fixture
def pool(tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    # Where pip looks is its user's own configuration, as here.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    environments = {"other": {"packages": ["odd_engine==1.0"]}}
    with PoolProcess(tmp_path, [MODEL], ports=3, environments=environments) as pool:
        yield pool


def job(pool: PoolProcess, **body: Any) -> dict[str, Any]:
    answer = pool.http.post("/jobs", json={"kind": "install", **body}, timeout=SECONDS)
    assert answer.status_code in (200, 202), answer.text
    found: dict[str, Any] = answer.json()
    return found


def waited(pool: PoolProcess, job_id: str) -> dict[str, Any]:
    answer = pool.http.get(f"/jobs/{job_id}", params={"wait": SECONDS}, timeout=SECONDS + 10)
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.slow
def test_an_engine_of_another_environment(pool: PoolProcess) -> None:
    problem = pool.http.get("/models/m").json()["engine_problem"]
    assert problem == (
        "environment other has not been made: `poolctl engines install other` makes it"
    )
    assert pool.http.get("/v1/models/m").json()["engine_problem"] == problem
    assert "NO ENGINE" in out(pool, "list")
    refused = pool.chat("m", "hello")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "missing_dependency")
    assert "poolctl engines install other" in refused.json()["error"]["message"]
    assert pool.http.get("/models/m").json()["worker_pid"] is None

    # Ended in the middle, it is not finished; begun again, it goes on.
    begun = job(pool, name="other")
    until(lambda: pool.http.get(f"/jobs/{begun['job_id']}").json()["log"], "pip's first line")
    ended = pool.http.post(f"/jobs/{begun['job_id']}/cancel").json()
    assert ended["state"] == "cancelled"
    assert not (pool.state / "environments" / "other" / "environment.json").exists()
    pool.http.post(f"/jobs/{begun['job_id']}/resume")
    done = waited(pool, begun["job_id"])
    assert done["state"] == "succeeded", (done["reason"], done["log"])
    assert "odd" in done["result"]["usable"]
    assert done["result"]["requirements"] == ["modelpool[worker]", "odd_engine==1.0"]
    lines = [line["text"] for line in done["log"]]
    assert any(line.startswith("Successfully installed") for line in lines)

    assert pool.http.get("/models/m").json()["engine_problem"] == ""
    assert content(pool.chat("m", "hello")) == "hello"
    front = psutil.Process(pool.http.get("/models/m").json()["worker_pid"])
    assert front.cmdline()[0] == str(pool.state / "environments/other/bin/python")
    engines = {e["name"]: e for e in pool.http.get("/engines").json()["engines"]}
    assert (engines["odd"]["environment"], engines["odd"]["is_plugin"]) == ("other", True)
    assert "fake" not in engines
    assert "odd" in out(pool, "engines")

    again = job(pool, name="other")
    assert waited(pool, again["job_id"])["state"] == "succeeded"

    # Somebody else's modelpool comes to lie in there.
    (source,) = pool.state.glob(
        "environments/other/lib/*/site-packages/modelpool_client/__init__.py"
    )
    version = pool.http.get("/health").json()["version"]
    source.write_text(source.read_text().replace(f'"{version}"', '"0.0.1"'))
    assert "environment other" in (told := poolctl(pool, "doctor").stdout)
    assert "it has modelpool 0.0.1" in " ".join(told.split())
    assert pool.http.post("/models/m/unload").status_code in (200, 202)
    until(lambda: pool.state_of("m") == "COLD", "the unload")
    assert content(pool.chat("m", "hello")) == "hello"
    until(lambda: "its worker is of modelpool 0.0.1" in pool.log(), "the warning")


@pytest.mark.slow
def test_what_cannot_be_installed(pool: PoolProcess, wheels: Path) -> None:
    for name, status in (("nothing", 404), ("fake", 409), (3, 400)):
        answer = pool.http.post("/jobs", json={"kind": "install", "name": name})
        assert answer.status_code == status, answer.text
    (wheels / "odd_engine-1.0-py3-none-any.whl").rename(wheels / "odd_engine-2.0-py3-none-any.whl")
    failed = waited(pool, job(pool, name="other")["job_id"])
    assert (failed["state"], failed["code"]) == ("failed", "install_failed")
    assert "odd_engine" in failed["reason"]
    assert "is not finished" in pool.http.get("/models/m").json()["engine_problem"]
