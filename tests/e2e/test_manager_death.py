"""The manager is killed: workers serve on, and the next manager adopts or ends them."""

from __future__ import annotations

import os
import time
from signal import SIGKILL
from typing import Any

import pytest

from e2e.conftest import MakePool, WithModels
from e2e.helpers import (
    alive,
    chat,
    fake,
    in_background,
    lease_goes_on,
    result,
    streaming,
    until,
    until_busy,
)
from e2e.support import PoolProcess

pytestmark = pytest.mark.long

SLOW = {"tokens": 40, "tokens_per_second": 20}


def identity(view: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(view[key] for key in ("worker_pid", "engine_pid", "port", "generation"))


def kill_and_start(pool: PoolProcess) -> None:
    pool.kill()
    pool.start()


def test_killed_while_all_is_cold(own_pool: WithModels) -> None:
    pool = own_pool(fake("m"))
    kill_and_start(pool)
    assert pool.ask("m") == "hello there"


def test_hot_workers_are_adopted_with_their_leases(own_pool: WithModels) -> None:
    pool = own_pool(fake("m", ttl_minutes=10), fake("idle"))
    before, idle = pool.load("m"), pool.load("idle")
    with lease_goes_on(pool, "m", 10):
        kill_and_start(pool)
    after = pool.model("m")
    assert after["state"] == "HOT"
    assert identity(after) == identity(before)
    assert identity(pool.model("idle")) == identity(idle)
    assert ("model-adopted", "adopted from a former manager") in pool.story("m")
    assert pool.ask("m") == "hello there"
    assert pool.model("m")["worker_pid"] == before["worker_pid"]


def test_a_stream_on_a_workers_port_never_notices(own_pool: WithModels) -> None:
    pool = own_pool(fake("m", options=SLOW))
    view = pool.load("m")
    task = streaming(view["endpoint"], chat("m"))
    pool.kill()
    time.sleep(0.3)
    pool.start()
    stream = result(task)
    assert stream.is_done
    assert len(stream.data) == 40 + 2  # one opens the answer, one says why it ended
    assert identity(pool.model("m")) == identity(view)


def test_killed_while_relaying_the_worker_stays_and_is_idle_again(own_pool: WithModels) -> None:
    pool = own_pool(fake("m", options={"tokens": 200, "tokens_per_second": 20}))
    view = pool.load("m")

    def read() -> str:
        try:
            return str(pool.chat("m", stream=True))
        except Exception as e:
            return type(e).__name__

    task = in_background(read)
    until_busy(pool, "m")
    kill_and_start(pool)
    assert result(task) in ("RemoteProtocolError", "ReadError")
    until(lambda: pool.model("m")["in_flight"] == 0, "the engine to notice that nobody listens")
    assert identity(pool.model("m")) == identity(view)


def test_killed_while_warming_the_load_goes_on(own_pool: WithModels) -> None:
    steps = {"load_seconds": 3, "load_steps": 20}
    pool = own_pool(fake("m", options=steps))
    pool.http.post("/models/m/load", json={})
    view = until(lambda: (v := pool.model("m"))["engine_pid"] and v, "its engine")
    kill_and_start(pool)
    assert pool.state_of("m") in ("WARMING", "HOT")
    assert pool.ask("m") == "hello there"
    assert identity(pool.model("m")) == identity(view)


def test_killed_at_any_moment_of_a_start(own_pool: WithModels) -> None:
    """Between the intent, the process and the note of its pid: no worker is lost or doubled."""
    pool = own_pool(fake("m"))
    for pause in (0.0, 0.01, 0.03, 0.1):
        pool.http.post("/models/m/load", json={})
        time.sleep(pause)
        kill_and_start(pool)
        assert pool.ask("m") == "hello there"
        fronts = pool.fronts()
        assert [p.pid for p in fronts] == [pool.model("m")["worker_pid"]]
        pool.http.post("/models/m/unload", json={})
        assert pool.fronts() == []


def test_killed_while_draining_the_end_goes_on(own_pool: WithModels) -> None:
    pool = own_pool(fake("m", options={**SLOW, "tokens": 120}))
    view = pool.load("m")
    task = streaming(view["endpoint"], chat("m"))
    pool.http.post("/models/m/unload?wait=0", json={})
    pool.wait_for("m", "UNLOADING")
    kill_and_start(pool)
    assert result(task).is_done
    pool.wait_for("m", "COLD")
    assert not alive(view["worker_pid"])
    assert pool.ask("m", max_tokens=2)


def test_a_worker_of_a_model_that_is_no_more_is_ended(own_pool: WithModels) -> None:
    pool = own_pool(fake("m"))
    view = pool.load("m")
    pool.kill()
    pool.forget_models()
    pool.start()
    until(lambda: not alive(view["worker_pid"]), "the end of the worker")
    assert pool.http.get("/health").json()["total_models"] == 0


def test_a_worker_that_died_meanwhile_is_forgotten(own_pool: WithModels) -> None:
    pool = own_pool(fake("m"))
    view = pool.load("m")
    pool.kill()
    os.kill(view["worker_pid"], SIGKILL)
    pool.start()
    assert pool.state_of("m") == "COLD"
    until(lambda: not alive(view["engine_pid"]), "the end of its engine")
    assert pool.ask("m") == "hello there"


def test_an_orphan_leaves_after_its_own_lease(make_pool: MakePool) -> None:
    pool = make_pool(fake("m"), default_ttl_minutes=1 / 60, grace_minutes=1, orphan_seconds=1)
    view = pool.load("m")
    pool.kill()
    until(lambda: not alive(view["worker_pid"]) and not alive(view["engine_pid"]), "its end")
    pool.start()
    assert pool.state_of("m") == "COLD"


def test_down_ends_what_a_killed_manager_has_left(own_pool: WithModels) -> None:
    pool = own_pool(fake("m"), fake("n"), fake("slow", options={"never_ready": True}))
    pool.load("m")
    pool.load("n")
    pool.http.post("/models/slow/load", json={})
    until(lambda: pool.model("slow")["engine_pid"], "its engine")
    pool.kill()
    assert len(pool.fronts()) == 3
    down = pool.run("down")
    assert down.returncode == 0, down.stderr
    assert "3 workers" in down.stdout
    pool.assert_nothing_left()
    assert "not running" in pool.run("down").stdout
