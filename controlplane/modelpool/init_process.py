"""A small process above the manager where the pool is process 1 of a container, as an init is.

Such a process gets every orphan for a child and has to reap it when it ends: what a worker or its
engine has started and left behind. A manager that reaped whoever comes would take the exit statuses
of its own children from those who wait for them, and could not tell the ones from the others. So
the process parts in two before it does anything else: the first half reaps and passes signals on,
the second is the manager. The same where the process is told to be a subreaper (``prctl``).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_GET_CHILD_SUBREAPER = 37
PASSED_ON = frozenset(
    {
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
    }
)
WATCHED = PASSED_ON | {signal.SIGCHLD}
# As a shell says that a signal was the end.
SIGNALLED = 128
# Those that a socket activation may have left, and more.
OPEN_FILES = (3, 4096)


def fork_if_init() -> None:
    """Return in the process that is to be the manager: in this one, or in a child of it where this
    one has orphans to reap. It ends as the manager does, with its exit code.

    To be called before there are threads.
    """
    if not _inherits_orphans():
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, nobody's end could be waited for
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    init = os.getpid()
    manager = os.fork()
    if manager:
        os.closerange(*OPEN_FILES)  # a listening socket would be open for longer than the manager's
        os._exit(_watch(manager))
    # Or a terminal's Ctrl-C would come twice, from the terminal and passed on.
    os.setsid()
    _end_with_parent(init)
    if os.environ.get("LISTEN_PID") == str(init):
        os.environ["LISTEN_PID"] = str(os.getpid())
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _inherits_orphans() -> bool:
    if os.getpid() == 1:
        return True
    if sys.platform != "linux":
        return False
    flag = ctypes.c_int()
    failed = ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(flag), 0, 0, 0)
    return not failed and bool(flag.value)


def _watch(manager: int) -> int:
    """Reap and pass on until the manager has ended; its exit code."""
    while True:
        number = signal.sigwait(WATCHED)
        if number in PASSED_ON:
            os.kill(manager, number)  # it is not reaped yet, so that the number is still its own
        else:
            code = _reap(manager)
            if code is not None:
                return code if code >= 0 else SIGNALLED - code


def _reap(manager: int) -> int | None:
    """Reap all that have ended; the exit code of the manager if it is among them."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == manager:
            code = os.waitstatus_to_exitcode(status)


def _end_with_parent(parent: int) -> None:
    """Be killed when the parent is: nobody could reach the manager any more."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(SIGNALLED + signal.SIGKILL)
