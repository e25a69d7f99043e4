"""Workers as process groups on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import IO

import psutil
from modelpool_client.log_file import rotate
from modelpool_client.wire import LEFT_BEHIND_NAME, Assignment, encode

from modelpool.catalog.database import WorkerRow

from .base import LaunchError, WorkerProcess, log_heading
from .read_ahead import Files, ReadAhead
from .spares import Spares

# Two readings of one process's start differ by the clock tick at most.
SAME_START_SECONDS = 0.05
POLL_SECONDS = 0.05
# A stop command has its model's stop_seconds, 60 at most.
CLEAN_SECONDS = 65.0
STRAYS_SECONDS = 2.0

log = logging.getLogger(__name__)


@cache
def boot_id() -> str:
    """Changes with every boot, so that a pid of the last one is never taken for ours."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"boot-{psutil.boot_time():.0f}"


class LocalProcess:
    """One worker's process group; its leader is the front."""

    def __init__(
        self, pid: int, create_time: float, *, child: subprocess.Popen[bytes] | None = None
    ) -> None:
        self._pid = pid
        self._create_time = create_time
        self._child = child
        self._exit: asyncio.Future[int | None] | None = None

    def __repr__(self) -> str:
        return f"<LocalProcess {self._pid}{'' if self._child else ' adopted'}>"

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def create_time(self) -> float:
        return self._create_time

    async def wait(self) -> int | None:
        if self._exit is None:
            self._exit = asyncio.ensure_future(self._wait())
        return await asyncio.shield(self._exit)

    async def _wait(self) -> int | None:
        try:
            await _exited(self._pid)
        except (AttributeError, OSError):  # no pidfd here (macOS, old kernels), or gone already
            while self.is_alive():  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(POLL_SECONDS)
        return self._child.wait() if self._child else reap(self._pid)

    def is_alive(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        return find_process(self._pid, self._create_time) is not None

    def terminate(self) -> None:
        if self.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)

    def kill(self) -> None:
        # Its number is not given to another while any member of the group lives.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, signal.SIGKILL)

    async def group_gone(self, timeout: float) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while self.is_alive() or await asyncio.to_thread(has_members, self._pid):
            if loop.time() >= deadline:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True


async def _exited(pid: int) -> None:
    """Return when the process ends; by the kernel's word, no polling.

    Raises:
        AttributeError, OSError: the platform has no pidfd, or the process is gone.
    """
    loop = asyncio.get_running_loop()
    fd = os.pidfd_open(pid)
    ended = loop.create_future()

    def on_exit() -> None:
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(fd, on_exit)
    try:
        await ended
    finally:
        loop.remove_reader(fd)
        os.close(fd)


