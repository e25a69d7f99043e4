"""A worker whose engine, manager, port or assignment fails."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from typing import Any

import psutil
import pytest
from support.bare_client import connected, request

pytestmark = [pytest.mark.e2e, pytest.mark.long]

CHAT = "/v1/chat/completions"
# What the loop's clock may be behind the system's: libuv counts whole milliseconds.
CLOCK_SECONDS = 0.001
ASK = {"messages": [{"role": "user", "content": "one two three four"}]}


# The load.


@pytest.mark.parametrize("code", ["oom", "bad_file", "missing_dependency"])
def test_a_failed_load(worker: Any, code: str) -> None:
    one = worker({"fail_load": code, "message": "because"}).start()
    assert one.wait_exit() == 3
    assert one.record["code"] == code
    assert one.record["message"] == "because"
    assert one.record["lines"] == ["fake: because"]
    assert one.last_phase("failed")["failure"]["code"] == code


@pytest.mark.parametrize(
    ("how", "end"), [(7, "exit code 7"), ("SIGSEGV", "SIGSEGV"), ("SIGKILL", "out of memory?")]
)
def test_a_death_while_loading(worker: Any, how: Any, end: str) -> None:
    one = worker({"die_while_loading": how}).start()
    assert one.wait_exit() == 3
    assert end in one.record["message"]
    assert one.record["lines"] == [f"fake: dying by {how}"]


def test_an_engine_that_lies(worker: Any) -> None:
    one = worker({"lie_ready": True}).start()
    assert one.wait_exit() == 3
    assert "accepts no connection" in one.record["message"]


@pytest.mark.parametrize(
    ("assignment", "code", "words"),
    [
        ({"options": {"colour": "red"}}, "bad_config", "options.colour is unknown"),
        ({"options": {"tokens": "many"}}, "bad_config", "options.tokens must be an integer"),
        ({"engine": "abacus"}, "bad_config", "no engine 'abacus'"),
    ],
)
def test_wrong_load_options(worker: Any, assignment: Any, code: str, words: str) -> None:
    one = worker(**assignment).start()
    assert one.wait_exit() == 3
    assert one.record["code"] == code
    assert words in one.record["message"]


def test_a_taken_port(worker: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        one = worker(port=taken.getsockname()[1]).start()
        assert one.wait_exit() == 5
    assert one.record["code"] == "port_taken"


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b'{"port": 1'])
def test_a_bad_assignment(worker: Any, line: bytes) -> None:
    one = worker().start(line)
    assert one.wait_exit() == 4
    assert "bad_assignment" in one.log


def test_a_bad_assignment_leaves_a_record_if_it_can(worker: Any) -> None:
    one = worker(beat_seconds=0.0).start()
    assert one.wait_exit() == 4
    assert "beat_seconds" in one.record["message"]


# The engine.


@pytest.mark.parametrize("stream", [True, False])
def test_the_engine_dies_in_the_middle(worker: Any, stream: bool) -> None:
    one = worker({"die_after_tokens": 2}).ready()
    answer = one.http.post(CHAT, json={**ASK, "stream": stream})
    assert "the engine died: signal 9" in answer.text
    assert "dying after 2 tokens" in answer.text
    assert "[DONE]" not in answer.text
    assert answer.status_code == (200 if stream else 502)
    assert one.wait_exit() == 6
    assert one.record["code"] == "engine_died"
    assert one.record["exit_code"] == -9
    assert one.last_phase("failed")


def test_the_engine_is_killed_from_outside(worker: Any, until: Any) -> None:
    one = worker({"hang_after_tokens": 1}).ready()
    with one.http.stream("POST", CHAT, json={**ASK, "stream": True}) as answer:
        lines = answer.iter_lines()
        next(lines)
        os.kill(one.facts["engine_pid"], signal.SIGKILL)
        assert any("the engine died" in line and '"engine_died"' in line for line in lines)
    assert one.wait_exit() == 6


def test_an_idle_engine_is_killed(worker: Any) -> None:
    one = worker().ready()
    os.kill(one.facts["engine_pid"], signal.SIGKILL)
    assert one.wait_exit() == 6


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fault", ["garbage", "end_early"])
def test_an_engine_that_talks_nonsense(worker: Any, fault: str, stream: bool, until: Any) -> None:
    one = worker({fault: True}).ready()
    answer = one.http.post(CHAT, json={**ASK, "stream": stream})
    assert '"engine_failed"' in answer.text
    assert "[DONE]" not in answer.text
    begun = stream and fault == "end_early"
    assert answer.status_code == (200 if begun else 502)
    until(lambda: one.live_facts()["errors_total"] == 1)


def test_a_hanging_engine_shows_in_the_facts(worker: Any, until: Any) -> None:
    one = worker({"hang_everything": True}).ready()
    with connected(one.port) as client:
        client.sendall(request(one.port, json.dumps(ASK).encode()))
        until(lambda: one.live_facts()["progress_seconds"] > 0.4)
        left = time.monotonic()
    until(lambda: one.live_facts()["in_flight"] == 0)
    before = one.live_facts()
    assert before["progress_seconds"] > 0.4
    assert before["idle_seconds"] <= time.monotonic() - left + CLOCK_SECONDS


# The front.


def test_a_killed_front_leaves_no_engine(worker: Any, until: Any) -> None:
    one = worker({"ignore_term": True}).ready()
    engine = one.facts["engine_pid"]
    one.process.kill()
    one.process.wait()
    until(lambda: not psutil.pid_exists(engine))


# The manager.


def test_a_dismissed_worker_leaves(worker: Any, own_manager: Any) -> None:
    one = worker(manager=own_manager, beat_seconds=0.05).ready()
    own_manager.reply = {"known": False, "pool_id": one.assignment["pool_id"]}
    assert one.wait_exit() == 0
    assert "does not know this worker" in one.log


def test_a_strangers_manager_counts_as_none(worker: Any, own_manager: Any) -> None:
    settings = {"beat_seconds": 0.05, "lease_seconds": 0.2, "orphan_seconds": 3.0}
    own_manager.reply = {"known": True, "pool_id": "pool-of-the-test", "lease_seconds": 0.2}
    one = worker(manager=own_manager, **settings).ready()
    own_manager.reply = {"known": False, "pool_id": "a stranger"}
    changed = len(own_manager.posts)
    assert one.wait_exit() == 0
    assert len(own_manager.posts) - changed > 3
    assert "no manager answered" in one.log


def test_an_orphan_serves_on_and_leaves_in_the_end(worker: Any, own_manager: Any) -> None:
    own_manager.reply = {"known": True, "pool_id": "pool-of-the-test", "lease_seconds": 0.5}
    settings = {"beat_seconds": 0.05, "lease_seconds": 0.5, "orphan_seconds": 4.0}
    one = worker(manager=own_manager, **settings).ready()
    own_manager.reply = None
    assert one.chat().status_code == 200
    assert one.wait_exit() == 0
    assert "no manager answered" in one.log


def test_a_manager_that_comes_back_in_time(worker: Any, own_manager: Any, until: Any) -> None:
    known = {"known": True, "pool_id": "pool-of-the-test", "lease_seconds": 600.0}
    own_manager.reply = None
    one = worker(manager=own_manager, beat_seconds=0.05).start()
    until(lambda: len(own_manager.posts) > 1)
    own_manager.reply = known
    one.wait_phase("ready")
    seen = len(own_manager.posts)
    until(lambda: len(own_manager.posts) > seen + 3)
    assert one.process.poll() is None
