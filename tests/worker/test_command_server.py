"""The server of an engine, between those who start and end it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
