"""Starts an engine child. Imports next to nothing: the child should get ready while we do."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time

from .engine_table import is_remote
from .environment import child_environment
from .proc import start_time

STATUS_FD = "MODELPOOL_STATUS_FD"


class Spawned:
    """A started engine process and our ends of its pipes; ``started`` as ``proc`` tells it."""

    def __init__(
        self, process: subprocess.Popen[bytes], status_fd: int, output_fd: int, started: float
    ) -> None:
        self.process = process
        self.status_fd = status_fd
        self.output_fd = output_fd
        self.started = started

    def tell(self, job: bytes) -> None:
        """Hand it its job, a line."""
        assert self.process.stdin is not None
        # A child that died at once is reported by its exit, not by a broken pipe.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(job)
            self.process.stdin.flush()

    def discard(self) -> None:
        """End it: there is nothing to load."""
        self.process.kill()
        self.process.wait()


def spawn(engine: str, label: str) -> Spawned | None:
    """Start an engine child in our process group, which waits for its job; None for an engine that
    computes elsewhere."""
    if is_remote(engine):
        return None
    status_read, status_write = os.pipe()
    output_read, output_write = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "modelpool_worker", "host", engine, label],
            stdin=subprocess.PIPE,
            stdout=output_write,
            stderr=output_write,
            pass_fds=(status_write,),
            env=child_environment(os.environ, **{STATUS_FD: str(status_write)}),
        )
    finally:
        os.close(status_write)
        os.close(output_write)
    started = start_time(process.pid) or time.time()
    return Spawned(process, status_read, output_read, started)
