"""Room that a load will write, made by another core while llama.cpp reads the file.

One thread writes nearly all of what a load takes, and for half of that time it waits for the kernel
to find a page for it. So malloc is told to take as much from the system as the same load took the
last time, and an io_uring to have the kernel make its pages (``MADV_POPULATE_WRITE``), piece by
piece: in one piece it would hold the lock that llama.cpp's threads need to start, and a thread of
Python does not run while the package's constructor holds the interpreter's lock. Pages that are
there already are left as they are, and what was not needed is given back.

On Linux with glibc, where the kernel has all that and lets us; elsewhere nothing happens.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import mmap
import os
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelpool_worker.engines import notes
from modelpool_worker.proc import fields_of, read

# Below it there is nothing to gain.
MIN_BYTES = 32 << 20
# A thread that needs the lock waits for one piece.
PIECE_BYTES = 512 << 10
MAX_PIECES = 8192
# Of what one source took with other options, and with these.
MAX_NOTES = 16
# A change of less is not worth writing down.
NOTED_SHARE = 0.05

# Of the kernel, by the names in its headers; the numbers of calls are the same on all machines that
# have wheels of llama.cpp.
_IO_URING_SETUP, _IO_URING_ENTER = 425, 426
_OP_TIMEOUT, _OP_MADVISE = 11, 25
_SQE_LINK = 1 << 2
_TIMEOUT_ETIME_SUCCESS = 1 << 5
_OFF_SQES = 0x10000000
_MADV_POPULATE_WRITE = 23
_PARAMS_BYTES = 120
_SQ_OFFSETS = 40  # in the parameters
_SQE = struct.Struct("=BBHiQQIIQ24x")
# Of glibc's malloc.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -3, -4, -8
# What it comes to by itself when a program has freed something large.
_MMAP_THRESHOLD, _MMAP_MAX = 32 << 20, 1 << 16


@dataclass(frozen=True)
class Note:
    """What loads of one source took, by what they depend on; ``path`` is where that is noted."""

    path: str
    key: str

    def read(self) -> int:
        """Bytes; 0 where it is not known."""
        return self._all().get(self.key, 0)

    def write(self, taken: int) -> None:
        """Unless it is known by and large."""
        noted = self._all()
        if abs(noted.get(self.key, 0) - taken) <= NOTED_SHARE * taken:
            return
        others = [(k, v) for k, v in noted.items() if k != self.key]
        notes.write(self.path, dict([*others[1 - MAX_NOTES :], (self.key, taken)]))

    def _all(self) -> dict[str, int]:
        noted = notes.read(self.path)
        if not isinstance(noted, dict):
            return {}
        return {k: v for k, v in noted.items() if type(v) is int and v > 0}


def note_of(folder: Any, source: str, depends_on: Mapping[str, Any]) -> Note | None:
    """Where it is noted what a load of ``source`` takes; None without a folder, or a source."""
    if not folder:
        return None
    try:
        found = os.stat(source)
    except OSError:  # the load will say so
        return None
    text = json.dumps([found.st_size, found.st_mtime_ns, depends_on], sort_keys=True, default=str)
    name, key = _digest(os.fsencode(source)), _digest(text.encode())
    return Note(os.path.join(str(folder), f"load-{name}.json"), key)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def bytes_ahead(taken: int, cores: int, available: int) -> int:
    """PURE. How many bytes of room are made ahead for what took so many the last time, where the
    machine can give so many; 0: none. A note may be wrong, or memory short: then only what the load
    itself writes is taken."""
    return taken if cores > 1 and MIN_BYTES <= taken <= available else 0


def pieces(address: int, size: int) -> Sequence[tuple[int, int]]:
    """PURE. Addresses and sizes of the pieces of that room, all on whole pages and within it."""
    each = PIECE_BYTES
    while size > each * MAX_PIECES:
        each *= 2
    first = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    return [(at, each) for at in range(first, address + size - each + 1, each)]


@contextlib.contextmanager
def prefaulted(note: Note | None, cores: int, delay: float) -> Iterator[None]:
    """Within it memory comes from room that is made ahead, ``delay`` seconds later; after it what
    the load took is noted. Without a note nothing is done."""
    before = _anonymous_bytes() if sys.platform == "linux" else None
    if note is None or before is None:
        yield
        return
    noted = note.read()
    with contextlib.ExitStack() as stack:
        if size := bytes_ahead(noted, cores, _available_bytes()):
            with contextlib.suppress(OSError, AttributeError):  # refused, or another libc
                _make_room(size, delay, stack)
        yield
    taken = max(0, (_anonymous_bytes() or before) - before)
    # Of buffers that are never written to their end more is there with room than without: were that
    # noted, there would be more each time.
    if not size or taken < noted:
        note.write(taken)


def _make_room(size: int, delay: float, stack: contextlib.ExitStack) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    mallopt, trim, malloc, free = libc.mallopt, libc.malloc_trim, libc.malloc, libc.free
    malloc.restype, malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    free.argtypes = (ctypes.c_void_p,)
    trim.argtypes = (ctypes.c_size_t,)
    ring = _Ring(libc, size // PIECE_BYTES + 2)
    stack.callback(_restore_malloc, mallopt, trim)
    stack.callback(ring.close)
    # llama.cpp loads in a thread of its own, which else had an arena of its own, too. It stays so.
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, -1)  # never
    if room := malloc(size):
        free(room)  # malloc keeps it for what comes
        ring.populate(pieces(room, size), delay)


def _restore_malloc(mallopt: Callable[[int, int], int], trim: Callable[[int], int]) -> None:
    mallopt(_M_MMAP_MAX, _MMAP_MAX)
    mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
    mallopt(_M_TRIM_THRESHOLD, 2 * _MMAP_THRESHOLD)
    trim(0)


class _Ring:
    """An io_uring that is filled once. What fails cancels what comes after it, and nobody asks."""

    def __init__(self, libc: ctypes.CDLL, entries: int) -> None:
        """
        Raises:
            OSError: the kernel has none, or none for us.
        """
        self._call = libc.syscall
        self._call.restype, self._call.argtypes = ctypes.c_long, (ctypes.c_long,) * 7
        parameters = ctypes.create_string_buffer(_PARAMS_BYTES)
        entries = min(entries, 2 * MAX_PIECES)
        self._fd = self._call(_IO_URING_SETUP, entries, ctypes.addressof(parameters), 0, 0, 0, 0)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "io_uring_setup")
        self._entries = struct.unpack_from("=I", parameters.raw)[0]
        offsets = struct.unpack_from("=7I", parameters.raw, _SQ_OFFSETS)
        self._tail, self._array = offsets[1], offsets[6]

    def populate(self, parts: Sequence[tuple[int, int]], delay: float) -> None:
        """Have the kernel make these pages, one after the other, after so many seconds.

        Raises:
            OSError: the kernel does not.
        """
        later = ctypes.create_string_buffer(struct.pack("=qq", 0, int(delay * 1e9)))
        wait = (_OP_TIMEOUT, _SQE_LINK, 0, -1, 0, ctypes.addressof(later), 1)
        entries = [_SQE.pack(*wait, _TIMEOUT_ETIME_SUCCESS, 0)]
        for at, size in parts[: self._entries - 1]:
            part = (_OP_MADVISE, _SQE_LINK, 0, -1, 0, at, size)
            entries.append(_SQE.pack(*part, _MADV_POPULATE_WRITE, 0))
        count = len(entries)
        with (
            mmap.mmap(self._fd, self._array + 4 * self._entries) as queue,
            mmap.mmap(self._fd, _SQE.size * self._entries, offset=_OFF_SQES) as room,
        ):
            room[: _SQE.size * count] = b"".join(entries)
            struct.pack_into(f"={count}I", queue, self._array, *range(count))
            struct.pack_into("=I", queue, self._tail, count)
            # Where it takes fewer, the rest is not made ahead.
            if self._call(_IO_URING_ENTER, self._fd, count, 0, 0, 0, 0) < 0:
                raise OSError(ctypes.get_errno(), "io_uring_enter")

    def close(self) -> None:
        """Whatever has not begun is cancelled."""
        os.close(self._fd)


def _anonymous_bytes() -> int | None:
    """What this process has written of memory that is no file's; None where /proc is missing."""
    fields = (read("/proc/self/statm") or "").split()
    return (int(fields[1]) - int(fields[2])) * mmap.PAGESIZE if fields else None


def _available_bytes() -> int:
    """What the machine can give without swapping; 0 where that is not known."""
    return fields_of(read("/proc/meminfo") or "").get("MemAvailable", 0) * 1024
