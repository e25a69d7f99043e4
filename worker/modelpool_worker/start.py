"""What a front does before anything heavy: read the assignment, bind the port, start the engine.

The engine child loads while the front still imports its HTTP server and client.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator

from modelpool_client.wire import (
    WORKER_EXIT_BAD_ASSIGNMENT,
    WORKER_EXIT_PORT_TAKEN,
    Assignment,
    Failure,
)

from .binding import bind
from .child import EngineChild
from .config import BadAssignment, read_assignment
from .record import write_exit_record


def serve(label: str) -> int:
    """Run a worker with the assignment on standard input. Returns its exit code."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    try:
        assignment = read_assignment(sys.stdin.buffer.readline())
    except BadAssignment as e:
        return _refuse(e.exit_record, "bad_assignment", str(e), WORKER_EXIT_BAD_ASSIGNMENT)
    try:
        sock = bind(assignment.host, assignment.port)
    except OSError as e:
        where = f"{assignment.host}:{assignment.port}"
        message = f"cannot listen on {where}: {e.strerror}"
        return _refuse(assignment.exit_record, "port_taken", message, WORKER_EXIT_PORT_TAKEN)
    # From here on told, not ended, by a signal: the engine must not be left alone half started.
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda n, _: told.append(n))
    with _socket_path(assignment) as path:
        code = _run(assignment, sock, EngineChild(assignment, path, label), path, told)
    _end_group()
    return code


def _run(
    assignment: Assignment, sock: socket.socket, child: EngineChild, path: str, told: list[int]
) -> int:
    from .front import run

    return run(assignment, sock, child, path, told)


def _refuse(record: str, code: str, message: str, exit_code: int) -> int:
    logging.error("%s: %s", code, message)
    write_exit_record(record, Failure(code, message, exit_code=exit_code))
    return exit_code


@contextlib.contextmanager
def _socket_path(assignment: Assignment) -> Iterator[str]:
    folder = assignment.runtime_dir or tempfile.mkdtemp(prefix="modelpool-")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    # Workers may share a folder; a pid that comes round again may find a dead one's socket.
    path = os.path.join(folder, f"{os.getpid()}.sock")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    try:
        yield path
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        if not assignment.runtime_dir:
            shutil.rmtree(folder, ignore_errors=True)


def _end_group() -> None:
    """Ask what the engine left behind in our process group to end, if the group is ours."""
    if os.getpgrp() == os.getpid():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(os.getpid(), signal.SIGTERM)
