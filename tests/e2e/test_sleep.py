"""Models that sleep in place of an unload, with a stand-in for vLLM that really holds memory."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.vllm_server import vllm_entry, vllm_preset

from e2e.conftest import MakePool
from e2e.helpers import alive, in_background, result, until
from e2e.support import PoolProcess

Start = Callable[..., PoolProcess]
WEIGHTS, CACHE = 40, 120
BIG = {"weights_mb": WEIGHTS, "cache_mb": CACHE}
SLOW = pytest.mark.slow
SOON = {"default_ttl_minutes": 0.02, "grace_minutes": 0.01}


def entry(folder: Path, model_id: str = "m", **more: Any) -> dict[str, Any]:
    return {**vllm_entry(model_id, folder, **{**BIG, **more}), "memory_mb": WEIGHTS + CACHE + 100}


@pytest.fixture
def start(make_pool: MakePool, tmp_path: Path) -> Start:
    """A pool whose vLLM is the stand-in."""

    def make(*entries: dict[str, Any], **keys: Any) -> PoolProcess:
        return make_pool(*entries, engine_presets=vllm_preset(tmp_path), **keys)

    return make


def notes(folder: Path, model_id: str = "m") -> list[str]:
    path = folder / f"notes-{model_id}" / "log.txt"
    return path.read_text().splitlines() if path.exists() else []


def told(folder: Path, model_id: str = "m") -> list[str]:
    """What the server was asked, but for computing."""
    return [line.split(" ")[0] for line in notes(folder, model_id)]


def is_to(folder: Path, what: str, how: str, model_id: str = "m") -> None:
    notes = folder / f"notes-{model_id}"
    notes.mkdir(exist_ok=True)
    (notes / "fault.json").write_text(json.dumps({what: how}))


def asleep(pool: PoolProcess, model_id: str = "m") -> dict[str, Any]:
    def look() -> dict[str, Any]:
        view = pool.model(model_id)
        return view if view["sleeping"] else {}

    return until(look, f"{model_id} to sleep")


def started(plan: dict[str, Any]) -> dict[str, Any]:
    return plan if plan["action"] == "start" else {}


def names(pool: PoolProcess, model_id: str = "m") -> list[str]:
    return [event["event"] for event in pool.events() if event.get("model_id") == model_id]


@pytest.mark.parametrize("level", [1, 2])
def test_idle_asleep_and_awake_again(start: Start, tmp_path: Path, level: int) -> None:
    """Memory is back while it sleeps; the next request wakes it up, and is computed once."""
    pool = start(entry(tmp_path, sleep_level=level), **SOON)
    assert pool.ask("m", "first") == "first"
    loaded = pool.model("m")
    view = asleep(pool)
    assert (view["state"], view["port"], view["endpoint"]) == ("COLD", None, None)
    assert view["sleeping"]["level"] == level
    assert view["worker_pid"] == loaded["worker_pid"]
    left = 0 if level == 2 else WEIGHTS
    back = WEIGHTS + CACHE - left
    assert view["sleeping"]["memory_mb"] < WEIGHTS + CACHE + 100 - 0.9 * back
    assert pool.http.get("/health").json()["active_models"] == 0
    assert 'modelpool_asleep{model="m"} 1.0' in pool.http.get("/metrics").text
    assert pool.ask("m", "second") == "second"
    assert pool.model("m")["worker_pid"] == loaded["worker_pid"]
    assert notes(tmp_path).count("compute second") == 1
    assert told(tmp_path).count("load") == 1
    reasons = [reason for name, reason in pool.story("m") if name == "model-loading"]
    assert reasons == ["loading: a request came", "waking: a request came"]
    assert "model-asleep" in [name for name, _ in pool.story("m")]


def test_a_server_whose_preset_says_how_it_sleeps(make_pool: MakePool, tmp_path: Path) -> None:
    own = {
        "command": [
            *(vllm_preset(tmp_path)["vllm"]["program"], "serve", "{source}"),
            *("--host", "127.0.0.1", "--port", "{port}", "--served-model-name", "{model_id}"),
            *(["--enable-sleep-mode", "{?sleep}"], "{*arguments}"),
        ],
        "environment": {"VLLM_SERVER_DEV_MODE": "1"},
        "sleep": [{"level": 1, "sleep": ["/sleep?level=1"], "wake": ["/wake_up"]}],
    }
    pool = make_pool({**entry(tmp_path), "engine": "mine"}, engine_presets={"mine": own}, **SOON)
    assert pool.ask("m", "first") == "first"
    assert asleep(pool)["sleeping"]["level"] == 1
    assert pool.ask("m", "second") == "second"
    assert told(tmp_path) == ["load", "compute", "/sleep?level=1", "/wake_up", "compute"]


def test_requests_share_one_waking_and_it_is_quicker_than_a_load(
    start: Start, tmp_path: Path
) -> None:
    pool = start(entry(tmp_path, load_seconds=2), **SOON)
    pool.ask("m", "first")
    asleep(pool)
    texts = [f"text {n}" for n in range(5)]
    tasks = [in_background(partial(pool.ask, "m", text)) for text in texts]
    assert [result(task) for task in tasks] == texts
    assert told(tmp_path).count("/wake_up") == told(tmp_path).count("load") == 1
    moves = [e for e in pool.events() if e["event"] in ("model-loading", "model-loaded")]
    reasons = [event["reason"].split(":")[0] for event in moves]
    assert reasons == ["loading", "loaded", "waking", "woken up"]
    loading, loaded, waking, woken = (datetime.fromisoformat(event["at"]) for event in moves)
    assert woken - waking < loaded - loading


def test_one_makes_room_for_another_by_sleeping(start: Start, tmp_path: Path) -> None:
    """In turns, where one at a time may be in memory, each is loaded once."""
    entries = [entry(tmp_path, name) for name in ("a", "b")]
    pool = start(*entries, max_concurrent_models=1)
    for turn in range(3):
        for name in ("a", "b"):
            assert pool.ask(name, f"turn {turn}") == f"turn {turn}"
    assert told(tmp_path, "a").count("load") == told(tmp_path, "b").count("load") == 1
    assert asleep(pool, "a")["reason"].startswith("asleep: evicted to make room for b")
    plan = until(lambda: started(pool.http.get("/models/a/plan").json()), "that it may go")
    assert "woken up" in plan["reason"]
    assert "falls asleep" in plan["evict"][0]["reason"]


def test_what_sleeps_goes_first(start: Start, tmp_path: Path) -> None:
    """Host memory for both is not there, awake or asleep."""
    entries = [entry(tmp_path, name) for name in ("a", "b")]
    pool = start(*entries, memory_limit_mb=WEIGHTS + CACHE + 120, **SOON)
    pool.ask("a", "x")
    pid = asleep(pool, "a")["worker_pid"]
    assert pool.ask("b", "x") == "x"
    assert not alive(pid)
    assert ("model-evicted", "evicted to make room for b") in pool.story("a")
    assert pool.model("a")["sleeping"] is None


@SLOW
def test_it_is_unloaded_when_told_when_its_time_is_over_and_when_it_is_changed(
    start: Start, tmp_path: Path
) -> None:
    pool = start(entry(tmp_path), **SOON)
    for end in ("unload", "time", "change"):
        pool.ask("m", end)
        pid = asleep(pool)["worker_pid"]
        if end == "unload":
            assert pool.http.post("/models/m/unload", json={}).status_code == 200
        elif end == "time":
            pool.http.patch("/config", json={"sleep_minutes": 0.001})
        else:
            pool.http.patch("/models/m/options", json={"parallel": 2})
        until(lambda pid=pid: not alive(pid), "its end")
        until(lambda: pool.model("m")["sleeping"] is None, "the news of it")
        pool.http.patch("/config", json={"sleep_minutes": 60})
    assert pool.ask("m", "last") == "last"
    assert told(tmp_path).count("load") == 4


WAYS = [pytest.param("refuse", marks=SLOW), "die", pytest.param("ignore", marks=SLOW)]


@pytest.mark.parametrize("how", WAYS)
def test_one_that_fails_to_sleep_is_unloaded(start: Start, tmp_path: Path, how: str) -> None:
    pool = start(entry(tmp_path), **SOON)
    is_to(tmp_path, "sleep", how)
    pid = pool.load("m")["worker_pid"]
    until(lambda: not alive(pid), "its end")
    until(lambda: "model-not-asleep" in names(pool), "the news of it")
    assert pool.ask("m", "second") == "second"
    pool.wait_for("m", "COLD")
    assert told(tmp_path).count("/sleep?level=1") == 1, "it was tried again"


@pytest.mark.parametrize("how", WAYS)
def test_one_that_does_not_wake_up_is_loaded(start: Start, tmp_path: Path, how: str) -> None:
    pool = start(entry(tmp_path), **SOON)
    pool.ask("m", "first")
    asleep(pool)
    is_to(tmp_path, "wake", how)
    assert pool.ask("m", "second") == "second"
    assert told(tmp_path).count("load") == 2
    assert "model-not-woken" in names(pool)


@pytest.mark.parametrize("whom", [pytest.param("worker_pid", marks=SLOW), "engine_pid"])
def test_killed_asleep(start: Start, tmp_path: Path, whom: str) -> None:
    pool = start(entry(tmp_path), **SOON)
    pool.ask("m", "first")
    os.kill(asleep(pool)[whom], signal.SIGKILL)
    until(lambda: pool.model("m")["sleeping"] is None, "the news of it")
    assert pool.state_of("m") == "COLD"
    assert "while it slept" in pool.model("m")["reason"]
    assert pool.ask("m", "second") == "second"


def test_a_new_manager_knows_that_it_sleeps(start: Start, tmp_path: Path) -> None:
    pool = start(entry(tmp_path), **SOON)
    pool.ask("m", "first")
    before = asleep(pool)
    pool.kill()
    pool.start()
    after = asleep(pool)
    assert after["worker_pid"] == before["worker_pid"]
    assert pool.ask("m", "second") == "second"
    assert told(tmp_path).count("load") == 1


@SLOW
def test_off(start: Start, tmp_path: Path) -> None:
    pool = start(entry(tmp_path), **SOON, sleep_minutes=0)
    pid = pool.load("m")["worker_pid"]
    until(lambda: not alive(pid), "its end")
    assert "/sleep?level=1" not in told(tmp_path)
