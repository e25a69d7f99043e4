"""The process above a manager that is process 1: it reaps orphans, and nobody else's children.

A subreaper stands for process 1: the kernel gives both the orphans below them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="subreapers are Linux's")

HEAD = """
import ctypes, json, os, signal, subprocess, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
from modelpool.init_process import fork_if_init
fork_if_init()
def say(**what): print(json.dumps({"pid": os.getpid(), "init": os.getppid(), **what}), flush=True)
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def run(code: str, **more: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HEAD + textwrap.dedent(code)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **more)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    return dict(json.loads(process.stdout.readline()))


def test_orphans_are_reaped_and_own_children_are_not(start: Start) -> None:
    process = start("""
        orphans = []
        for code in range(100):
            parent = subprocess.Popen(
                ["sh", "-c", "sleep 0.01 & echo $!; exit $0", str(code)], stdout=subprocess.PIPE
            )
            orphans.append(int(parent.stdout.readline()))
            assert parent.wait() == code, "whose exit status was it?"
        deadline = time.monotonic() + 30
        while any(os.path.exists(f"/proc/{pid}") for pid in orphans):
            assert time.monotonic() < deadline, "they are not reaped"
            time.sleep(0.01)
        say()
    """)
    said = line(process)
    assert process.wait(30) == 0
    assert (said["init"], said["pid"] != process.pid) == (process.pid, True)


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_it_ends_as_the_manager_does(start: Start, code: int) -> None:
    assert start(f"raise SystemExit({code})").wait(30) == code


def test_a_killed_manager_is_its_end(start: Start) -> None:
    process = start("say(); signal.pause()")
    os.kill(line(process)["pid"], signal.SIGKILL)
    assert process.wait(30) == 128 + signal.SIGKILL


def test_a_killed_init_is_the_managers_end(start: Start) -> None:
    process = start("say(); signal.pause()")
    manager = psutil.Process(line(process)["pid"])
    process.kill()
    process.wait()
    manager.wait(30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_are_passed_on_each_once(start: Start, number: signal.Signals) -> None:
    process = start(f"""
        def told(number, _):
            say(number=number)
        signal.signal({int(number)}, told)
        say()
        while True:  # not pause(): a signal just before it would be noticed with the next one only
            time.sleep(0.01)
    """)
    line(process)
    for _ in range(3):
        process.send_signal(number)
        assert line(process)["number"] == number


def test_a_ctrl_c_of_the_terminal_comes_once(start: Start) -> None:
    """It goes to the group in the foreground, of which the manager is no member."""
    process = start("say(group=os.getpgrp()); signal.pause()", start_new_session=True)
    assert line(process)["group"] != os.getpgid(process.pid)


def test_children_that_are_ignored_elsewhere_are_waited_for(start: Start) -> None:
    """A parent may have had SIGCHLD ignored, which a program inherits."""
    process = start(
        "raise SystemExit(4)",
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
    )
    assert process.wait(30) == 4


def test_the_managers_socket_is_its_own_and_known_as_such(start: Start, tmp_path: Path) -> None:
    # As podman starts a container's process 1 with a socket: it says the process's own pid.
    read, write = os.pipe()
    process = start(
        """
        os.environ["LISTEN_PID"]
        say(listen=os.environ["LISTEN_PID"])
        os.close(3)
        signal.pause()
        """,
        preexec_fn=lambda: (
            os.dup2(write, 3),
            os.set_inheritable(3, True),
            os.environ.update(LISTEN_PID=str(os.getpid())),
        ),
        close_fds=False,
    )
    os.close(write)
    said = line(process)
    assert said["listen"] == str(said["pid"])
    assert os.read(read, 1) == b"", "nobody else holds it open"
    os.close(read)


def test_elsewhere_nothing_is_forked() -> None:
    code = (
        "import os; from modelpool.init_process import fork_if_init\n"
        "pid = os.getpid(); fork_if_init(); assert os.getpid() == pid"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
