"""A probe: what it clears, and which requests it ends."""

from __future__ import annotations

import json
import threading
from typing import Any

import httpx
import pytest
from support.bare_client import connected, request

pytestmark = pytest.mark.e2e

CHAT = "/v1/chat/completions"
ASK = {"messages": [{"role": "user", "content": "one two three four five six"}]}


def probe(one: Any, seconds: float = 60.0, silent: float | None = None) -> dict[str, Any]:
    body = {"timeout_seconds": seconds, "silent_seconds": silent}
    return dict(one.internal("POST", "probe", json=body).json())


def give_up(one: Any, until: Any, seconds: float = 0.3) -> None:
    """Ask, and leave when the engine has shown no progress for so long."""
    with connected(one.port) as client:
        client.sendall(request(one.port, json.dumps(ASK).encode()))
        until(lambda: one.live_facts()["progress_seconds"] > seconds)
    until(lambda: one.live_facts()["in_flight"] == 0)


class Asking(threading.Thread):
    """A client that waits for as long as it takes."""

    def __init__(self, one: Any) -> None:
        super().__init__(daemon=True)
        self._url, self.text = f"http://127.0.0.1:{one.port}{CHAT}", ""
        self.start()

    def run(self) -> None:
        self.text = httpx.post(self._url, json={**ASK, "stream": True}, timeout=60.0).text


def test_a_slow_engine_whose_client_left_is_cleared_by_its_token(worker: Any, until: Any) -> None:
    one = worker({"first_token_seconds": 4}).ready()
    give_up(one, until)
    assert one.live_facts()["progress_seconds"] > 0
    reply = probe(one)
    assert reply["answered"]
    assert reply["facts"]["progress_seconds"] == 0


def test_what_was_refused_owes_nothing(worker: Any) -> None:
    """By the engine, or before it was asked at all."""
    one = worker({"context_length": 2}).ready()
    assert one.chat("one two three").status_code == 400
    assert one.http.post(CHAT, json={"messages": 5}).status_code == 400
    assert one.live_facts()["progress_seconds"] == 0


def test_a_hanging_engine_stays_suspect(worker: Any, until: Any) -> None:
    one = worker({"hang_everything": True}).ready()
    give_up(one, until)
    give_up(one, until, 0.6)
    reply = probe(one, 0.2)
    assert not reply["answered"]
    assert reply["facts"]["progress_seconds"] > 0.7


def test_a_forgotten_request_is_ended_while_others_are_answered(worker: Any, until: Any) -> None:
    one = worker({"hang_after_tokens": 3}).ready()
    forgotten = Asking(one)
    until(lambda: one.live_facts()["silent_seconds"] > 0.2)
    for _ in range(3):
        assert forgotten.is_alive()
        assert one.chat("hello", max_tokens=1).status_code == 200
        assert one.live_facts()["progress_seconds"] < one.live_facts()["silent_seconds"]
        assert probe(one, silent=0.2)["answered"]
    forgotten.join(60)
    assert "gave nothing for this request" in forgotten.text


def test_who_waits_in_the_engines_own_line_is_not_forgotten(worker: Any, until: Any) -> None:
    one = worker({"parallel": 1, "tokens": 20, "tokens_per_second": 4}).ready()
    served = Asking(one)
    until(lambda: one.live_facts()["in_flight"] == 1)
    waiting = Asking(one)
    until(lambda: one.live_facts()["silent_seconds"] > 0.5)
    for _ in range(4):
        probe(one, 0.1, silent=0.1)
    for asking in (served, waiting):
        asking.join(60)
        assert "[DONE]" in asking.text
