"""The manager is replaced by a fresh one in its own process; its workers never notice.

The new one has the same pid, so that ``make up``, systemd and a terminal keep hold of it, and the
same listening sockets, so that nobody is refused in between: who comes too early waits in their
queues. They are handed over as systemd does it (``LISTEN_FDS``), which works from there, too.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import NoReturn

from modelpool_client.errors import Conflict, NotSupported, PoolRestarting

from modelpool.sockets import FIRST_FD

log = logging.getLogger(__name__)

CHECK_SECONDS = 60.0
STOPPING = (signal.SIGTERM, signal.SIGINT)
STOP_ASKED = "MODELPOOL_STOP_ASKED"  # tells the next manager


class Restart:
    """The wish for it, on its way from the route to the server, which sets ``is_possible``.

    Attributes:
        seconds: how long requests under way may take to end.
    """

    def __init__(self) -> None:
        self.is_possible = False
        self.seconds = 0.0
        self._asked = asyncio.Event()

    @property
    def is_asked(self) -> bool:
        """It has begun; the manager takes its leave."""
        return self._asked.is_set()

    def ask(self, seconds: float) -> None:
        """Begin.

        Raises:
            Conflict: it has begun already.
            NotSupported: this pool is part of another program.
        """
        if not self.is_possible:
            raise NotSupported("this pool runs inside another program, which has to restart it")
        if self.is_asked:
            raise Conflict("the manager is restarting already", code="restarting", retry_after=1)
        self.seconds = seconds
        self._asked.set()

    async def wait(self) -> None:
        """Return when it is asked for."""
        await self._asked.wait()


def check_program() -> None:
    """See that the program could be run anew, which an update may have spoilt. Takes a second.

    Raises:
        Conflict: with the last lines that it says; nothing has begun.
    """
    command = [sys.executable, "-c", "import modelpool.server"]
    try:
        tried = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=CHECK_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise _unfit(str(e), ()) from None
    if tried.returncode:
        lines = tried.stderr.splitlines()[-10:]
        raise _unfit(lines[-1] if lines else f"exit code {tried.returncode}", lines)


def _unfit(why: str, lines: Sequence[str]) -> Conflict:
    text = f"the program on disk cannot start, so this manager stays: {why}"
    return Conflict(text, code="cannot_start", details={"lines": list(lines)})


def cut_off() -> PoolRestarting:
    """What a request is told that did not end in time."""
    text = "the manager restarts and this request took longer than it may; send it again"
    return PoolRestarting(text, retry_after=1)


def replace_process(socks: Sequence[socket.socket], *, is_to_stop: bool = False) -> NoReturn:
    """Run this program anew with the same arguments in this process; it finds ``socks`` by
    ``sockets.listening``. Every other descriptor but the standard ones is closed.

    ``is_to_stop``: the pool was told to stop when this manager had let go of its workers already;
    the next one adopts them and stops the pool.
    """
    log.info("restarting: %s", " ".join(sys.orig_argv))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the new one is deaf to it for a moment
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)  # until it can hear them
    _hand_over(socks)
    told = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(socks))}
    told |= {STOP_ASKED: "1"} if is_to_stop else {}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **told})


def _hand_over(socks: Sequence[socket.socket]) -> None:
    """As the first descriptors, which may be in use, even by one of them."""
    beyond = FIRST_FD + len(socks)
    copies = [fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD, beyond) for sock in socks]
    for fd, copy in enumerate(copies, FIRST_FD):
        os.dup2(copy, fd)
        os.set_inheritable(fd, True)
        os.close(copy)
