"""What a front does before anything heavy: read the assignment, bind the port, tell the engine.

The engine child loads while the front still imports its HTTP server and client.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator

from modelpool_client.http1.endpoint import front_socket
from modelpool_client.wire import (
    WORKER_EXIT_BAD_ASSIGNMENT,
    WORKER_EXIT_PORT_TAKEN,
    Assignment,
    FactsReply,
    Failure,
)
from modelpool_client.wire_base import prepare_decoding

from .binding import bind, bound_beside
from .config import BadAssignment, job_line, read_assignment
from .proc import name_process
from .record import write_exit_record
from .spawn import Spawned


def serve_later(child: Spawned | None) -> int:
    """Get ready, and wait for the assignment. Its end without one is not worth a word."""
    with _nothing_collected():
        from . import front  # noqa: F401 - what a front needs is there when it is needed

        prepare_decoding(Assignment, FactsReply)
    line = sys.stdin.buffer.readline()
    if not line:
        _discard(child)
        return 0
    return _serve(line, child, was_spare=True)


def serve(child: Spawned | None) -> int:
    """Run a worker with the assignment on standard input. Returns its exit code."""
    return _serve(sys.stdin.buffer.readline(), child)


def _serve(line: bytes, child: Spawned | None, *, was_spare: bool = False) -> int:
    try:
        assignment = read_assignment(line)
    except BadAssignment as e:
        _discard(child)
        return _refuse(e.exit_record, "bad_assignment", str(e), WORKER_EXIT_BAD_ASSIGNMENT)
    try:
        sock = bind(assignment.host, assignment.port)
    except OSError as e:
        _discard(child)
        where = f"{assignment.host}:{assignment.port}"
        message = f"cannot listen on {where}: {e.strerror}"
        return _refuse(assignment.exit_record, "port_taken", message, WORKER_EXIT_PORT_TAKEN)
    if was_spare:
        _open_log(assignment.log_path)
        name_process(f"{assignment.model_id}@{assignment.port}")
    # From here on told, not ended, by a signal: until now the child would have ended with us.
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda n, _: told.append(n))
    try:
        with _socket_path(assignment) as path:
            if child is not None:
                child.tell(job_line(assignment, path))
            with bound_beside(front_socket(assignment.runtime_dir, assignment.port)) as beside:
                code = _run(assignment, (sock, *beside), child, path, told)
    except RuntimeDirError as e:
        _discard(child)
        return _refuse(assignment.exit_record, "bad_assignment", str(e), WORKER_EXIT_BAD_ASSIGNMENT)
    _end_group()
    return code


def _discard(child: Spawned | None) -> None:
    if child is not None:
        child.discard()


def _open_log(path: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for output in (1, 2):
        os.dup2(fd, output)
    os.close(fd)


class RuntimeDirError(Exception):
    """The folder for the engine's socket cannot be made."""


def _run(
    assignment: Assignment,
    socks: tuple[socket.socket, ...],
    spawned: Spawned | None,
    path: str,
    told: list[int],
) -> int:
    with _nothing_collected():
        from .front import run

    return run(assignment, socks, spawned, path, told)


@contextlib.contextmanager
def _nothing_collected() -> Iterator[None]:
    """What is imported stays: to look for garbage in it takes a tenth of the time of the imports,
    and a sixth of it again at the end."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _refuse(record: str, code: str, message: str, exit_code: int) -> int:
    print(f"{code}: {message}", file=sys.stderr)
    write_exit_record(record, Failure(code, message, exit_code=exit_code))
    return exit_code


@contextlib.contextmanager
def _socket_path(assignment: Assignment) -> Iterator[str]:
    folder = _make_folder(assignment.runtime_dir)
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
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def _make_folder(folder: str) -> str:
    try:
        if folder:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            return folder
        import tempfile

        return tempfile.mkdtemp(prefix="modelpool-")
    except OSError as e:
        raise RuntimeDirError(f"no folder for the engine's socket: {e}") from None


def _end_group() -> None:
    """Ask what the engine left behind in our process group to end, if the group is ours."""
    if os.getpgrp() == os.getpid():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(os.getpid(), signal.SIGTERM)
