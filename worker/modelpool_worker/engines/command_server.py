"""A server that a command starts: found ready, watched, and ended with all that it has started."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn, TypeAlias

from modelpool_client.errors import LoadFailed

from modelpool_worker.left_behind import note_command, strike_out
from modelpool_worker.proc import bytes_read, cpu_seconds, descendants

from .local_client import Address, LocalClient, connected

# Hears the last line and the bytes read so far.
Beat: TypeAlias = Callable[[str, int], None]

# Between two looks whether it is ready, and of the time that it has been starting for: late by half
# a hundredth on average, while asking it takes a twentieth of one core at the beginning, then less.
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS, PAUSE_SHARE = 0.001, 0.5, 0.01
# Between two looks whether it is at work; the second is reached by and by.
FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS = 0.02, 0.5
# How long one answer to the question whether it is ready may take.
ASK_SECONDS = 5.0
# Of a token, which a model is loaded for.
TOKEN_SECONDS = 600.0
# A process that does less than that between two looks does nothing.
WORK_SECONDS, READ_BYTES = 0.05, 1 << 16
KILL_SECONDS = 2.0
# What a stop command has beyond the time that it may give to the server.
STOP_COMMAND_SECONDS = 1.0
# Of a line, what is held against a pattern.
LINE_BYTES = 4096
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_IS_LINUX = sys.platform == "linux"


@dataclass(frozen=True)
class Start:
    """What is to be run, and how it is known to be ready.

    Attributes:
        address: where it will listen.
        ready_path: answers 200 then; empty: somebody listens.
        ready_log: a line of its output in which that is found.
        question: path and body of a request that it answers when it has loaded; None: none.
        stall_seconds: without a word or any work for that long it is given up.
        stop_command: in place of ``stop_signal``.
        is_outside: whoever listens is no process of ours.
        folder: where ``stop_command`` is noted in case that nobody is left to run it.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    address: Address
    working_directory: str | None = None
    ready_path: str = ""
    ready_log: str = ""
    question: tuple[str, bytes] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    stall_seconds: float = 300.0
    stop_command: Sequence[str] = ()
    stop_signal: str = "TERM"
    stop_seconds: float = 2.0
    is_outside: bool = False
    folder: str = ""


class PortTaken(Exception):
    """Another has taken the port since it was found free."""


