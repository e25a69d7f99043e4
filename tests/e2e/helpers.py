"""Small things for tests with real processes: waiting, ports, requests, answers, errors."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import psutil

if TYPE_CHECKING:
    from e2e.support import PoolProcess

T = TypeVar("T")

MARK = "E2E_POOL"
FIRST_PORT, LAST_PORT = 18_000, 31_000  # below the ports that the kernel gives away
SHARES = 8
WAIT_SECONDS = 120.0  # that only what is stuck misses, however busy the machine
START_SECONDS = 150.0  # the same of a manager, which imports what it needs first


def until(look: Callable[[], T], what: str, seconds: float = WAIT_SECONDS) -> T:
    """The first true value that ``look`` gives.

    Raises:
        AssertionError: there was none in time.
    """
    end = time.monotonic() + seconds
    while True:
        value = look()
        if value:
            return value
        assert time.monotonic() < end, f"waited {seconds:.0f} s in vain for {what}; last: {value!r}"
        time.sleep(0.02)


def fake(model_id: str, **more: Any) -> dict[str, Any]:
    """A catalog entry with the fake engine; ``options`` are its script."""
    return {"model_id": model_id, "engine": "fake", "source": "none", "memory_mb": 1, **more}


def chat(model: str, text: str = "hello there", **more: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_given: list[range] = []


def give_back(first: int) -> None:
    """The block that begins there is in use no more."""
    _given[:] = [block for block in _given if block.start != first]


def free_block(size: int) -> int:
    """The first of ``size`` neighbouring ports that are free now, and nobody else's of this process
    until ``give_back``."""
    choose = random.Random(f"{os.getpid()} {time.monotonic_ns()}")
    # Tests that run beside us have ranges of their own: what is free now may be theirs in a moment.
    beside = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % SHARES
    share = (LAST_PORT - FIRST_PORT) // SHARES
    start = FIRST_PORT + beside * share
    for _ in range(200):
        first = choose.randrange(start, start + share - size)
        block = range(first, first + size)
        # A pool that other tests share takes most of its ports only later.
        is_given = any(first < b.stop and b.start < block.stop for b in _given)
        if not is_given and all(map(is_free, block)):
            _given.append(block)
            return first
    raise AssertionError("no block of free ports")


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def marked(mark: str) -> list[psutil.Process]:
    """Living processes whose environment carries the mark of a pool."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            is_ours = process.environ().get(MARK) == mark
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def command_line(process: psutil.Process) -> str:
    """What it was started with; empty if it has ended meanwhile."""
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def clean_environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MODELPOOL_", "MODEL_"))}
    return {**kept, "NO_COLOR": "1", **more}


def content(answer: httpx.Response) -> str:
    return str(answer.json()["choices"][0]["message"]["content"])


class Stream:
    """A server-sent stream as it came: comments, data, and whether it ended with ``[DONE]``.
    ``begun`` is called when the first text is there."""

    def __init__(self, lines: Iterator[str], begun: Callable[[], object] | None = None) -> None:
        self.comments: list[str] = []
        self.data: list[dict[str, Any]] = []
        self.is_done = False
        for line in lines:
            self._take(line)
            if begun is not None and self.text:
                begun()
                begun = None

    def _take(self, line: str) -> None:
        if line.startswith(":"):
            self.comments.append(line[1:].strip())
        elif line == "data: [DONE]":
            self.is_done = True
        elif line.startswith("data: "):
            self.data.append(json.loads(line[6:]))

    @property
    def text(self) -> str:
        choices = [c for d in self.data for c in d.get("choices", ())]
        return "".join(c["delta"].get("content") or "" for c in choices)

    @property
    def error(self) -> dict[str, Any]:
        """The error that it ended with; empty if it did not."""
        return dict(self.data[-1].get("error") or {}) if self.data else {}


def streamed(
    url: str,
    body: Mapping[str, Any],
    seconds: float = 60,
    begun: Callable[[], object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Stream:
    """Send a chat request as a stream to the server at ``url`` and read it to its end."""
    with httpx.stream(
        "POST",
        f"{url}/v1/chat/completions",
        json={**body, "stream": True},
        headers=headers,
        timeout=seconds,
        trust_env=False,
        verify=False,
    ) as answer:
        assert answer.status_code == 200, answer.read()
        return Stream(answer.iter_lines(), begun)


def in_background(work: Callable[[], Any]) -> Future[Any]:
    """Begin ``work`` in a thread of its own."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as e:
            future.set_exception(e)

    threading.Thread(target=run).start()
    return future


def result(task: Future[Any], seconds: float = WAIT_SECONDS) -> Any:
    """What came of it."""
    return task.result(seconds)


def streaming(url: str, body: Mapping[str, Any]) -> Future[Any]:
    """A stream in the background, of which the engine has given something already: one that is
    hindered earlier is another's to answer."""
    begun = threading.Event()
    task = in_background(lambda: streamed(url, body, begun=begun.set))
    task.add_done_callback(lambda _: begun.set())
    assert begun.wait(WAIT_SECONDS), "nothing came"
    return task


def run_of(pool: PoolProcess) -> str:
    """Which run of the manager answers."""
    return str(pool.http.get("/health").json()["run"])


def until_another(pool: PoolProcess, run: str) -> None:
    """Until another than that one answers."""

    def is_another() -> bool:
        try:
            return run_of(pool) != run
        except httpx.TransportError:  # it came to the old one in its last moment
            return False

    until(is_another, "the next manager", START_SECONDS)


@contextlib.contextmanager
def lease_goes_on(pool: PoolProcess, model: str, minutes: float) -> Iterator[None]:
    """Of an idle model, while managers follow each other in the block: it goes on there and is not
    begun anew. What is halved is the time from the start of a manager on, of which some may pass
    between what a worker tells and when that is read."""
    rounded = 0.1  # s; it is told in thousandths of a minute
    before = time.monotonic()
    assert pool.ask(model)
    idle = time.monotonic()
    yield
    least = (time.monotonic() - idle) / 2
    left = 60 * float(pool.model(model)["ttl_remaining_minutes"])
    most = time.monotonic() - before
    assert least <= 60 * minutes - left <= most + rounded, (least, left, most)


def until_busy(pool: PoolProcess, model: str, requests: int = 1) -> None:
    """Until so many have reached the worker; the manager knows of them a little earlier."""

    def look() -> bool:
        health = pool.http.get(f"/models/{model}/health").json()
        return bool(health.get("in_flight", 0) >= requests)

    until(look, f"{model} to be busy")


@contextlib.contextmanager
def standing_still(pool: PoolProcess, model: str) -> Iterator[None]:
    """The model's engine is stopped: what it is asked meanwhile ends afterwards, however long the
    test takes over it."""
    pid = int(pool.model(model)["engine_pid"])
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def assert_error(answer: httpx.Response, status: int, code: str, param: str | None = None) -> str:
    """Check the shape of an error and its headers; its message."""
    assert answer.status_code == status, (answer.status_code, answer.text[:500])
    error = answer.json()["error"]
    assert {"message", "type", "param", "code", "source"} <= set(error), error
    assert error["code"] == code, error
    assert answer.headers["x-modelpool-code"] == code
    assert answer.headers["x-modelpool-source"] == error["source"]
    assert error["message"], error
    if param is not None:
        assert error["param"] == param, error
    return str(error["message"])
