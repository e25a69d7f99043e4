"""From cold: one load for all who wait, whoever leaves; a second model; unload gives all back."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import aiohttp
import httpx
import pytest

from e2e.conftest import Add, MakePool, WithModels
from e2e.helpers import (
    alive,
    assert_error,
    chat,
    fake,
    in_background,
    is_free,
    result,
    streamed,
    streaming,
    until,
)
from e2e.rawhttp import message
from e2e.support import PoolProcess

pytestmark = pytest.mark.long


# What tests of one pool change; the first is unlimited.
USUAL = {
    "memory_limit_mb": None,
    "max_concurrent_models": 30,
    "load_wait_seconds": 60,
    "load_stall_seconds": 60,
}


@pytest.fixture
def limited(own_pool: WithModels) -> MakePool:
    """A pool with these models and limits."""

    def make(*models: dict[str, Any], **keys: Any) -> PoolProcess:
        pool = own_pool(*models)
        answer = pool.http.patch("/config", json={**USUAL, **keys})
        assert answer.status_code == 200, answer.text
        return pool

    return make


def test_a_hundred_first_requests_start_one_worker(pool: PoolProcess, add: Add) -> None:
    m = add(load_seconds=0.5)

    async def one(session: aiohttp.ClientSession, number: int) -> str:
        body = chat(m, f"number {number}")
        async with session.post("/v1/chat/completions", json=body) as answer:
            assert answer.status == 200, await answer.text()
            return str((await answer.json())["choices"][0]["message"]["content"])

    async def everyone() -> list[str]:
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(pool.url, connector=connector, timeout=timeout) as session:
            return await asyncio.gather(*(one(session, n) for n in range(100)))

    assert asyncio.run(everyone()) == [f"number {n}" for n in range(100)]
    view = pool.model(m)
    assert view["generation"] == 1
    assert view["requests_total"] <= 100
    assert [name for name, _ in pool.story(m)].count("model-loading") == 1
    assert [p.pid for p in pool.fronts(m)] == [view["worker_pid"]]


def test_a_client_that_leaves_does_not_stop_the_load(pool: PoolProcess, add: Add) -> None:
    m = add(load_seconds=3)
    with socket.create_connection(("127.0.0.1", pool.port)) as client:
        client.sendall(message(pool.port, chat(m)))
        until(lambda: pool.model(m)["waiting"], "the request to wait")
        stays = in_background(lambda: pool.ask(m))
        until(lambda: pool.model(m)["waiting"] == 2, "both to wait")
    assert result(stays) == "hello there"
    assert pool.model(m)["generation"] == 1


def test_the_only_client_leaves_and_the_load_goes_on(pool: PoolProcess, add: Add) -> None:
    m = add(load_seconds=2)
    with socket.create_connection(("127.0.0.1", pool.port)) as client:
        client.sendall(message(pool.port, chat(m)))
        until(lambda: pool.model(m)["waiting"], "the request to wait")
    until(lambda: not pool.model(m)["waiting"], "nobody to wait")
    view = pool.wait_for(m, "HOT")
    assert (view["generation"], view["waiting"]) == (1, 0)
    until(lambda: pool.model(m)["in_flight"] == 0, "nothing to be in flight")


def test_a_stream_that_waits_gets_comments(pool: PoolProcess, add: Add) -> None:
    m = add(load_seconds=1.5, load_steps=15)
    stream = streamed(pool.url, chat(m, "at last"))
    assert stream.is_done
    assert stream.text == "at last"
    assert len(stream.comments) >= 2
    assert all(m in comment for comment in stream.comments)
    assert any("%" in comment for comment in stream.comments)


def test_a_stream_that_waits_in_vain_is_told_in_the_stream(pool: PoolProcess, add: Add) -> None:
    m = add(load_seconds=1, fail_load="oom", message="no room for the tensors")
    stream = streamed(pool.url, chat(m))
    assert stream.comments
    assert not stream.is_done
    assert stream.error["code"] == "oom"
    assert "no room" in stream.error["message"]


def test_an_unload_while_it_warms_tells_those_who_wait(pool: PoolProcess, add: Add) -> None:
    m = add(load_seconds=30)
    waiting = in_background(lambda: pool.chat(m))
    view = until(lambda: (v := pool.model(m))["engine_pid"] and v["waiting"] and v, "its engine")
    answer = pool.http.post(f"/models/{m}/unload", json={})
    assert answer.status_code == 200
    assert_error(result(waiting), 503, "load_cancelled")
    assert pool.state_of(m) == "COLD"
    assert not alive(view["engine_pid"])


def test_a_waiting_request_has_a_deadline(limited: MakePool) -> None:
    pool = limited(fake("m", options={"load_seconds": 60}), load_wait_seconds=0.5)
    message = assert_error(pool.chat("m"), 504, "load_timeout")
    assert "WARMING" in message
    assert pool.state_of("m") == "WARMING"


def test_a_load_without_progress_is_given_up(limited: MakePool) -> None:
    stuck = {"never_ready": True}
    pool = limited(fake("m", options=stuck), load_stall_seconds=1)
    began = time.monotonic()
    message = assert_error(pool.chat("m"), 503, "timeout")
    assert "no progress" in message
    assert time.monotonic() - began >= 1


def test_a_model_registered_at_run_time(pool: PoolProcess) -> None:
    assert pool.load("plain")
    entry = fake("team/second:1b", aliases=["two"], options={"reply": "from the second"})
    assert pool.http.post("/models/register", json=entry).status_code == 201
    try:
        assert pool.state_of("team/second:1b") == "COLD"
        assert pool.ask("two") == "from the second"
        view = pool.model("team/second:1b")
        assert view["state"] == "HOT"
        assert view["port"] in pool.ports
        assert view["port"] != pool.model("plain")["port"]
        assert streamed(view["endpoint"], chat("two")).text == "from the second"
        wrong = httpx.post(
            f"{view['endpoint']}/v1/chat/completions",
            json=chat("plain"),
            trust_env=False,
            verify=False,
            timeout=60,
        )
        assert "team/second:1b" in assert_error(wrong, 404, "model_not_found", "model")
        pool.http.post("/models/team%2Fsecond:1b/unload", json={})
        assert pool.state_of("team/second:1b") == "COLD"
        assert not alive(view["worker_pid"])
        assert not alive(view["engine_pid"])
        assert is_free(view["port"])
    finally:
        assert pool.http.delete("/models/team/second%3A1b").status_code == 200
    assert_error(pool.http.get("/models/team/second:1b"), 404, "model_not_found")


def test_an_unload_lets_work_end_first(pool: PoolProcess, add: Add) -> None:
    m = add(tokens=30, tokens_per_second=20)
    pool.load(m)
    task = streaming(pool.url, chat(m))
    assert pool.http.post(f"/models/{m}/unload", json={}).status_code == 200
    assert result(task).is_done


def test_a_forced_unload_cuts_readably(pool: PoolProcess, add: Add) -> None:
    m = add(tokens=1000, tokens_per_second=20)
    pool.load(m)
    task = streaming(pool.url, chat(m))
    answer = pool.http.post(f"/models/{m}/unload", json={"force": True})
    assert answer.status_code == 200
    stream = result(task)
    assert not stream.is_done
    assert "unloaded by force: asked for by the API" in stream.error["message"]


def test_a_forced_unload_in_the_middle_of_a_plain_one_is_told_too(
    pool: PoolProcess, add: Add
) -> None:
    m = add(tokens=1000, tokens_per_second=20)
    pool.load(m)
    task = streaming(pool.url, chat(m))
    pool.http.post(f"/models/{m}/unload?wait=0", json={})
    pool.http.post(f"/models/{m}/unload", json={"force": True})
    assert "unloaded by force: asked for by the API" in result(task).error["message"]


def test_a_request_during_an_unload_waits_and_loads_again(pool: PoolProcess, add: Add) -> None:
    m = add(tokens=20, tokens_per_second=20)
    first = pool.load(m)
    task = streaming(pool.url, chat(m))
    pool.http.post(f"/models/{m}/unload?wait=0", json={})
    assert pool.chat(m).status_code == 200
    assert result(task).is_done
    assert pool.model(m)["generation"] == first["generation"] + 1


def test_to_make_room_the_idle_one_goes_and_the_busy_one_stays(limited: MakePool) -> None:
    slow = {"tokens": 60, "tokens_per_second": 20}
    models = (fake("busy", options=slow), fake("idle"), fake("new"))
    pool = limited(*models, max_concurrent_models=2)
    view = pool.load("busy")
    pool.load("idle")
    task = streaming(view["endpoint"], chat("busy"))  # not by the manager
    assert pool.ask("new") == "hello there"
    assert pool.state_of("idle") == "COLD"
    assert "make room for new" in dict(pool.story("idle"))["model-evicted"]
    assert result(task).is_done
    assert pool.model("busy")["worker_pid"] == view["worker_pid"]


def test_what_can_never_fit_is_refused_at_once_with_the_numbers(limited: MakePool) -> None:
    pool = limited(fake("huge") | {"memory_mb": 5000}, memory_limit_mb=1000)
    message = assert_error(pool.chat("huge"), 507, "cannot_fit")
    assert "5" in message
    assert pool.fronts() == []


def test_a_model_that_comes_and_goes_is_there_or_not(pool: PoolProcess) -> None:
    """Lists, look-ups and requests while it is registered and deleted: 200, 404 or 503, no more."""

    async def come_and_go(session: aiohttp.ClientSession) -> None:
        for _ in range(8):
            async with session.post("/models/register", json=fake("fleeting")) as answer:
                assert answer.status == 201, await answer.text()
            async with session.post("/models/fleeting/load?wait=0", json={}) as answer:
                assert answer.status in (200, 202), await answer.text()
            await asyncio.sleep(0.05)
            async with session.delete("/models/fleeting") as answer:
                assert answer.status == 200, await answer.text()

    async def look(session: aiohttp.ClientSession, working: asyncio.Task[None]) -> set[int]:
        seen = set()
        while not working.done():
            for path in ("/models", "/v1/models", "/models/fleeting", "/v1/models/fleeting"):
                async with session.get(path) as answer:
                    seen.add(answer.status)
            async with session.post("/v1/chat/completions", json=chat("fleeting")) as answer:
                seen.add(answer.status)
        return seen

    async def everyone() -> set[int]:
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(pool.url, timeout=timeout) as session:
            working = asyncio.ensure_future(come_and_go(session))
            seen = await asyncio.gather(*(look(session, working) for _ in range(4)))
            await working
        return set().union(*seen)

    assert asyncio.run(everyone()) <= {200, 404, 503}
