"""The manager dies under a hundred streams; five models share the room of two."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from modelpool_client import PoolClient

from e2e.conftest import MakePool
from e2e.helpers import chat, fake, streamed, until
from e2e.support import PoolProcess

TOKENS = 150
STREAM = {"tokens": TOKENS, "tokens_per_second": 15}
EACH = 50


def identity(view: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(view[key] for key in ("worker_pid", "engine_pid", "port", "generation"))


def read(url: str) -> Any:
    """A stream, or the error that its reader sees."""
    try:
        return streamed(url, chat("m"))
    except httpx.TransportError as e:
        return e


def test_killed_under_a_hundred_streams(make_pool: MakePool) -> None:
    pool = make_pool(fake("m", options=STREAM), default_ttl_minutes=10)
    view = pool.load("m")
    with ThreadPoolExecutor(2 * EACH + 1) as threads:
        direct = [threads.submit(read, view["endpoint"]) for _ in range(EACH)]
        through = [threads.submit(read, pool.url) for _ in range(EACH)]
        until(lambda: pool.model("m")["in_flight"] == 2 * EACH, "all of them to be in flight")
        pool.kill()
        # Sent while nobody is there: the library tries again, for no byte has come.
        client = PoolClient(pool.url, timeout=60)
        late = threads.submit(client.chat, "m", "hello there")
        began = time.monotonic()
        pool.start()
        after = pool.model("m")
        print(f"adopted {time.monotonic() - began:.2f} s after the start of the new manager")
        assert identity(after) == identity(view)
        assert after["state"] == "HOT"
        for stream in (f.result(60) for f in direct):
            assert not isinstance(stream, Exception), stream
            assert stream.is_done
            assert len(stream.data) == TOKENS + 2
        for error in (f.result(60) for f in through):
            assert isinstance(error, httpx.RemoteProtocolError | httpx.ReadError), error
            assert str(error)
        assert late.result(60)
        client.close()
    until(lambda: pool.model("m")["in_flight"] == 0, "the end of all work")
    lease = pool.model("m")["ttl_remaining_minutes"]
    assert 9.5 < lease <= 10, "it goes on from the end of the last stream"


# -- five models of 2.8 x the budget -----------------------------------------------------------

BUDGET_MB = 300
SIZES_MB = {"a": 270, "b": 210, "c": 150, "d": 120, "e": 90}
# What front and engine take themselves; measured below: too low a figure fails the test.
OWN_MB = 45


@pytest.mark.slow
def test_five_models_of_2_8_times_the_budget(tmp_path: Path) -> None:
    assert sum(SIZES_MB.values()) == 2.8 * BUDGET_MB
    models = [
        fake(n, memory_mb=size, options={"memory_mb": (size - OWN_MB) * 10**6 >> 20, "tokens": 3})
        for n, size in SIZES_MB.items()
    ]
    keys = {
        "memory_limit_mb": BUDGET_MB,
        "max_queue_wait_seconds": 3,
        "min_residency_seconds": 0.5,
    }
    with PoolProcess(tmp_path, models, **keys) as pool, watching(pool) as peak:
        until_time = time.monotonic() + 20
        waits: list[tuple[float, float]] = []
        failed: list[str] = []

        def client(name: str) -> None:
            while time.monotonic() < until_time:
                began = time.time()
                answer = pool.chat(name)
                waits.append((began, time.time()))
                if answer.status_code != 200:
                    failed.append(answer.text)
                time.sleep(0.05)

        with ThreadPoolExecutor(2 * len(SIZES_MB)) as threads:
            for name in (*SIZES_MB, *SIZES_MB):
                threads.submit(client, name)
        assert not failed, failed[:3]
        events = [e for e in pool.events() if e.get("model_id")]
        loaded = [stamp(e) for e in events if e["event"] == "model-loaded"]
        loads, evictions = len(loaded), sum(e["event"] == "model-evicted" for e in events)
        passed = [sum(begin < at < end for at in loaded) for begin, end in waits]
        served = {n: pool.model(n)["waiting"] for n in SIZES_MB}
        print(
            f"{len(waits)} requests, {loads} loads, {evictions} evictions,"
            f" {max(passed)} of them while one waited, peak {peak[0] / 1e6:.0f} of {BUDGET_MB} MB"
        )
        assert set(served.values()) == {0}
        assert loads >= len(SIZES_MB)
        assert evictions >= loads - 3, "they made room for each other"
        assert max(passed) <= 4 * len(SIZES_MB), "everybody has his turn"
        assert 0.6 * BUDGET_MB * 1e6 < peak[0] <= BUDGET_MB * 1e6
        refused = pool.http.post("/models/register", json=fake("huge", memory_mb=BUDGET_MB + 1))
        assert refused.status_code == 201
        answer = pool.chat("huge")
        assert answer.status_code == 507
        assert f"needs {BUDGET_MB + 1} MB" in answer.text


def stamp(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["at"]).timestamp()


class watching:
    """The most that workers and engines together had resident, mapped files counted once."""

    def __init__(self, pool: PoolProcess) -> None:
        self._pool = pool
        self._is_over = threading.Event()
        self._peak = [0.0]
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> list[float]:
        self._thread.start()
        return self._peak

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(0.1):
            self._peak[0] = max(self._peak[0], sum(self._sizes()))

    def _sizes(self) -> Iterator[float]:
        for front in self._pool.fronts():
            for process in self._group(front):
                with contextlib.suppress(psutil.Error):
                    yield process.memory_full_info().pss

    @staticmethod
    def _group(front: psutil.Process) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):  # it may end in this moment
            return [front, *front.children(recursive=True)]
        return []
