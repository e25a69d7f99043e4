"""``poolctl top``, ``ps`` and ``open``, in a real terminal and for programs."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from e2e.conftest import WithModels
from e2e.helpers import fake
from e2e.support import PoolProcess

COMMAND = [sys.executable, "-c", "from modelpool_client.cli import main; main()"]
CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[()].")


def poolctl(pool: PoolProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "--url", pool.url, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=pool.environment, check=False
    )


class Terminal:
    """What a program writes to a terminal of its own."""

    def __init__(self, process: subprocess.Popen[bytes], fd: int) -> None:
        self.process = process
        self._fd = fd
        self.text = ""

    def wait_for(self, wanted: str, seconds: float = 60) -> None:
        """Read on until it was written."""
        end = time.monotonic() + seconds
        while wanted not in self.text:
            left = end - time.monotonic()
            assert left > 0, " ".join(self.text.split())[-2000:]
            if select.select([self._fd], [], [], left)[0]:
                self.text += CONTROL.sub("", os.read(self._fd, 1 << 16).decode(errors="replace"))

    def ended_by(self, keys: bytes) -> int:
        """Its exit code. What it still writes is read: else it would wait for that."""
        os.write(self._fd, keys)
        end = time.monotonic() + 60
        while self.process.poll() is None:
            assert time.monotonic() < end, self.text[-2000:]
            if select.select([self._fd], [], [], 0.1)[0]:
                with suppress(OSError):  # the other end is closed
                    os.read(self._fd, 1 << 16)
        return self.process.returncode


@contextmanager
def terminal(pool: PoolProcess, *arguments: str) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    environment = {**pool.environment, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    process = subprocess.Popen(
        [*COMMAND, "--url", pool.url, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0),  # for Ctrl-C
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait(30)
        os.close(ours)


def test_top_shows_what_changes_and_outlives_the_manager(own_pool: WithModels) -> None:
    pool = own_pool(fake("m"))
    with terminal(pool, "top", "-d", "0.2") as screen:
        screen.wait_for("no model is loaded")
        pool.load("m")
        screen.wait_for("HOT")
        pool.ask("m")
        screen.wait_for("1 of 1 models loaded")
        pool.kill()
        screen.wait_for("nobody answers")
        pool.start()
        screen.text = ""
        screen.wait_for("1 of 1 models loaded")
        assert screen.ended_by(b"\x03") == 130


def test_programs_read_what_people_see(own_pool: WithModels) -> None:
    pool = own_pool(fake("m"))
    assert "no model is loaded" in poolctl(pool, "ps").stdout
    pool.load("m")
    assert [m["model_id"] for m in json.loads(poolctl(pool, "--json", "ps").stdout)["models"]] == [
        "m"
    ]
    told = poolctl(pool, "top", "--json", "-n", "2", "-d", "0.1").stdout.splitlines()
    assert [json.loads(line)["models"][0]["state"] for line in told] == ["HOT", "HOT"]
    assert "m" in json.loads(told[1])["per_second"]
    assert "HOT" in poolctl(pool, "top", "-n", "1").stdout
    assert json.loads(poolctl(pool, "open", "--json").stdout) == {"url": pool.url}
    gone = subprocess.run(
        [*COMMAND, "--url", "http://127.0.0.1:9", "top"], capture_output=True, text=True, timeout=60
    )
    assert gone.returncode == 3
    assert "error:" in gone.stderr
