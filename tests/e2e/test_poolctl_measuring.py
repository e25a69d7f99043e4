"""``poolctl bench``, ``tune``, ``options`` and ``discover`` against a real pool."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from make_bench_gguf import write_random_gguf

from e2e.helpers import WAIT_SECONDS, clean_environment, command_line, fake, until
from e2e.support import PoolProcess
from e2e.test_poolctl import COMMAND, document, out, poolctl

# Exit codes, as ``poolctl --help`` has them.
FAILED, USAGE, NO_MODEL, INTERRUPTED = 1, 2, 4, 130

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    models = [
        fake("quick", options={"tokens_per_second": 500}),
        fake("steady", options={"tokens_per_second": 100}),
        fake("slower", options={"tokens_per_second": 20}),
        fake("slow", options={"tokens_per_second": 20}),
        fake("hears", options={}, capabilities=["speech_to_text"]),
    ]
    with PoolProcess(tmp_path_factory.mktemp("pool"), models, ports=6) as pool:
        yield pool


def refused(pool: PoolProcess, code: int, *arguments: str) -> str:
    """What it says on standard error; nothing is on the other."""
    done = poolctl(pool, *arguments)
    assert (done.returncode, done.stdout) == (code, ""), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def jobs(pool: PoolProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pool.http.get("/jobs").json()["jobs"]
    return found


def test_bench_shows_figures_beside_those_of_the_last_time(pool: PoolProcess) -> None:
    first = out(pool, "bench", "quick", "--runs", "1", "--streams", "1", "--streams", "2")
    for title in (
        "STREAMS",
        "first token, ms",
        "output, tokens/s",
        "latency, ms",
        " MB, loaded in",
    ):
        assert title in first
    assert "TEXTS" not in first
    assert "%" not in first
    assert "3 requests, 0 failed; fake" in first
    again = document(pool, "bench", "quick", "--runs", "1", "--streams", "1")
    assert again["state"] == "succeeded"
    assert {row["streams"] for row in again["result"]["changes"]} == {1}
    assert "%" in out(pool, "bench", "quick", "--runs", "1", "--streams", "1")


def test_tune_finds_options_and_takes_them_back(pool: PoolProcess) -> None:
    asked = ("--goal", "one-stream", "--option", "turbo", "--budget", "60")
    found = out(pool, "tune", "steady", *asked)
    assert "turbo=True: " in found
    assert "x the defaults" in found
    assert "`poolctl tune steady --undo` takes it back" in found
    assert "not tried: memory_mb=100000000 turbo=True: " in found
    shown = out(pool, "options", "steady")
    assert "tuned for one-stream" in shown
    undone = document(pool, "tune", "steady", "--undo")
    assert undone["undone"]["options"] == {"turbo": True}
    assert "steady was not tuned" in out(pool, "tune", "steady", "--undo")


def test_options_are_shown_and_saved(pool: PoolProcess) -> None:
    def saved() -> dict[str, Any]:
        options = document(pool, "options", "quick")["options"]
        return {o["name"]: o["saved"] for o in options if o["saved"] is not None}

    shown = out(pool, "options", "quick")
    for word in ("OPTION", "IN FORCE", "tokens_per_second", "saved", "turbo", "default"):
        assert word in shown
    out(pool, "options", "quick", "tokens=5", "turbo=true")
    assert saved() == {"tokens_per_second": 500, "tokens": 5, "turbo": True}
    out(pool, "options", "quick", "--unset", "tokens", "--unset", "turbo")
    assert saved() == {"tokens_per_second": 500}
    assert "options.tokens" in refused(pool, FAILED, "options", "quick", "tokens=many")
    assert saved() == {"tokens_per_second": 500}


WRONG = [
    (NO_MODEL, ("bench", "none"), "none"),
    (NO_MODEL, ("tune", "none"), "none"),
    (NO_MODEL, ("tune", "none", "--undo"), "none"),
    (NO_MODEL, ("options", "none"), "none"),
    (USAGE, ("options", "quick", "tokens"), "KEY=VALUE"),
    (FAILED, ("options", "quick", "unheard_of=1"), "unheard_of"),
    (USAGE, ("bench", "quick", "--runs", "0"), "--runs"),
    (USAGE, ("bench", "quick", "--streams", "65"), "--streams"),
    (FAILED, ("bench", "quick", "--texts", "2"), "texts"),
    (USAGE, ("tune", "quick", "--goal", "fastest"), "fastest"),
    (FAILED, ("tune", "quick", "--option", "tokens"), "tokens"),
    (USAGE, ("tune", "quick", "--budget", "0"), "--budget"),
    (FAILED, ("discover", "http://elsewhere/x"), "elsewhere"),
]


@pytest.mark.parametrize(("code", "arguments", "said"), WRONG)
def test_what_is_wrong_is_said_and_nothing_begun(
    pool: PoolProcess, code: int, arguments: tuple[str, ...], said: str
) -> None:
    before = jobs(pool)
    assert said in refused(pool, code, *arguments)
    assert jobs(pool) == before


def test_what_cannot_be_measured_is_said(pool: PoolProcess) -> None:
    for verb in ("bench", "tune"):
        done = poolctl(pool, verb, "hears")
        assert done.returncode not in (0, INTERRUPTED)
        assert "speech_to_text" in done.stderr


def test_a_job_that_fails_is_no_success(pool: PoolProcess) -> None:
    body = {"model": "slow", "messages": [{"role": "user", "content": "a b c " * 1000}]}
    with pool.http.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as busy:
        pieces = busy.iter_bytes()  # whoever drops it leaves
        next(pieces)
        done = poolctl(pool, "bench", "quick", "--wait", "0")
        assert (done.returncode, done.stderr) == (FAILED, "")
        assert "failed: quick is not measured: slow is at work" in done.stdout
        told = poolctl(pool, "bench", "quick", "--wait", "0", "--json")
        assert (told.returncode, json.loads(told.stdout)["code"]) == (FAILED, "machine_busy")
    until(lambda: not pool.model("slow")["in_flight"], "the end of what was left")


@pytest.mark.parametrize("verb", ["bench", "tune"])
def test_who_interrupts_leaves_the_job_alone(pool: PoolProcess, verb: str) -> None:
    told = out(pool, verb, "slower", "--detach")
    job_id = told.split()[0]
    assert f"`poolctl jobs watch {job_id}` shows it" in told
    process = subprocess.Popen(
        [*COMMAND, "jobs", "watch", job_id],
        env=clean_environment(MODELPOOL_URL=pool.url, COLUMNS="200"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: _is_at_work(pool, job_id), "the first requests")
        until(lambda: _is_waiting(pool, process), "it to wait for the job")
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=WAIT_SECONDS)
    finally:
        process.kill()
    assert (process.returncode, printed) == (INTERRUPTED, "")
    assert f"{job_id} goes on; `poolctl jobs watch {job_id}` shows it" in said
    assert "Traceback" not in said
    assert document(pool, "jobs", "show", job_id)["state"] == "running"
    assert "cancelled" in out(pool, "jobs", "cancel", job_id)
    until(lambda: not any("slower" in command_line(p) for p in pool.fronts()), "their end")


def _is_at_work(pool: PoolProcess, job_id: str) -> bool:
    text = pool.http.get(f"/jobs/{job_id}").json()["progress"]["text"]
    fronts = [p for p in pool.fronts() if "slower" in command_line(p)]
    return bool(fronts) and text.startswith(("run ", "tries "))


def _is_waiting(pool: PoolProcess, process: subprocess.Popen[str]) -> bool:
    """It has a connection to the manager."""
    found = psutil.Process(process.pid).net_connections()
    return any(c.raddr and c.raddr.port == pool.port for c in found)


def test_discover_says_what_it_found(pool: PoolProcess, tmp_path: Path) -> None:
    write_random_gguf(tmp_path / "small.gguf")
    (tmp_path / "torn.gguf").write_bytes(b"GGUF" + b"\0" * 20)
    told = out(pool, "discover", str(tmp_path))
    assert "1 discovered, 0 changed, 0 vanished" in told
    assert "1 broken" in told
    assert "`poolctl discover --broken` shows why" in told
    assert "torn.gguf" in out(pool, "discover", "--broken")
    listed = out(pool, "discover", "--list")
    assert str(tmp_path) in listed
    assert "small.gguf" in listed
    again = document(pool, "discover", str(tmp_path))
    assert (again["state"], again["result"]["discovered"]) == ("succeeded", 0)
    findings = document(pool, "discover", "--list")["findings"]
    (name,) = [each["model_id"] for each in findings if each["model_id"]]
    out(pool, "delete", name)
    assert "0 discovered" in out(pool, "discover", str(tmp_path))
    assert "1 discovered" in out(pool, "discover", str(tmp_path), "--restore")
