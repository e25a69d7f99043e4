"""A worker dies: front or engine, idle or busy. Requests are told, the next one restarts it."""

from __future__ import annotations

import os
from signal import SIGKILL, SIGSTOP

import httpx
import pytest

from e2e.conftest import Add, MakePool
from e2e.helpers import (
    alive,
    assert_error,
    chat,
    content,
    fake,
    in_background,
    result,
    streaming,
    until,
    until_busy,
)
from e2e.support import PoolProcess

SLOW = {"tokens": 200, "tokens_per_second": 20}
WHO = ("worker_pid", "engine_pid")


@pytest.mark.parametrize("who", WHO)
def test_killed_while_idle_the_next_request_starts_it_again(
    pool: PoolProcess, add: Add, who: str
) -> None:
    m = add()
    before = pool.load(m)
    os.kill(before[who], SIGKILL)
    failed = pool.wait_for(m, "FAILED")
    assert failed["failure"]["retry_at"]
    assert failed["reason"]
    answer = pool.chat(m)
    if answer.status_code != 200:  # within the back-off
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        answer = until(lambda: (a := pool.chat(m)).status_code == 200 and a, "the back-off's end")
    assert content(answer) == "hello there"
    after = pool.model(m)
    assert after["worker_pid"] != before["worker_pid"]
    assert after["generation"] > before["generation"]
    until(lambda: not alive(before["worker_pid"]) and not alive(before["engine_pid"]), "their end")


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("way", ["gateway", "port"])
def test_killed_while_busy_a_stream_ends_with_an_error(
    pool: PoolProcess, add: Add, who: str, way: str
) -> None:
    m = add(**SLOW)
    view = pool.load(m)
    url = pool.url if way == "gateway" else view["endpoint"]
    task = streaming(url, chat(m))
    os.kill(view[who], SIGKILL)
    if way == "port" and who == "worker_pid":  # nobody is left to explain it
        with pytest.raises(httpx.TransportError):
            result(task)
    else:
        stream = result(task)
        assert not stream.is_done
        assert stream.error["message"]
        assert stream.error["source"] in ("engine", "worker")
        assert stream.text
    pool.wait_for(m, "FAILED")


@pytest.mark.parametrize("who", WHO)
def test_killed_while_busy_a_plain_request_gets_an_answer(
    pool: PoolProcess, add: Add, who: str
) -> None:
    """Nothing was sent to the client yet: the front's death is made good by another try."""
    m = add(tokens=10, tokens_per_second=3)
    view = pool.load(m)
    task = in_background(lambda: pool.chat(m))
    until_busy(pool, m)
    os.kill(view[who], SIGKILL)
    answer = result(task)
    if answer.status_code != 200:
        assert answer.status_code in (502, 503), answer.text
        assert answer.json()["error"]["message"]
        assert answer.headers["x-modelpool-source"] in ("engine", "worker")


@pytest.mark.parametrize("who", WHO)
def test_killed_while_warming(pool: PoolProcess, add: Add, who: str) -> None:
    m = add(load_seconds=30)
    task = in_background(lambda: pool.chat(m))
    view = until(lambda: (v := pool.model(m))[who] and v, "its processes")
    assert view["state"] == "WARMING"
    os.kill(view[who], SIGKILL)
    answer = result(task)
    assert answer.status_code == 503, answer.text
    assert "SIGKILL" in answer.json()["error"]["message"]
    assert int(answer.headers["retry-after"]) >= 1
    assert pool.state_of(m) == "FAILED"


def test_a_crash_loop_ends_with_the_budget(make_pool: MakePool) -> None:
    pool = make_pool(fake("m"), crash_budget=1, restart_backoff_seconds=0.1)
    for _ in range(2):
        os.kill(pool.load("m")["worker_pid"], SIGKILL)
        pool.wait_for("m", "FAILED")
    assert "crashed 2 times" in pool.model("m")["failure"]["message"]
    answer = pool.chat("m")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 60
    assert pool.load("m")["state"] == "HOT"  # an explicit load does not wait


def test_a_load_that_fails_says_why_with_the_last_lines(pool: PoolProcess, add: Add) -> None:
    m = add(fail_load="oom", message="no room for the tensors")
    message = assert_error(pool.chat(m), 503, "oom")
    assert "no room for the tensors" in message
    view = pool.model(m)
    assert view["state"] == "FAILED"
    assert any("no room" in line for line in view["failure"]["lines"])
    assert "no room for the tensors" in pool.http.get(f"/models/{m}/logs").text


def test_a_warm_up_model_comes_back_by_itself(make_pool: MakePool) -> None:
    pool = make_pool(fake("m"), warmup_models=["m"])
    before = pool.wait_for("m", "HOT")
    os.kill(before["worker_pid"], SIGKILL)
    until(lambda: pool.model("m")["generation"] > before["generation"], "its return")
    after = pool.wait_for("m", "HOT")
    assert after["port"] == before["port"] == pool.ports[0]


def test_a_stopped_worker_is_ended_by_a_forced_unload(pool: PoolProcess, add: Add) -> None:
    m = add()
    view = pool.load(m)
    os.kill(view["worker_pid"], SIGSTOP)
    answer = pool.http.post(f"/models/{m}/unload", json={"force": True})
    assert answer.status_code == 200, answer.text
    assert not alive(view["worker_pid"])
    assert not alive(view["engine_pid"])
    assert pool.state_of(m) == "COLD"


def test_an_engine_that_ignores_its_end_is_killed(make_pool: MakePool) -> None:
    stubborn = {"ignore_term": True, "leak_process": True}
    pool = make_pool(fake("m", options=stubborn), graceful_shutdown_seconds=1)
    view = pool.load("m")
    answer = pool.http.post("/models/m/unload", json={})
    assert answer.status_code == 200, answer.text
    assert not alive(view["engine_pid"])
    pool.assert_none_but_the_manager()
