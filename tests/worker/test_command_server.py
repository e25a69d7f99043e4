"""The server of an engine, between those who start and end it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from modelpool_worker.engines import command_server

# In a process of its own, for all that a process has started is ended.
SCENE = """
import sys, threading
from modelpool_worker.engines import command_server
from modelpool_worker.engines.command_server import Servers, Start

popen = command_server._popen
ran, may_go_on, stopped = threading.Event(), threading.Event(), threading.Event()
found = []

def slow(start):
    found.append(popen(start))
    ran.set()
    assert may_go_on.wait(60)
    return found[0]

def stop():
    servers.stop()
    stopped.set()

command_server._popen = slow
servers = Servers()
command = [sys.executable, "-c", "import time; time.sleep(60)"]
start = Start(command, {}, sys.argv[1], stop_seconds=30.0)
threading.Thread(target=servers.begin, args=(start,), daemon=True).start()
assert ran.wait(60)
threading.Thread(target=stop, daemon=True).start()
assert not stopped.wait(0.05)
may_go_on.set()
assert stopped.wait(60)
assert found[0].poll() is not None, "it runs on"
"""


def test_who_ends_one_that_is_just_being_started_ends_it(tmp_path: Path) -> None:
    said = [sys.executable, "-W", "ignore", "-c", SCENE, str(tmp_path / "socket")]
    done = subprocess.run(said, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_the_end_of_a_process_is_awaited_as_long_as_it_may_take() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        command_server._await_end(process, 0.01)
        assert process.poll() is None
        process.stdin.close()
        command_server._await_end(process, 60)
        assert process.returncode == 0
        command_server._await_end(process, 60)


def test_a_start_that_is_quick_is_found_out_by_short_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it takes itself: no look is later than a share of that."""
    pauses: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    server = object.__new__(command_server.Server)
    server._start = command_server.Start([], {}, str(tmp_path / "socket"))
    server._process = SimpleNamespace(pid=1, poll=lambda: None)  # type: ignore[assignment]
    server._signs, server._last_line = 0, ""
    server._client = command_server.LocalClient(server._start.address)
    monkeypatch.setattr(server, "_is_ready", lambda: now[0] > 100.0)
    monkeypatch.setattr(command_server, "time", clock)
    monkeypatch.setattr(command_server._Work, "has_gone_on", lambda _: True)
    server.until_ready()
    assert pauses[0] == command_server.FIRST_PAUSE_SECONDS
    assert pauses == sorted(pauses)
    assert pauses[-1] == command_server.LAST_PAUSE_SECONDS
    late = [pause / sum(pauses[: i + 1]) for i, pause in enumerate(pauses) if i > 120]
    assert max(late) <= command_server.PAUSE_SHARE
