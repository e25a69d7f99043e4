"""The pool as process 1 of a container: orphans are reaped, exit statuses stay whose they are."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from e2e.helpers import fake, run_of, until, until_another
from e2e.support import PoolProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="PID namespaces are Linux's")

NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc")
# The kernel gives it the orphans below it, as it gives them to process 1 of a namespace.
BECOME_SUBREAPER = (
    "import ctypes, os, sys\n"
    "ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n"
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


def _can_unshare() -> bool:
    if shutil.which(NAMESPACE[0]) is None:
        return False
    return not subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode


KINDS = ["subreaper", *(["namespace"] if _can_unshare() else [])]


class ProcessOne(PoolProcess):
    """``modelpool serve`` where orphans become its children."""

    kind = "subreaper"

    def launch(self, *arguments: str) -> subprocess.Popen[bytes]:
        own = ["-m", "modelpool", *arguments, "--config", str(self.config)]
        start = (
            [*NAMESPACE, sys.executable, *own]
            if self.kind == "namespace"
            else [sys.executable, "-c", BECOME_SUBREAPER, *own]
        )
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                start, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment
            )

    @property
    def first(self) -> psutil.Process:
        """The process that is 1 in there."""
        started = psutil.Process(self.pid)
        return started.children()[0] if self.kind == "namespace" else started

    def term(self) -> None:
        if not self.is_told:
            self.is_told = True
            self.first.terminate()

    def zombies(self) -> list[str]:
        found = []
        for process in psutil.Process(self.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # reaped meanwhile
                if process.status() == psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid} {process.name()}")
        return found


@pytest.fixture(scope="module", params=KINDS)
def pool(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProcessOne]:
    leaky = fake("leaky", options={"leak_process": True})
    one = ProcessOne(tmp_path_factory.mktemp("one"), [leaky, fake("m")], crash_budget=9)
    one.kind = request.param
    with one:
        yield one


def test_what_an_engine_leaves_behind_is_reaped(pool: ProcessOne) -> None:
    for _ in range(3):
        pool.load("leaky")
        assert pool.http.post("/models/leaky/unload?wait=60", json={}).status_code == 200
    until(lambda: not pool.zombies(), f"the end of {pool.zombies()}")
    assert pool.answers()


def kill_worker(pool: ProcessOne) -> None:
    (front,) = pool.fronts("m")
    front.send_signal(signal.SIGKILL)


def ends_by_kill(pool: ProcessOne) -> int:
    return sum("was ended by SIGKILL" in reason for _, reason in pool.story("m"))


def test_a_dead_workers_exit_status_is_known(pool: ProcessOne) -> None:
    before = ends_by_kill(pool)
    for count in range(before + 1, before + 4):
        pool.load("m")
        kill_worker(pool)
        until(lambda count=count: ends_by_kill(pool) == count, "its exit status")
    until(lambda: not pool.zombies(), f"the end of {pool.zombies()}")


def test_after_a_restart_too(pool: ProcessOne) -> None:
    view = pool.load("m")
    run = run_of(pool)
    assert pool.http.post("/restart", json={}).status_code == 202
    until_another(pool, run)
    assert pool.model("m")["worker_pid"] == view["worker_pid"]
    before = ends_by_kill(pool)
    kill_worker(pool)
    until(lambda: ends_by_kill(pool) == before + 1, "its exit status")
    until(lambda: not pool.zombies(), f"the end of {pool.zombies()}")


def test_term_stops_the_pool(pool: ProcessOne) -> None:
    pool.load("m")
    assert pool.stop() == 0
    assert os.listdir(pool.state)