class Server:
    """A running one. ``stop`` may be called from another thread than the rest."""

    def __init__(self, start: Start) -> None:
        """
        Raises:
            LoadFailed: the command cannot be run.
        """
        self._start = start
        self._is_stopping = False
        self._signs = 0
        self._last_line = ""
        self._has_said = threading.Event()
        self._client = LocalClient(start.address)
        _adopt_orphans()
        if start.stop_command:
            _note(start)
        self._process = _popen(start)
        self._output = threading.Thread(target=self._copy, daemon=True)
        self._output.start()

    def until_ready(self, beat: Beat = lambda word, read: None) -> None:
        """Wait until it can be used; ``beat`` is called whenever it shows that it is at work.

        Raises:
            LoadFailed: it ended, or did nothing for too long.
            PortTaken: see there.
        """
        with self._client:
            self._await_readiness(beat)
            if self._start.question is not None:
                self._ask(*self._start.question)

    def _await_readiness(self, beat: Beat) -> None:
        start, work = self._start, _Work(self._process.pid)
        began = seen_at = time.monotonic()
        seen, look, look_at = 0, FIRST_LOOK_SECONDS, began + FIRST_LOOK_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None:
                self._say_how_it_ended()
            pause = (time.monotonic() - began) * PAUSE_SHARE
            time.sleep(min(max(FIRST_PAUSE_SECONDS, pause), LAST_PAUSE_SECONDS))
            now = time.monotonic()
            if now < look_at:
                continue
            look = min(2 * look, LAST_LOOK_SECONDS)
            look_at = now + look
            if work.has_gone_on() or self._signs != seen:
                seen, seen_at = self._signs, now
                beat(self._last_line, work.read)
            elif now - seen_at > start.stall_seconds:
                text = f"the server was not ready, and did nothing for {start.stall_seconds:g} s"
                raise LoadFailed(f"{text}: {self._awaited()}", code="timeout", source="engine")

    def wait(self) -> int:
        """Until it ends by itself; its exit code, negative for a signal. What it had started is
        ended too."""
        code = self._process.wait()
        if self._is_stopping:
            _wait_for_ever()
        self._end_all()
        return code

    def stop(self) -> None:
        """End it in the time that it has, and what it has started."""
        self._is_stopping = True
        start = self._start
        if self._process.poll() is None or start.is_outside:
            end = time.monotonic() + start.stop_seconds
            if start.stop_command:
                _run(start)
                strike_out(start.folder)
            else:
                self._process.send_signal(getattr(signal, f"SIG{start.stop_signal}"))
            _await_end(self._process, max(0.0, end - time.monotonic()))
        self._end_all()

    def _is_ready(self) -> bool:
        start = self._start
        if start.ready_log and not self._has_said.is_set():
            return False
        if start.ready_path:
            is_there = self._status_of("GET", start.ready_path, ASK_SECONDS) == 200
        else:
            is_there = accepts(start.address)
        if is_there and not self._is_ours():
            raise PortTaken
        return is_there

    def _is_ours(self) -> bool:
        """Whoever listens there; where that cannot be known it is."""
        address = self._start.address
        if isinstance(address, str) or self._start.is_outside:
            return True
        owners = listeners(address[1])
        return not owners or not owners.isdisjoint({self._process.pid, *descendants(os.getpid())})

    def _awaited(self) -> str:
        start, wanted = self._start, []
        if start.ready_log and not self._has_said.is_set():
            wanted.append(f"no line of its output matches {start.ready_log!r}")
        if start.ready_path:
            wanted.append(f"{start.ready_path} does not answer 200")
        return " and ".join(wanted) or "nobody listens"

    def _say_how_it_ended(self) -> NoReturn:
        """Its last lines are told by whoever reads our output."""
        self._output.join(1.0)
        address = self._start.address
        if not isinstance(address, str) and not self._start.is_outside and accepts(address):
            raise PortTaken
        code = self._process.returncode
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise LoadFailed(f"the server ended before it was ready: {how}", source="engine")

    def _status_of(
        self, method: str, path: str, seconds: float, body: bytes | None = None
    ) -> int | None:
        """With which a request is answered; None: it is not."""
        headers = self._start.headers
        try:
            return self._client.ask(method, path, seconds, headers=headers, body=body)[0]
        except OSError:
            return None

    def _ask(self, path: str, body: bytes) -> None:
        found = self._status_of("POST", path, TOKEN_SECONDS, body)
        if found != 200:
            if self._process.poll() is not None:
                self._say_how_it_ended()
            what = "no answer" if found is None else f"status {found}"
            raise LoadFailed(f"the server does not answer {path}: {what}", source="engine")

    def _copy(self) -> None:
        """Its output is ours, and is looked through for the line that says that it is ready."""
        pattern = re.compile(self._start.ready_log.encode()) if self._start.ready_log else None
        assert self._process.stdout is not None
        fd, rest = self._process.stdout.fileno(), b""
        while data := _read(fd):
            self._signs += 1
            _write(data)
            *lines, rest = (rest + data).split(b"\n")
            rest = rest[-LINE_BYTES:]
            if lines and (said := lines[-1][:LINE_BYTES].decode(errors="replace").strip()):
                self._last_line = "".join(filter(str.isprintable, said))
            if pattern is None or self._has_said.is_set():
                continue
            if any(pattern.search(line[:LINE_BYTES]) for line in (*lines, rest)):
                self._has_said.set()

    def _end_all(self) -> None:
        """Whatever it has started is below us, for orphans come to us."""
        end = time.monotonic() + KILL_SECONDS
        while (alive := _alive_below()) and time.monotonic() < end:
            for pid in alive:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)


class Servers:
    """The one that an engine has at a time. ``stop`` may be called from another thread."""

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._last: Server | None = None

    def begin(self, start: Start) -> Server:
        """
        Raises:
            LoadFailed: the command cannot be run.
        """
        with self._starting:
            self._last = Server(start)
        return self._last

    def stop(self) -> None:
        """End it, one that is just being started too; none begins any more: whoever would start
        one waits for ever."""
        self._starting.acquire()
        if self._last is not None:
            self._last.stop()


