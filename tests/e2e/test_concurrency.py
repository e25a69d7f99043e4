"""Who waits for a place on a busy model: priorities with ageing, the bound, what is seen of it."""

from __future__ import annotations

import socket
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from e2e.conftest import MakePool, WithModels
from e2e.helpers import chat, fake, standing_still, until
from e2e.rawhttp import message
from e2e.support import PoolProcess

# One at a time, a tenth of a second each.
ONE = {"parallel": 1, "tokens": 2, "tokens_per_second": 20}


class Clients:
    """Threads that ask."""

    def __init__(self, pool: PoolProcess, threads: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._threads = threads
        self._run = uuid.uuid4().hex

    def send(self, name: str, headers: dict[str, str] | None = None, **body: Any) -> Future[int]:
        """A request of that name; its status."""
        named = {"x-request-id": f"{self._run}-{name}", **(headers or {})}

        def ask() -> int:
            data = chat("m", **body)
            answer = self._pool.http.post("/v1/chat/completions", json=data, headers=named)
            return answer.status_code

        return self._threads.submit(ask)

    def served(self, count: int) -> list[str]:
        """Names of the requests in the order in which the worker served them, once it has told of
        so many: its clients may see that in another."""

        def look() -> list[str]:
            found = self._pool.http.get("/requests", params={"model": "m"}).json()["requests"]
            names = [each["request_id"].partition("-") for each in reversed(found)]
            ours = [name for run, _, name in names if run == self._run]
            return ours if len(ours) >= count else []

        return until(look, f"the worker to tell of {count}")

    def wait_until_waiting(self, **expected: int) -> None:
        """Until so many of each class wait."""
        counts = {"high": 0, "normal": 0, "low": 0, **expected}
        until(lambda: waiting(self._pool) == counts, f"{counts} to wait, not {waiting(self._pool)}")


def concurrency(pool: PoolProcess) -> dict[str, Any]:
    seen: dict[str, Any] = pool.model("m")["concurrency"]
    return seen


def waiting(pool: PoolProcess) -> dict[str, int]:
    counts: dict[str, int] = concurrency(pool)["waiting"]
    return counts


@contextmanager
def clients(pool: PoolProcess) -> Iterator[Clients]:
    with ThreadPoolExecutor(80) as threads:
        yield Clients(pool, threads)


@pytest.fixture(scope="module")
def pool_keys() -> dict[str, Any]:
    return {"max_waiting_requests": 4}


@contextmanager
def busy(pool: PoolProcess) -> Iterator[Clients]:
    """The model ``m`` with its one place taken by a request, "first", that ends afterwards."""
    pool.load("m")
    with clients(pool) as sender:
        with standing_still(pool, "m"):
            first = sender.send("first")
            until(lambda: concurrency(pool)["in_flight"] == 1, "the first to be in flight")
            yield sender
        assert first.result() == 200


@pytest.fixture
def pool_of_one(own_pool: WithModels) -> PoolProcess:
    """A pool whose model ``m`` has one place."""
    return own_pool(fake("m", concurrency_limit=1, options=ONE))


def test_high_passes_by_header_by_body_and_by_the_model(pool_of_one: PoolProcess) -> None:
    pool = pool_of_one
    with busy(pool) as sender:
        asked = [sender.send("low", {"X-Priority": "low"}, max_tokens=1)]
        sender.wait_until_waiting(low=1)
        asked.append(sender.send("normal", max_tokens=1))
        sender.wait_until_waiting(low=1, normal=1)
        asked.append(sender.send("high", priority="high", max_tokens=1))
        sender.wait_until_waiting(low=1, normal=1, high=1)
    assert [a.result() for a in asked] == [200, 200, 200]
    assert sender.served(4) == ["first", "high", "normal", "low"]
    assert waiting(pool) == {"high": 0, "normal": 0, "low": 0}


def test_a_models_priority_is_that_of_its_requests(with_models: WithModels) -> None:
    pool = with_models(fake("m", concurrency_limit=1, priority="low", options=ONE))
    with busy(pool) as sender:
        asked = [sender.send("own"), sender.send("said", priority="normal")]
        sender.wait_until_waiting(low=1, normal=1)
    assert [a.result() for a in asked] == [200, 200]


def test_a_full_queue_is_refused_and_everything_is_seen(pool_of_one: PoolProcess) -> None:
    pool = pool_of_one
    with busy(pool) as sender:
        asked = [sender.send(f"{n}", {"X-Priority": "low"}, max_tokens=1) for n in range(3)]
        asked.append(sender.send("normal", max_tokens=1))
        sender.wait_until_waiting(low=3, normal=1)
        high = {"x-priority": "high"}
        refused = pool.http.post("/v1/chat/completions", json=chat("m"), headers=high)
        assert refused.status_code == 503
        error = refused.json()["error"]
        assert error["code"] == "queue_full"
        assert "4 requests wait for m already, which is HOT" in error["message"]
        assert int(refused.headers["retry-after"]) >= 1
        view = pool.model("m")
        assert view["concurrency"]["setting"] == view["concurrency"]["limit"] == 1
        assert view["concurrency_limit"] == view["slots"] == 1
        assert view["concurrency"]["oldest_wait_seconds"] > 0
        metrics = pool.http.get("/metrics").text
        assert 'modelpool_waiters{model="m",priority="low"} 3.0' in metrics
        assert 'modelpool_concurrency_limit{model="m"} 1.0' in metrics
    assert [a.result() for a in asked] == [200] * 4


@pytest.mark.parametrize(
    ("headers", "body", "param"),
    [
        ({"X-Priority": "urgent"}, {}, "X-Priority"),
        ({}, {"priority": "urgent"}, "priority"),
        ({}, {"priority": 3}, "priority"),
        ({}, {"priority": []}, "priority"),
    ],
)
def test_a_bad_priority_is_named(
    pool: PoolProcess, headers: dict[str, str], body: dict[str, Any], param: str
) -> None:
    answer = pool.http.post("/v1/chat/completions", json=chat("plain", **body), headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


@pytest.mark.slow
def test_low_does_not_starve_under_a_stream_of_high_ones(make_pool: MakePool) -> None:
    pool = make_pool(fake("m", concurrency_limit=1, options=ONE), priority_ageing_seconds=0.5)
    pool.load("m")
    is_over = threading.Event()
    answered: list[str] = []
    with clients(pool) as sender:

        def ask_for_ever() -> None:
            while not is_over.is_set():
                sender.send("high", priority="high").result()
                answered.append("high")

        asking = [threading.Thread(target=ask_for_ever) for _ in range(8)]
        for thread in asking:
            thread.start()
        try:
            until(lambda: waiting(pool)["high"] >= 6, "a queue")
            low = sender.send("low", priority="low")
            assert low.result(timeout=60) == 200
            answered.append("low")
        finally:
            is_over.set()
            for thread in asking:
                thread.join()
    before = answered.index("low")
    assert answered[before:].count("high") > 0, "it was not the last one to be served"


def test_as_many_as_the_engine_has_slots_and_the_port_counts(own_pool: WithModels) -> None:
    options = ONE | {"parallel": 2}
    pool = own_pool(fake("m", concurrency_limit="adaptive", options=options))
    view = pool.load("m")
    assert (view["slots"], view["concurrency_limit"]) == (2, 2)
    with clients(pool) as sender, ThreadPoolExecutor(1) as direct:
        with standing_still(pool, "m"):
            port = direct.submit(
                httpx.post, f"{view['endpoint']}/v1/chat/completions", json=chat("m"), timeout=60
            )
            until(lambda: concurrency(pool)["in_flight"] == 1, "the direct one to be in flight")
            asked = [sender.send(f"{n}") for n in range(3)]
            sender.wait_until_waiting(normal=2)
            assert concurrency(pool)["in_flight"] == 2
        assert [a.result() for a in asked] == [200] * 3
        assert port.result().status_code == 200


def test_a_stream_that_waits_for_a_place_is_told_so(pool_of_one: PoolProcess) -> None:
    pool = pool_of_one
    data = chat("m", stream=True, max_tokens=1)
    with busy(pool), pool.http.stream("POST", "/v1/chat/completions", json=data) as answer:
        comment = next(line for line in answer.iter_lines() if line.startswith(":"))
    assert "waiting for a place" in comment


def test_a_client_that_leaves_the_queue_frees_it(pool_of_one: PoolProcess) -> None:
    pool = pool_of_one
    with busy(pool) as sender:
        with socket.create_connection(("127.0.0.1", pool.port)) as client:
            client.sendall(message(pool.port, chat("m")))
            sender.wait_until_waiting(normal=1)
        sender.wait_until_waiting()
