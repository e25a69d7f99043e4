"""Only what reached the engine is use; who does not send, or does not read, is not waited for."""

from __future__ import annotations

import time
from typing import Any

import pytest
from support.bare_client import CHAT, answer_to, connected, request, until_closed

pytestmark = pytest.mark.e2e
SOON = {
    "client_header_timeout_seconds": 1.0,
    "client_body_timeout_seconds": 1.0,
    "send_timeout_seconds": 1.0,
}
# More than the buffers of both kernels take, if nobody reads it.
ENDLESS = {"tokens": 10**7, "tokens_per_second": 10**6}


def test_half_a_body_is_no_use_and_is_not_waited_for(worker: Any, until: Any) -> None:
    one = worker(**SOON).ready()
    before = one.live_facts()
    with connected(one.port) as sock:
        sock.sendall(request(one.port, b'{"messages": ', length=100))
        assert one.live_facts()["in_flight"] == 0
        answer = until_closed(sock)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"request_timeout" in answer
    after = one.live_facts()
    assert (after["requests_total"], after["in_flight"]) == (before["requests_total"], 0)
    assert after["idle_seconds"] > before["idle_seconds"], "its lease was not renewed"


def test_half_a_body_is_in_nobodys_way(worker: Any) -> None:
    """Not even before its time is over."""
    one = worker().ready()
    with connected(one.port) as sock:
        sock.sendall(request(one.port, b'{"messages": ', length=100))
        assert one.internal("POST", "drain", json={"if_idle_for": 0}).json()["drained"] is True
        assert one.wait_exit() == 0


def test_a_body_that_ends_after_the_drain_began_is_told_so(worker: Any, until: Any) -> None:
    one = worker({"tokens": 1000, "tokens_per_second": 20}).ready()
    body = b'{"messages": [{"role": "user", "content": "x"}]}'
    stream = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    with connected(one.port) as sock, one.http.stream("POST", CHAT, json=stream):
        sock.sendall(request(one.port, body[:10], length=len(body)))
        until(lambda: one.live_facts()["in_flight"] == 1)
        one.internal("POST", "drain", json={})
        sock.sendall(body[10:])
        answer = until_closed(sock)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"worker_draining" in answer


@pytest.mark.parametrize(
    "head", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127"], ids=["nothing", "half"]
)
def test_a_head_that_does_not_come_is_not_waited_for(worker: Any, head: bytes) -> None:
    one = worker(**SOON).ready()
    with connected(one.port) as sock:
        sock.sendall(head)
        answer = until_closed(sock)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"the head of the request did not come within 1 s" in answer


def test_the_head_of_a_second_request_is_not_waited_for_either(worker: Any) -> None:
    one = worker(**SOON).ready()
    with connected(one.port) as sock:
        assert answer_to(sock, "/health").startswith(b"HTTP/1.1 200 ")
        sock.sendall(b"GET /health HT")
        assert b"HTTP/1.1 408 " in until_closed(sock)


def test_an_idle_connection_is_kept_for_longer(worker: Any, until: Any) -> None:
    """Clients that keep connections are not those that stop in the middle."""
    one = worker(**SOON).ready()
    with connected(one.port) as kept, connected(one.port) as half:
        assert answer_to(kept, "/health").startswith(b"HTTP/1.1 200 ")
        until_closed(half)
        with connected(one.port) as later:
            until_closed(later)
        assert answer_to(kept, "/health").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "body",
    [
        b"no json",
        b'{"messages": "hi"}',
        b'{"messages": [{"role": "user", "content": "x"}], "model": "another"}',
        b'{"messages": [{"role": "user", "content": "x"}], "temperature": "hot"}',
    ],
)
def test_what_is_refused_is_no_use(worker: Any, body: bytes) -> None:
    one = worker().ready()
    before = one.live_facts()
    answer = one.http.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 404)
    after = one.live_facts()
    assert after["requests_total"] == before["requests_total"]
    assert after["idle_seconds"] > before["idle_seconds"]


def test_a_client_that_stops_reading_loses_its_place(worker: Any, until: Any) -> None:
    one = worker(ENDLESS, **SOON).ready()
    body = b'{"messages": [{"role": "user", "content": "x"}], "stream": true}'
    with connected(one.port) as sock:
        sock.sendall(request(one.port, body))
        assert sock.recv(1), "the stream has begun"
        until(lambda: one.live_facts()["in_flight"] == 0, "nobody reads, and it is still there")
    assert one.internal("POST", "drain", json={"if_idle_for": 0}).json()["drained"] is True
    assert one.wait_exit() == 0


def test_a_slow_reader_lives(worker: Any, until: Any) -> None:
    """It takes a little, now and then."""
    one = worker({"tokens": 2000, "tokens_per_second": 10**6}, **SOON).ready()
    body = b'{"messages": [{"role": "user", "content": "x"}], "stream": true}'
    answer = b""
    with connected(one.port) as sock:
        sock.sendall(request(one.port, body))
        while b"data: [DONE]" not in answer:
            chunk = sock.recv(2048)
            assert chunk, "it was cut off"
            answer += chunk
            time.sleep(0.01)
