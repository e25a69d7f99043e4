"""Starts an engine child. Imports next to nothing: the child should be loading while we import."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass

from modelpool_client.wire import Assignment

from .config import child_environment, job_line
from .proc import start_time

STATUS_FD = "MODELPOOL_STATUS_FD"


@dataclass(frozen=True)
class Spawned:
    """A started engine process and our ends of its pipes; ``started`` as ``proc`` tells it."""

    process: subprocess.Popen[bytes]
    status_fd: int
    output_fd: int
    started: float


def spawn(assignment: Assignment, socket_path: str, label: str) -> Spawned:
    """Start the engine of ``assignment`` in our process group and tell it its job."""
    status_read, status_write = os.pipe()
    output_read, output_write = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "modelpool_worker", "host", assignment.engine, label],
            stdin=subprocess.PIPE,
            stdout=output_write,
            stderr=output_write,
            pass_fds=(status_write,),
            env=child_environment(os.environ, **{STATUS_FD: str(status_write)}),
        )
    finally:
        os.close(status_write)
        os.close(output_write)
    assert process.stdin is not None
    # A child that died at once is reported by its exit, not by a broken pipe.
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(job_line(assignment, socket_path))
        process.stdin.flush()
    started = start_time(process.pid) or time.time()
    return Spawned(process, status_read, output_read, started)
