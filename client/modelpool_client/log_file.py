"""A log file that rotates while it is written, by as many processes as like.

The full file becomes ``NAME.1``, that one ``NAME.2``, and so on. The first line of the file in its
place says how many bytes were logged before it, so that a place in the log keeps its number.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import re
from typing import BinaryIO

from modelpool_client.wire import LogLimits

_CONTINUES = re.compile(rb"-- this log continues at byte (\d+)\n")
_MARK_LIMIT = 64


class LogOutput:
    """Standard error of this process as a stream for ``logging``. Where it is the file at ``path``
    that rotates, standard output with it if it is the same; a terminal, a pipe or another's file
    is only written."""

    def __init__(self, path: str, limits: LogLimits) -> None:
        self._path = path
        self._limits = limits
        # Another process may have rotated it since ours was started.
        older = (f"{path}.{number}" for number in range(1, limits.max_files))
        self._is_log = any(map(_is_at, (path, *older)))

    def write(self, text: str) -> int:
        """Append; what cannot be written, on a full disk say, is lost."""
        if self._is_log:
            with contextlib.suppress(OSError):
                self._make_room()
        with contextlib.suppress(OSError):
            data = memoryview(text.encode(errors="backslashreplace"))
            while data:
                data = data[os.write(2, data) :]
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def _make_room(self) -> None:
        if os.fstat(2).st_size >= self._limits.max_bytes:
            rotate(self._path, self._limits)
        if not _is_at(self._path):  # put aside: by us, by another process, by a tool
            outputs = [1, 2] if os.path.sameopenfile(1, 2) else [2]
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            for output in outputs:
                os.dup2(fd, output)
            os.close(fd)


def _is_at(path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(2), os.stat(path))
    except OSError:
        return False


def rotate(path: str, limits: LogLimits, *, is_marked: bool = True) -> None:
    """Put the file aside if it is full and nobody else is about to. Without an error: a log that
    cannot be rotated is written on. ``is_marked``: the next one says what was logged before."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        size = os.fstat(file.fileno()).st_size
        if size < limits.max_bytes or not os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
            return
        _put_aside(path, limits.max_files, begins_at(file) + size if is_marked else None)


def _put_aside(path: str, max_files: int, continues_at: int | None) -> None:
    fresh, full = f"{path}.new", f"{path}.old"
    try:
        with open(fresh, "wb") as f:
            if continues_at is not None:
                f.write(b"-- this log continues at byte %d\n" % continues_at)
        for number in range(max_files - 1, 1, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{path}.{number - 1}", f"{path}.{number}")
        with contextlib.suppress(FileNotFoundError):  # of a time when more were kept
            for number in itertools.count(max_files):
                os.unlink(f"{path}.{number}")
        # There is a file at the path at every moment: who finds none would begin another.
        _unlink(full)
        try:
            os.link(path, full)
        except OSError:  # a file system without hard links
            os.replace(path, f"{path}.1")
        else:
            os.replace(full, f"{path}.1")
        os.replace(fresh, path)
    finally:
        _unlink(fresh)
        _unlink(full)


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def begins_at(file: BinaryIO) -> int:
    """How many bytes were logged before a file of a log."""
    file.seek(0)
    found = _CONTINUES.match(file.read(_MARK_LIMIT))
    return int(found[1]) if found else 0
