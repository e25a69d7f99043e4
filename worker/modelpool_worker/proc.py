"""What /proc says of a process. Elsewhere than on Linux every answer is None."""

from __future__ import annotations

import functools
import os


def start_time(pid: int) -> float | None:
    """When the process started, in seconds since 1970, as psutil's ``create_time`` gives it."""
    fields = _read(f"/proc/{pid}/stat")
    boot = _boot_time()
    if fields is None or boot is None:
        return None
    ticks = int(fields.rpartition(")")[2].split()[19])
    return boot + ticks / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int | None:
    """Resident memory of one process, shared pages included."""
    fields = _read(f"/proc/{pid}/statm")
    return int(fields.split()[1]) * os.sysconf("SC_PAGE_SIZE") if fields else None


def bytes_read(pid: int) -> int | None:
    """Bytes that the process asked for by reading files, from disk or from the page cache."""
    fields = _read(f"/proc/{pid}/io")
    if fields is None:
        return None
    return int(dict(line.split(": ") for line in fields.splitlines())["rchar"])


def mapped_bytes(pid: int, path: str) -> int:
    """Bytes of the file ``path`` that the process has mapped and touched."""
    total, inside = 0, False
    for line in (_read(f"/proc/{pid}/smaps") or "").splitlines():
        first, _, rest = line.partition(" ")
        if not first.endswith(":"):
            inside = rest.endswith(path)
        elif inside and first == "Rss:":
            total += int(rest.split()[0]) * 1024
    return total


@functools.cache
def _boot_time() -> float | None:
    for line in (_read("/proc/stat") or "").splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return None


def _read(path: str) -> str | None:
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return None
