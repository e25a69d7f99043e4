"""Asks the worker program what its engines say. It is a process of its own: the manager imports no
engine, and one that crashes or hangs does so elsewhere."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

log = logging.getLogger(__name__)

# In the manager's own environment.
WORKER = (sys.executable, "-m", "modelpool_worker")
# An engine that hangs is given up by the worker itself, after less.
DESCRIBE_SECONDS = 60.0
# To start one anew takes 0.1 s of processor time, and who registers a model often registers more;
# but what was installed meanwhile is to be seen, also by whoever asks all the time, and one takes
# 20 MB.
KEEP_SECONDS = 5.0
NO_ANSWER = "the worker could not describe its engines: %s"


class Describer:
    """Asks one environment's worker program, from any thread.

    With ``keep_seconds`` a process that has answered waits for the next question until it is that
    old, however much it is asked. What is asked while it answers another is asked of a process of
    its own, and so is what ended it before it answered: a question that crashes or hangs it costs
    nobody else an answer.
    """

    def __init__(self, command: Sequence[str], keep_seconds: float = 0.0) -> None:
        self._command = tuple(command)
        self._keep_seconds = keep_seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._leaving: threading.Timer | None = None
        self._is_outdated = False

    def ask(self, *arguments: str, data: str = "") -> dict[str, Any] | None:
        """What ``describe`` says to these arguments; None when that is nothing sensible, and the
        log says why."""
        if self._keep_seconds and self._lock.acquire(blocking=False):
            try:
                return self._ask_kept(arguments, data)
            except (OSError, ValueError) as e:
                self._end()
                if isinstance(e, TimeoutError):
                    log.error(NO_ANSWER, e)
                    return None
                # A process of its own will say more.
            finally:
                self._lock.release()
        return _ask_once(self._command, arguments, data)

    def renew(self) -> None:
        """What is asked from now on is asked of a process that starts later: something was
        installed, it may be."""
        self._is_outdated = True

    def end(self) -> None:
        """End the process that waits, if one does."""
        with self._lock:
            self._end()

    def _ask_kept(self, arguments: Sequence[str], data: str) -> dict[str, Any]:
        """
        Raises:
            TimeoutError: it hung.
            OSError, ValueError: it ended before it answered, or says nonsense.
        """
        if self._is_outdated:
            self._is_outdated = False
            self._end()
        if self._process is None:
            self._process = _start([*self._command, "describe", "--each"])
            self._leaving = threading.Timer(self._keep_seconds, self.end)
            self._leaving.daemon = True
            self._leaving.start()
        return _answer(self._process, {"arguments": arguments, "data": data})

    def _end(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
        process, self._process, self._leaving = self._process, None, None
        if process is not None:
            with contextlib.suppress(BrokenPipeError), process:  # of what it has not read
                _kill(process)


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=nowhere, start_new_session=True
    )


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With what its engines have started, which would hold its end of the pipe. Its number is its
    own until it is waited for."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _answer(process: subprocess.Popen[bytes], question: Mapping[str, Any]) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    is_late = threading.Event()

    def give_up() -> None:
        is_late.set()
        _kill(process)

    watch = threading.Timer(DESCRIBE_SECONDS, give_up)
    watch.daemon = True
    watch.start()
    try:
        process.stdin.write(json.dumps(question).encode() + b"\n")
        process.stdin.flush()
        answer: dict[str, Any] = json.loads(process.stdout.readline())
    except (OSError, ValueError):
        if is_late.is_set():
            raise TimeoutError(f"no answer within {DESCRIBE_SECONDS:.0f} s") from None
        raise
    finally:
        watch.cancel()
    return answer


def _ask_once(command: Sequence[str], arguments: Sequence[str], data: str) -> dict[str, Any] | None:
    try:
        done = subprocess.run(
            [*command, "describe", *arguments],
            input=data,
            capture_output=True,
            text=True,
            timeout=DESCRIBE_SECONDS,
        )
        found: dict[str, Any] = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired) as e:
        log.error(NO_ANSWER, e)
    except ValueError:
        last = done.stderr.strip().rpartition("\n")[2]
        log.error(NO_ANSWER, last or "no JSON")
    else:
        return found
    return None