def reap(pid: int) -> int | None:
    """The exit code of a process that has ended, None where it is no child of ours. A manager that
    was restarted in its own process is still the parent of its workers."""
    with contextlib.suppress(ChildProcessError):
        found, status = os.waitpid(pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if found else None
    return None


def start_time(pid: int) -> float | None:
    """When the process started, None if it is gone: on Linux in seconds since the boot, elsewhere
    since 1970.

    Not psutil's ``create_time`` on Linux: that adds a time of boot which moves with every step of
    the clock, so that nobody would be taken for who he was before it.
    """
    try:
        if sys.platform != "linux":
            return psutil.Process(pid).create_time()
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (OSError, psutil.Error):
        return None
    return int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")


def find_process(pid: int, create_time: float) -> psutil.Process | None:
    """The living process of that pid and start (see ``start_time``), or None."""
    with contextlib.suppress(psutil.Error):
        process, started = psutil.Process(pid), start_time(pid)
        same = started is not None and abs(started - create_time) <= SAME_START_SECONDS
        if same and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


def has_members(pgid: int) -> bool:
    """Is anyone of the process group alive? The dead whom nobody reaped do not count."""
    try:
        os.killpg(pgid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return any(_is_member(p, pgid) for p in psutil.process_iter(["status"]))


def _is_member(process: psutil.Process, pgid: int) -> bool:
    try:
        alive = process.info["status"] not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        return alive and os.getpgid(process.pid) == pgid
    except (ProcessLookupError, PermissionError):
        return False


class LocalLauncher:
    """Starts ``python -m modelpool_worker`` in a session of its own.

    ``command`` builds the command line of a worker from its engine and label, for tests; else it is
    the worker program, run by the python that the assignment names. One that has another python or
    variables of its own takes no spare process's place.
    """

    def __init__(
        self, command: Callable[[str, str], list[str]] | None = None, *, has_spare: bool = False
    ) -> None:
        self._command = command
        self._spares = Spares(_spawn_spare) if has_spare else None
        self._read_ahead = ReadAhead()

    def new_worker_id(self, engine: str) -> str:
        return self._spares.promise(engine) if self._spares is not None else uuid.uuid4().hex

    async def start(self, assignment: Assignment) -> WorkerProcess:
        try:
            # Off the loop that relays: a large assignment fills the pipe until the child reads.
            child = await asyncio.to_thread(self._started, assignment)
        except OSError as e:
            raise LaunchError(f"the worker process could not be started: {e}") from e
        if self._spares is not None and not assignment.python:
            self._spares.wanted(assignment.engine)
        # 0: it ended at once; wait() will say how.
        return LocalProcess(child.pid, start_time(child.pid) or 0.0, child=child)

    def _started(self, assignment: Assignment) -> subprocess.Popen[bytes]:
        _prepare_files(assignment)
        spare = self._spares.claim(assignment.worker_id) if self._spares is not None else None
        if spare is not None and _tell(spare, assignment):
            return spare
        child = self._spawn(assignment)
        _tell(child, assignment)  # if it died already wait() will say how
        return child

    def _spawn(self, assignment: Assignment) -> subprocess.Popen[bytes]:
        label = f"{assignment.model_id}@{assignment.port}"
        if self._command is not None:
            command = self._command(assignment.engine, label)
        else:
            python = assignment.python or sys.executable
            command = [python, "-m", "modelpool_worker", "serve", assignment.engine, label]
        with Path(assignment.log_path).open("ab") as log:
            return _popen(command, assignment.worker_id, log, assignment.variables)

    def read_ahead(self, files: Files) -> None:
        self._read_ahead.start(files)

    async def close(self) -> None:
        if self._spares is not None:
            await self._spares.close()

    async def attach(self, record: WorkerRow) -> WorkerProcess | None:
        if record.boot_id != boot_id():
            return None
        if record.pid is None or record.create_time is None:
            marked = await asyncio.to_thread(find_by_worker_id, record.worker_id)
            found = next((p for p in marked if _leads_group(p.pid)), None)
        else:
            found = find_process(record.pid, record.create_time)
            if found is None:
                reap(record.pid)
        return LocalProcess(found.pid, start_time(found.pid) or 0.0) if found else None

    async def sweep(self, record: WorkerRow) -> None:
        if record.boot_id != boot_id():
            return
        await asyncio.to_thread(_end_left_behind, record)


def _spawn_spare(engine: str, worker_id: str) -> subprocess.Popen[bytes]:
    """It will open the log of its model by itself; whatever it says before that is lost."""
    command = [sys.executable, "-m", "modelpool_worker", "spare", engine]
    return _popen(command, worker_id, subprocess.DEVNULL)


def _popen(
    command: list[str],
    worker_id: str,
    output: IO[bytes] | int,
    variables: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        env={**os.environ, **(variables or {}), "MODELPOOL_WORKER_ID": worker_id},
        start_new_session=True,
    )


def _prepare_files(assignment: Assignment) -> None:
    Path(assignment.exit_record).parent.mkdir(parents=True, exist_ok=True)
    Path(assignment.runtime_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
    log_path = Path(assignment.log_path)
    log_path.parent.mkdir(parents=True, exist_ok=True)
    # Workers rotate it themselves, but for those that do not get that far.
    rotate(assignment.log_path, assignment.log_limits)
    with log_path.open("ab") as log:
        log.write(f"{log_heading(assignment.worker_id)}\n".encode())


def _tell(child: subprocess.Popen[bytes], assignment: Assignment) -> bool:
    """Give it its assignment; whether it took it."""
    assert child.stdin is not None
    try:
        child.stdin.write(json.dumps(encode(assignment)).encode() + b"\n")
        child.stdin.close()
    except BrokenPipeError:
        return False
    return True


def find_by_worker_id(worker_id: str) -> list[psutil.Process]:
    """Processes whose environment carries the worker id, the leader of their group first."""
    found = []
    for process in psutil.process_iter(["environ"]):
        environ = process.info["environ"] or {}
        if environ.get("MODELPOOL_WORKER_ID") == worker_id:
            found.append(process)
    return sorted(found, key=lambda p: not _leads_group(p.pid))


def is_process(pid: int, create_time: float | None) -> bool:
    """Is that process alive, and (where that is known) the one that started then?"""
    if create_time is None:
        return psutil.pid_exists(pid)
    return find_process(pid, create_time) is not None


def _leads_group(pid: int) -> bool:
    try:
        return os.getpgid(pid) == pid
    except ProcessLookupError:
        return False


def _end_left_behind(record: WorkerRow) -> None:
    left = Path(record.runtime_dir) / LEFT_BEHIND_NAME
    if record.runtime_dir and left.exists():
        _clean(left, record)
    _kill_strays(record.worker_id)


def _clean(left: Path, record: WorkerRow) -> None:
    """Have the worker program end what the file names, which a worker did not. What comes of it is
    in the worker's log."""
    text = "worker %s of %s did not end in order; what it has left behind is ended"
    log.warning(text, record.worker_id, record.model_id)
    command = [sys.executable, "-m", "modelpool_worker", "clean", str(left)]
    try:
        with Path(record.log_path).open("ab") as output:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=CLEAN_SECONDS,
            )
    except (OSError, subprocess.TimeoutExpired) as e:
        log.warning("what worker %s has left behind is not ended: %s", record.worker_id, e)


def _kill_strays(worker_id: str) -> None:
    strays = find_by_worker_id(worker_id)
    for process in strays:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(strays, timeout=STRAYS_SECONDS)
