"""Several real copies of one model: started as load grows, adopted, ended together."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGKILL
from typing import Any

from e2e.conftest import WithModels
from e2e.helpers import alive, fake, until
from e2e.support import PoolProcess

MANY = fake(
    "m",
    max_replicas=3,
    target_in_flight=1,
    options={"parallel": 1, "tokens": 4, "tokens_per_second": 10},
)


def copies(pool: PoolProcess) -> list[dict[str, Any]]:
    return [r for r in pool.model("m")["replicas"] if r["state"] == "HOT"]


@contextmanager
def load(pool: PoolProcess, clients: int) -> Iterator[list[int]]:
    """So many clients ask without a pause; the statuses that they got."""
    is_over, statuses = threading.Event(), []

    def ask() -> None:
        while not is_over.is_set():
            statuses.append(pool.chat("m").status_code)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def test_copies_come_with_the_load_survive_the_manager_and_end_together(
    own_pool: WithModels,
) -> None:
    pool = own_pool(MANY)
    with load(pool, 6) as statuses:
        found = until(lambda: len(c := copies(pool)) == 3 and c, "three copies")
        assert {r["replica"] for r in found} == {"m", "m#2", "m#3"}
        assert len({r["port"] for r in found}) == 3
        # One dies: nobody notices who was not on it, and who was is asked again.
        killed = found[1]["worker_pid"]
        os.kill(killed, SIGKILL)
        until(lambda: len([r for r in copies(pool) if r["worker_pid"] != killed]) == 3, "a new one")
    assert set(statuses) == {200}, [s for s in statuses if s != 200]
    metrics = pool.http.get("/metrics").text
    assert 'modelpool_replicas{model="m"} 3.0' in metrics
    before = {r["worker_pid"] for r in copies(pool)}
    pool.kill()
    pool.start()
    assert {r["worker_pid"] for r in copies(pool)} == before
    assert pool.chat("m").status_code == 200
    done = pool.http.post("/models/m/unload", json={})
    assert done.status_code == 200, done.text
    assert pool.model("m")["replicas"] == []
    assert not any(alive(pid) for pid in before)


def test_a_conversation_stays_on_its_copy(own_pool: WithModels) -> None:
    pool = own_pool({**MANY, "min_replicas": 3})
    pool.load("m")
    until(lambda: len(copies(pool)) == 3, "three copies")
    before = {r["port"]: r["requests_total"] for r in copies(pool)}
    for _ in range(5):
        assert pool.chat("m", user="ann").status_code == 200
    until(
        lambda: sum(r["requests_total"] for r in copies(pool)) == sum(before.values()) + 5,
        "all to be counted",
    )
    used = [r["port"] for r in copies(pool) if r["requests_total"] > before[r["port"]]]
    assert len(used) == 1
