"""One manager per database: an advisory lock that the kernel drops when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from .errors import PoolAlreadyRunning, StoreError


class StoreLock:
    """``flock`` on ``<database>.lock``, which holds the owner's process id.

    The file stays when the lock goes: removing it would let two managers lock two files of one
    name.
    """

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(f"{database.name}.lock")
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock at once or not at all.

        Raises:
            PoolAlreadyRunning: another process holds it.
            StoreError: the file cannot be made.
        """
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as e:
            raise StoreError(self.path, f"cannot be opened: {e.strerror}") from None
        try:
            _lock(fd, self.path)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def release(self) -> None:
        """Let go; nothing happens where nothing is held."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PoolAlreadyRunning(path, _owner(fd)) from None
    except OSError as e:
        raise StoreError(path, f"cannot be locked: {e.strerror}") from None
    with contextlib.suppress(OSError):  # a full disk costs the number, not the lock
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)


def _owner(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else None
