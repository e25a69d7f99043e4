"""Processes that the benchmark starts: each is ended by its pid, with all that it started."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import psutil

from bench.figures import BenchError

SCRIPTS = Path(__file__).resolve().parent.parent
STOP_SECONDS = 15.0
# The settings of whoever runs this are not those under test.
FOREIGN = ("MODELPOOL_", "MODEL_MANAGER_", "MODEL_KEEPALIVE_")


class Child:
    """A process in a session of its own, so that Ctrl-C reaches it only through us.

    Use as a context. Its standard input stays open while we live; its errors go to ``log``.
    """

    def __init__(
        self, command: Sequence[str], log: Path, *, search: Sequence[Path] = (), talks: bool = False
    ) -> None:
        self._name = _name(command)
        self._log = log
        self._is_over = False
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if talks else out,
                stderr=out,
                env=_environment(search),
                start_new_session=True,
            )
        _STARTED.append(self)

    @property
    def pid(self) -> int:
        return self.process.pid

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.stop()

    def line(self, timeout: float) -> str:
        """What it writes next on standard output; our own children say ``ready``.

        Raises:
            BenchError: it says nothing in time, or has ended.
        """
        assert self.process.stdout is not None
        number, text, end = self.process.stdout.fileno(), b"", time.monotonic() + timeout
        # A line may come in pieces.
        while not text.endswith(b"\n"):
            readable, _, _ = select.select([number], [], [], max(0.0, end - time.monotonic()))
            piece = os.read(number, 4096) if readable else b""
            if not piece:
                raise BenchError(f"{self._name} said nothing: {self.last_words()}")
            text += piece
        return text.decode().strip()

    def tell(self, text: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n".encode())
        self.process.stdin.flush()

    def check_alive(self) -> None:
        """Raise BenchError with its last words if it has ended."""
        if self.process.poll() is not None:
            raise BenchError(f"{self._name} ended: {self.last_words()}")

    def last_words(self) -> str:
        """The end of what it wrote."""
        lines = self._log.read_text(errors="replace").splitlines()
        return " | ".join(line.strip() for line in lines[-5:]) or "it left no word"

    def stop(self) -> None:
        """TERM; KILL to it and to whatever it leaves behind. A second time it does nothing."""
        if self._is_over:
            return
        family = self._descendants()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for left in family:
            with contextlib.suppress(psutil.Error):
                left.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._is_over = True

    def _descendants(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            return psutil.Process(self.pid).children(recursive=True)
        return []


_STARTED: list[Child] = []


def stop_all() -> None:
    """Stop what an interruption at the wrong moment has left running."""
    for child in reversed(_STARTED):
        child.stop()
    _STARTED.clear()


def module(name: str, *arguments: object) -> list[str]:
    """The command line of one of our own programs."""
    return [sys.executable, "-m", name, *map(str, arguments)]


def _name(command: Sequence[str]) -> str:
    """What a person calls it: our own programs are modules."""
    return Path(command[2] if command[1:2] == ["-m"] else command[0]).name


def _environment(search: Sequence[Path]) -> Mapping[str, str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    before = environ.get("PYTHONPATH", "")
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*map(str, search), str(SCRIPTS), before]))
    return environ


def output_of(command: Sequence[str], timeout: float) -> str:
    """Run one of our own programs to its end; what it wrote on standard output.

    Raises:
        BenchError: it failed, or took longer than ``timeout``.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=_environment(()),
            check=False,
        )
    except subprocess.TimeoutExpired:
        slow = f"{_name(command)} took longer than {timeout:.0f} s; stop what else runs"
        raise BenchError(slow) from None
    if done.returncode != 0:
        raise BenchError(f"{_name(command)} failed: {done.stderr.strip()[-500:]}")
    return done.stdout


# None is handed out twice: who was given it may not listen yet. Two runs on one machine begin at
# different places: a pool may be given one that the other run is about to listen on.
_FIRST_PORT, _END_PORT = 21_000, 32_000
_START = _FIRST_PORT + os.getpid() * 250 % 8_000
_UNUSED = iter(range(_START, _END_PORT))


def free_ports(count: int) -> list[int]:
    """That many free ports in a row, below those that the system hands out by itself."""
    while ports := list(itertools.islice(_UNUSED, count)):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in ports:
                sock = stack.enter_context(socket.socket())
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("127.0.0.1", port))
            return ports
    raise BenchError(f"no free ports from {_START} to {_END_PORT - 1}; end what holds them")


def wait_for_port(port: int, child: Child, timeout: float) -> None:
    """Until something listens there.

    Raises:
        BenchError: nothing does in time, or the child has ended.
    """
    end = time.monotonic() + timeout
    while not is_listening(port):
        child.check_alive()
        if time.monotonic() > end:
            raise BenchError(f"nothing listens on port {port} after {timeout:.0f} s")
        time.sleep(0.02)


def is_listening(port: int) -> bool:
    """Does a connection to that port succeed?"""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
