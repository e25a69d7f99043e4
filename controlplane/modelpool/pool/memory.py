"""How much memory the host could give, read in a thread and remembered for those on the loop.

The least of what the kernel calls available and what every control group above this process still
allows. Pages of files count as available, in groups as on the host (MemAvailable): the kernel drops
them for whoever needs room. Where there is no /proc (macOS), what psutil says.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

log = logging.getLogger(__name__)

KIB = 1024
# The file is there and this moment is a bad one, while others say that there is none to read.
PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


@dataclass(frozen=True)
class Pressure:
    """The host's memory at one moment, in bytes; ``total`` is what limits leave of it.

    ``some_avg10`` is the share of the last ten seconds, in percent, in which some task stood still
    for lack of memory; None where the kernel does not tell.
    """

    available: int
    total: int
    some_avg10: float | None = None


@dataclass(frozen=True)
class _Hierarchy:
    """Where control groups lie, and the names of their files; ``prefix`` is that of the figures
    that count for a whole subtree."""

    folder: str
    limits: tuple[str, ...]
    used: str
    prefix: str = ""


UNIFIED = _Hierarchy("sys/fs/cgroup", ("memory.max", "memory.high"), "memory.current")
OLDER = _Hierarchy(
    "sys/fs/cgroup/memory", ("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_"
)


@dataclass(frozen=True)
class _Group:
    limit: int
    room: int


class HostMemory:
    """The last reading. ``read`` may block; it runs in a thread but for the first time."""

    def __init__(self, read: Callable[[], Pressure] | None = None) -> None:
        self._read = read or read_pressure
        self._is_failing = False
        self.now = self._read()

    def __repr__(self) -> str:
        now = self.now
        return f"<HostMemory {now.available:,} of {now.total:,}, {now.some_avg10} % waiting>"

    def available(self) -> int:
        """Bytes that the host could give, at the last reading."""
        return self.now.available

    async def refresh(self) -> Pressure:
        """Read again; where that cannot be done at the moment the last reading stays."""
        try:
            self.now = await asyncio.to_thread(self._read)
        except OSError as e:
            if not self._is_failing:
                log.warning("the host's memory cannot be read, the last figures stay: %s", e)
            self._is_failing = True
        else:
            self._is_failing = False
        return self.now


def read_pressure(root: Path = Path("/")) -> Pressure:
    """What ``proc`` and ``sys`` below ``root`` say; psutil's word where they do not.

    Raises:
        OSError: they cannot be read at the moment, as without a free descriptor.
    """
    host = _fields(root / "proc/meminfo")
    if "MemAvailable" in host:
        available, total = host["MemAvailable"] * KIB, host["MemTotal"] * KIB
    else:
        told = psutil.virtual_memory()
        available, total = told.available, told.total
    groups, waits = [], [_some_avg10(root / "proc/pressure/memory")]
    for hierarchy, path in _groups_above(root):
        group = _group(hierarchy, path, total)
        if group is not None:
            groups.append(group)
            waits.append(_some_avg10(path / "memory.pressure"))
    return Pressure(
        max(0, min([available, *(g.room for g in groups)])),
        min([total, *(g.limit for g in groups)]),
        max((w for w in waits if w is not None), default=None),
    )


def _groups_above(root: Path) -> Iterator[tuple[_Hierarchy, Path]]:
    """This process's group and all above it, as far as they can be seen from in here."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        hierarchy = OLDER if controllers else UNIFIED
        base = root / hierarchy.folder
        own = base / name.strip("/")
        yield from ((hierarchy, path) for path in (own, *own.parents) if path.is_relative_to(base))


def _group(hierarchy: _Hierarchy, path: Path, total: int) -> _Group | None:
    """What a group allows; None where it cannot be seen, or has no limit below the host's
    ``total``: then the rest of its files need not be read."""
    texts = [_text(path / name).strip() for name in hierarchy.limits]
    known = [int(text) for text in texts if text.isdigit()]  # "max" is no limit
    if min(known, default=total) >= total:
        return None
    current = _text(path / hierarchy.used).strip()
    if not current.isdigit():
        return None
    stat = _fields(path / "memory.stat")
    prefix = hierarchy.prefix
    files = stat.get(f"{prefix}inactive_file", 0) + stat.get(f"{prefix}active_file", 0)
    return _Group(min(known), min(known) - int(current) + files)


def _some_avg10(path: Path) -> float | None:
    for line in _text(path).splitlines():
        kind, *averages = line.split()
        for name, _, value in (average.partition("=") for average in averages):
            if (kind, name) == ("some", "avg10"):
                with contextlib.suppress(ValueError):
                    return float(value)
    return None


def _fields(path: Path) -> Mapping[str, int]:
    """Lines of ``name: number`` or ``name number``, with or without a unit."""
    words = (line.replace(":", " ").split() for line in _text(path).splitlines())
    return {w[0]: int(w[1]) for w in words if len(w) > 1 and w[1].isdigit()}


def _text(path: Path) -> str:
    """Empty where there is none. A limit that is only out of sight now must not count as gone."""
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError as e:
        if e.errno in PASSING:
            raise
        return ""
