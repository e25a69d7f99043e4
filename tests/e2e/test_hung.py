"""Stopped, not dead: the port is open and nobody is behind it. Found, replaced, told."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from functools import partial
from signal import SIGCONT, SIGSTOP
from typing import Any

import httpx
import pytest

from e2e.helpers import (
    WAIT_SECONDS,
    alive,
    assert_error,
    chat,
    fake,
    in_background,
    result,
    streamed,
    streaming,
    until,
)
from e2e.support import PoolProcess

pytestmark = pytest.mark.long

Scene = Callable[[PoolProcess], None]

SLOW = {"tokens": 400, "tokens_per_second": 20}
FORGETS = {"hang_after_tokens": 3}
MODELS = (
    fake("slow", options=SLOW),
    fake("idle"),
    fake("pausing"),
    fake("stuck", options={"hang_everything": True}),
    fake("unjudged"),
    fake("forgets", options=FORGETS),
    fake("forgets one", options=FORGETS),
    fake("given up"),
)
SCENES: dict[str, Scene] = {}


def scene(play: Scene) -> Scene:
    SCENES[play.__name__] = play
    return play


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    folder = tmp_path_factory.mktemp("hung")
    # A probe takes longer than a request waits for a load: none is sent a second time.
    keys = {"hang_seconds": 1, "crash_budget": 100, "retry_attempts": 0, "load_wait_seconds": 10}
    with PoolProcess(folder, MODELS, beat_seconds=0.5, **keys) as running:
        yield running


@pytest.fixture(scope="module")
def played(pool: PoolProcess) -> Iterator[dict[str, Future[None]]]:
    """All scenes, begun together: each has a model of its own and waits for most of its time."""
    played = {name: in_background(partial(play, pool)) for name, play in SCENES.items()}
    yield played
    wait(played.values(), 2 * WAIT_SECONDS)


def gone(view: dict[str, Any]) -> bool:
    return not alive(view["worker_pid"]) and not alive(view["engine_pid"])


@scene
def an_engine_that_was_stopped_under_a_stream_is_replaced(pool: PoolProcess) -> None:
    view = pool.load("slow")
    task = streaming(pool.url, chat("slow"))
    os.kill(view["engine_pid"], SIGSTOP)
    stream = result(task)
    assert stream.text
    assert not stream.is_done
    assert stream.error["message"]
    failure = until(lambda: pool.model("slow")["failure"], "the failure to be told")
    assert failure["code"] == "worker_hung"
    assert "requests in flight" in failure["message"]
    until(lambda: gone(view), "its end")
    assert "worker-replaced" in [name for name, _ in pool.story("slow")]


@scene
def an_idle_front_that_was_stopped_is_replaced(pool: PoolProcess) -> None:
    view = pool.load("idle")
    os.kill(view["worker_pid"], SIGSTOP)
    failed = pool.wait_for("idle", "FAILED")
    assert failed["failure"]["code"] == "worker_hung"
    until(lambda: gone(view), "its end")
    until(lambda: pool.chat("idle").status_code == 200, "the next answer")
    assert pool.model("idle")["worker_pid"] != view["worker_pid"]


@scene
def a_worker_that_was_stopped_for_a_moment_stays(pool: PoolProcess) -> None:
    view = pool.load("pausing")
    os.kill(view["worker_pid"], SIGSTOP)
    os.kill(view["worker_pid"], SIGCONT)
    assert pool.ask("pausing") == "hello there"
    assert pool.model("pausing")["worker_pid"] == view["worker_pid"]


@scene
def an_engine_that_never_answers_is_replaced_and_the_client_told(pool: PoolProcess) -> None:
    pool.load("stuck")
    answer = pool.chat("stuck")
    status = answer.status_code
    code = {502: "worker_failed", 503: "worker_hung"}[status]
    assert "the engine hangs" in assert_error(answer, status, code)
    assert int(answer.headers["retry-after"]) >= 1
    assert [name for name, _ in pool.story("stuck")].count("worker-replaced") == 1


@scene
def a_request_that_the_engine_forgot_is_ended_and_the_engine_stays(pool: PoolProcess) -> None:
    view = pool.load("forgets")
    stream = streamed(pool.url, chat("forgets", "one two three four five"))
    assert stream.text
    assert "gave nothing for this request" in stream.error["message"]
    assert pool.model("forgets")["worker_pid"] == view["worker_pid"]


@scene
def a_forgotten_request_is_ended_while_others_are_answered(pool: PoolProcess) -> None:
    view = pool.load("forgets one")
    task = in_background(lambda: streamed(pool.url, chat("forgets one", "one two three four five")))
    end = time.monotonic() + 60
    while not task.done() and time.monotonic() < end:
        assert pool.chat("forgets one", max_tokens=1).status_code == 200
        time.sleep(0.2)
    assert "gave nothing for this request" in result(task).error["message"]
    assert pool.model("forgets one")["worker_pid"] == view["worker_pid"]


@scene
def a_stopped_engine_is_found_though_every_client_gives_up_early(pool: PoolProcess) -> None:
    view = pool.load("given up")
    os.kill(view["engine_pid"], SIGSTOP)
    end = time.monotonic() + 60
    while not gone(view) and time.monotonic() < end:
        with contextlib.suppress(httpx.TimeoutException):
            httpx.post(f"{pool.url}/v1/chat/completions", json=chat("given up"), timeout=0.7)
    assert gone(view)
    assert "worker-replaced" in [name for name, _ in pool.story("given up")]


@pytest.mark.parametrize("name", SCENES)
def test_it(played: dict[str, Future[None]], name: str) -> None:
    result(played[name], 2 * WAIT_SECONDS)


def test_a_manager_that_was_stopped_judges_nobody(
    pool: PoolProcess, played: dict[str, Future[None]]
) -> None:
    wait(played.values())  # who stands still plays nothing
    view = pool.load("unjudged")
    os.kill(pool.pid, SIGSTOP)
    try:
        time.sleep(3)  # some beats go unheard
    finally:
        os.kill(pool.pid, SIGCONT)
    assert pool.ask("unjudged") == "hello there"
    assert pool.model("unjudged")["worker_pid"] == view["worker_pid"]
    assert "worker-replaced" not in [name for name, _ in pool.story("unjudged")]