class _Work:
    """Whether processes have computed or read since the last look."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = (0.0, 0)
        self.read = 0

    def has_gone_on(self) -> bool:
        pids = [self._pid, *descendants(self._pid)]
        seconds = sum(cpu_seconds(pid) or 0.0 for pid in pids)
        read = self.read = sum(bytes_read(pid) or 0 for pid in pids)
        before, self._before = self._before, (seconds, read)
        return seconds - before[0] >= WORK_SECONDS or read - before[1] >= READ_BYTES


def prepare() -> None:
    """Import what the start of a server needs, before there is one to start."""
    import ctypes

    ctypes.CDLL(None)


def free_port() -> int:
    """One of loopback that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts(address: Address) -> bool:
    """Does anybody listen there?"""
    with contextlib.suppress(OSError), connected(address, ASK_SECONDS):
        return True
    return False


def listeners(port: int) -> set[int]:
    """Processes that listen on that port of loopback; empty where it cannot be known."""
    import psutil

    try:
        found = psutil.net_connections("tcp")
    except (psutil.Error, OSError):
        return set()
    return {
        c.pid
        for c in found
        if c.pid is not None and c.status == psutil.CONN_LISTEN and tuple(c.laddr)[1:2] == (port,)
    }


def _popen(start: Start) -> subprocess.Popen[bytes]:
    program = start.command[0]
    try:
        return subprocess.Popen(
            start.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=start.environment,
            cwd=start.working_directory,
            preexec_fn=_settle,
        )
    except FileNotFoundError as e:
        if e.filename == start.working_directory:
            why, code = f"there is no folder {start.working_directory}", "bad_config"
        else:
            why, code = f"there is no program {program!r}", "missing_dependency"
        raise LoadFailed(why, code=code, source="engine") from None
    except (OSError, ValueError) as e:
        text = f"{program} cannot be run: {e}"
        raise LoadFailed(text, code="bad_config", source="engine") from None


def _await_end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """By the kernel's word where it gives one: to wait with a limit, Python looks again after up to
    a twentieth of a second."""
    with contextlib.suppress(AttributeError, OSError):  # no pidfd here, or gone already
        fd = os.pidfd_open(process.pid)
        try:
            waiting = select.poll()
            waiting.register(fd, select.POLLIN)
            waiting.poll(seconds * 1000)
        finally:
            os.close(fd)
        seconds = 0.0
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _settle() -> None:
    """In the new process: an engine child is deaf to these, and what it starts must not be; and it
    must not stay when the engine child is killed."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    if _IS_LINUX:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _adopt_orphans() -> None:
    """What a server starts and leaves behind becomes ours, so that it is found at the end."""
    if _IS_LINUX:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(what: int, value: int) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(what, value)


def _alive_below() -> list[int]:
    return [pid for pid in _below(os.getpid()) if not _is_zombie(pid)]


def _below(pid: int) -> Iterable[int]:
    if _IS_LINUX:
        return descendants(pid)
    import psutil

    return [p.pid for p in psutil.Process(pid).children(recursive=True)]


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] in "ZX"
    except (OSError, IndexError):
        return _IS_LINUX


def _note(start: Start) -> None:
    seconds = start.stop_seconds + STOP_COMMAND_SECONDS
    directory = start.working_directory
    note_command(start.folder, start.stop_command, start.environment, directory, seconds)


def _run(start: Start) -> None:
    """The command that ends the server. Its output is ours."""
    try:
        done = subprocess.run(
            start.stop_command,
            stdin=subprocess.DEVNULL,
            env=start.environment,
            cwd=start.working_directory,
            timeout=start.stop_seconds + STOP_COMMAND_SECONDS,
            preexec_fn=_settle,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as e:
        print(f"the stop command failed: {e}", file=sys.stderr, flush=True)
    else:
        if done.returncode:
            print(f"the stop command ended with {done.returncode}", file=sys.stderr, flush=True)


def _read(fd: int) -> bytes:
    with contextlib.suppress(OSError):
        return os.read(fd, 1 << 16)
    return b""


def _write(data: bytes) -> None:
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(1, data) :]


def end_as(code: int) -> NoReturn:
    """End this process as the server did, so that whoever watches it is told how."""
    if code < 0:
        number = -code
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        time.sleep(KILL_SECONDS)
    os._exit(code if code > 0 else 0)


def _wait_for_ever() -> NoReturn:
    while True:
        threading.Event().wait(3600)


def environment_of(base: Mapping[str, str], more: Iterator[tuple[str, str]]) -> dict[str, str]:
    """What a server sees: nothing of what is between its engine child and its front."""
    kept = {k: v for k, v in base.items() if k != "MODELPOOL_STATUS_FD"}
    return {**kept, **dict(more)}
