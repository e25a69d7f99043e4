"""After much use the manager holds no more than before: descriptors, threads, processes, memory."""

from __future__ import annotations

import asyncio

import httpx
import psutil

from e2e.conftest import MakePool
from e2e.helpers import chat, fake, streamed, until
from e2e.rawhttp import message
from e2e.support import PoolProcess

ROUNDS = 4
SPARE = 4  # a connection kept alive here or there


def use_everything(pool: PoolProcess) -> None:
    """Load, ask in every way, leave early, listen, fail, unload."""
    view = pool.load("m")
    for url in (pool.url, view["endpoint"]):
        assert streamed(url, chat("m")).is_done
        assert httpx.post(
            f"{url}/v1/chat/completions", json=chat("m"), trust_env=False, verify=False, timeout=60
        ).is_success
    asyncio.run(leave_early(pool))
    with pool.http.stream("GET", "/events") as events:
        next(events.iter_lines())
    with pool.http.stream("GET", "/models/m/logs?follow=true") as log:
        next(log.iter_lines())
    assert pool.chat("broken").status_code == 503
    pool.http.post("/models/broken/unload", json={})
    assert pool.http.post("/models/register", json=fake("guest")).status_code == 201
    pool.load("guest")
    assert pool.http.delete("/models/guest").status_code == 200
    assert pool.http.post("/models/m/unload", json={}).status_code == 200


async def leave_early(pool: PoolProcess) -> None:
    """Many clients that ask for a long answer and go."""
    for _ in range(5):
        _, writer = await asyncio.open_connection("127.0.0.1", pool.port)
        writer.write(message(pool.port, chat("m", "word " * 3000, stream=True)))
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.close()


def test_nothing_piles_up(make_pool: MakePool) -> None:
    slow = {"tokens_per_second": 2000}
    broken = {"fail_load": "oom", "message": "told to"}
    pool = make_pool(fake("m", options=slow), fake("broken", options=broken))
    manager = psutil.Process(pool.pid)
    for _ in range(2):
        use_everything(pool)
    before = (manager.num_fds(), manager.num_threads(), manager.memory_info().rss)
    for _ in range(ROUNDS):
        use_everything(pool)
    pool.assert_none_but_the_manager()
    until(lambda: manager.num_fds() <= before[0] + SPARE, f"{before[0]} descriptors again")
    assert manager.num_threads() <= before[1] + SPARE
    assert manager.memory_info().rss < before[2] + 20_000_000
    assert pool.http.get("/health").json()["total_memory_mb"] == 0
    assert not list(pool.tmp.iterdir())
    assert not list((pool.state / "exits").iterdir())
