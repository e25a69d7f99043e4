"""Clients of the gateway that stop in the middle hold nothing: no lease, no grant, no eviction."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.bare_client import connected, request, until_closed

from e2e.conftest import MakePool, WithModels
from e2e.helpers import chat, fake, until

SOON = {
    "client_header_timeout_seconds": 2,
    "client_body_timeout_seconds": 2,
    "send_timeout_seconds": 2,
}
ENDLESS = {"tokens": 10**7, "tokens_per_second": 10**6}


@pytest.fixture(scope="module")
def pool_keys() -> dict[str, Any]:
    return SOON


def test_who_stops_reading_a_stream_is_in_nobodys_way(make_pool: MakePool) -> None:
    pool = make_pool(
        fake("a", options=ENDLESS),
        fake("b"),
        max_concurrent_models=1,
        min_residency_seconds=0,
        **SOON,
    )
    pool.load("a")
    body = json.dumps(chat("a", stream=True)).encode()
    with connected(pool.port) as sock:
        sock.sendall(request(pool.port, body))
        assert sock.recv(1), "the stream has begun"
        until(lambda: pool.model("a")["in_flight"] == 0, "the end of what nobody reads")
        assert pool.ask("b"), "a was evicted"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/models/a/load"])
def test_half_a_body_is_told_and_begins_nothing(own_pool: WithModels, path: str) -> None:
    pool = own_pool(fake("a"))
    with connected(pool.port) as sock:
        sock.sendall(request(pool.port, b'{"model": "a"', length=100, path=path))
        answer = until_closed(sock)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"request_timeout" in answer
    assert pool.state_of("a") == "COLD"


def test_half_a_head_is_told(own_pool: WithModels) -> None:
    pool = own_pool(fake("a"))
    with connected(pool.port) as sock:
        sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127")
        answer = until_closed(sock)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"x-modelpool-source: pool" in answer
