"""How a worker drains, stops, and treats clients that leave."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

import httpx
import psutil
import pytest

pytestmark = pytest.mark.e2e

CHAT = "/v1/chat/completions"


def test_drain_if_idle(worker: Any) -> None:
    one = worker().ready()
    one.chat()
    busy = one.internal("POST", "drain", json={"if_idle_for": 3600}).json()
    assert busy["drained"] is False
    assert busy["facts"]["phase"] == "ready"
    assert one.chat().status_code == 200
    gone = one.internal("POST", "drain", json={"if_idle_for": 0}).json()
    assert gone["drained"] is True
    assert gone["facts"]["phase"] == "draining"
    assert one.wait_exit() == 0
    assert one.last_phase("draining")


def test_a_busy_worker_is_not_drained_if_idle(worker: Any, until: Any) -> None:
    one = worker({"tokens": 1000, "tokens_per_second": 20}).ready()
    with one.http.stream(
        "POST", CHAT, json={"messages": [{"role": "user", "content": "x"}], "stream": True}
    ):
        until(lambda: one.live_facts()["in_flight"] == 1)
        answer = one.internal("POST", "drain", json={"if_idle_for": 0}).json()
        assert answer["drained"] is False
    until(lambda: one.live_facts()["in_flight"] == 0)
    assert one.internal("POST", "drain", json={"if_idle_for": 0}).json()["drained"] is True
    assert one.wait_exit() == 0


def test_no_request_slips_between_idle_and_drained(worker: Any) -> None:
    one = worker({"tokens": 2}).ready()
    url, ask = (
        f"http://127.0.0.1:{one.port}{CHAT}",
        {"messages": [{"role": "user", "content": "x"}]},
    )

    def client() -> list[str]:
        seen: list[str] = []
        with httpx.Client(timeout=60, verify=False) as http:
            while not seen or seen[-1] == "200":
                try:
                    answer = http.post(url, json=ask)
                except httpx.ConnectError:
                    return [*seen, "refused"]
                whole = answer.status_code == 200 and answer.json()["usage"]
                seen.append("200" if whole else answer.json()["error"]["code"])
        return seen

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(client) for _ in range(4)]
        while not one.internal("POST", "drain", json={"if_idle_for": 0}).json()["drained"]:
            pass
        ends = [c.result()[-1] for c in clients]
    assert set(ends) <= {"worker_draining", "refused"}
    assert one.wait_exit() == 0


def test_a_bad_drain_request(echo: Any) -> None:
    answer = echo.internal("POST", "drain", json={"if_idle_for": "soon"})
    assert answer.status_code == 400
    assert "if_idle_for" in answer.json()["error"]["message"]


def test_sigterm_lets_current_work_end_and_refuses_new(worker: Any, until: Any) -> None:
    one = worker({"tokens": 200, "tokens_per_second": 50}).ready()
    body = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    with one.http.stream("POST", CHAT, json=body) as answer:
        lines = answer.iter_lines()
        next(lines)
        # As a manager does: the whole group.
        os.killpg(one.process.pid, signal.SIGTERM)
        until(lambda: one.facts["phase"] == "draining")
        refused = one.chat()
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "worker_draining")
        assert refused.headers["connection"] == "close"
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert one.wait_exit() == 0
    assert not one.record_path.exists()


@pytest.mark.parametrize("stream", [True, False])
def test_what_outlasts_the_drain_is_cut_readably(worker: Any, until: Any, stream: bool) -> None:
    one = worker({"hang_after_tokens": 1}, drain_seconds=0.3).ready()
    with httpx.Client(timeout=60, verify=False) as client:
        body = {"messages": [{"role": "user", "content": "a b"}], "stream": stream}
        url = f"http://127.0.0.1:{one.port}{CHAT}"
        request = client.build_request("POST", url, json=body)
        answer = terminate_when_busy(one, until, lambda: client.send(request))
    assert "cut: the worker stopped" in answer.text
    assert "[DONE]" not in answer.text
    assert answer.status_code == (200 if stream else 502)
    assert one.wait_exit() == 0


def terminate_when_busy(one: Any, until: Any, send: Callable[[], httpx.Response]) -> httpx.Response:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(send)
        until(lambda: one.live_facts()["in_flight"] == 1)
        one.process.terminate()
        return answer.result()


def test_a_second_sigterm_cuts_at_once(worker: Any, until: Any) -> None:
    one = worker({"hang_after_tokens": 1}, drain_seconds=3600).ready()
    body = {"messages": [{"role": "user", "content": "a b"}], "stream": True}
    with one.http.stream("POST", CHAT, json=body) as answer:
        lines = answer.iter_lines()
        next(lines)
        one.process.terminate()
        until(lambda: one.facts["phase"] == "draining")
        one.process.terminate()
        assert any("told twice" in line for line in lines)
    assert one.wait_exit() == 0


def test_sigterm_cancels_a_load(worker: Any, until: Any) -> None:
    one = worker({"never_ready": True}).start()
    assert one.facts["phase"] == "loading"
    one.process.terminate()
    assert one.wait_exit() == 0


def test_an_engine_that_will_not_go_is_killed(worker: Any) -> None:
    one = worker({"ignore_term": True}).ready()
    engine = one.facts["engine_pid"]
    one.process.terminate()
    assert one.wait_exit() == 0
    assert not psutil.pid_exists(engine)


def test_what_the_engine_leaked_goes_too(worker: Any, until: Any) -> None:
    one = worker({"leak_process": True}).ready()
    leaked = psutil.Process(one.facts["engine_pid"]).children()
    assert len(leaked) == 1
    one.process.terminate()
    assert one.wait_exit() == 0
    until(lambda: not leaked[0].is_running() or leaked[0].status() == psutil.STATUS_ZOMBIE)


def test_no_connection_is_reset_at_the_end(worker: Any) -> None:
    one = worker().ready()
    waiting = [socket.create_connection(("127.0.0.1", one.port)) for _ in range(20)]
    request = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 16\r\n\r\n"
    one.process.terminate()
    for connection in waiting:
        connection.sendall(request + b'{"prompt": "hi"}')
    for connection in waiting:
        with connection:
            connection.settimeout(60)
            answer = connection.recv(4096)
            assert answer == b"" or answer.startswith((b"HTTP/1.1 503", b"HTTP/1.1 200"))
    assert one.wait_exit() == 0


# The clients.


def test_a_client_that_leaves_frees_its_slot(worker: Any, until: Any) -> None:
    one = worker({"parallel": 1, "tokens": 10_000, "tokens_per_second": 50}).ready()
    ask = {"messages": [{"role": "user", "content": "x"}]}
    with one.http.stream("POST", CHAT, json={**ask, "stream": True}) as answer:
        next(answer.iter_lines())
    until(lambda: one.live_facts()["in_flight"] == 0)
    with pytest.raises(httpx.ReadTimeout):
        one.http.post(CHAT, json=ask, timeout=0.2)
    until(lambda: one.live_facts()["in_flight"] == 0)
    # The only slot is free again: a short answer comes.
    assert one.chat(max_tokens=2).status_code == 200
    assert one.live_facts()["errors_total"] == 0
