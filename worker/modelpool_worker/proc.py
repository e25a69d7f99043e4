"""What /proc says of a process. Elsewhere than on Linux every answer is None."""

from __future__ import annotations

import functools
import os


def start_time(pid: int) -> float | None:
    """When the process started, in seconds since 1970, as psutil's ``create_time`` gives it."""
    fields = read(f"/proc/{pid}/stat")
    boot = _boot_time()
    if fields is None or boot is None:
        return None
    ticks = int(fields.rpartition(")")[2].split()[19])
    return boot + ticks / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int | None:
    """Resident memory of one process, shared pages included."""
    fields = read(f"/proc/{pid}/statm")
    return int(fields.split()[1]) * os.sysconf("SC_PAGE_SIZE") if fields else None


def cpu_seconds(pid: int) -> float | None:
    """Processor time that all threads of the process have used since its start."""
    fields = read(f"/proc/{pid}/stat")
    if fields is None:
        return None
    user, system = fields.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def bytesread(pid: int) -> int | None:
    """Bytes that the process asked for by reading files, from disk or from the page cache."""
    fields = read(f"/proc/{pid}/io")
    if fields is None:
        return None
    return int(dict(line.split(": ") for line in fields.splitlines())["rchar"])


def mapped_bytes(pid: int, path: str) -> int:
    """Bytes of the file ``path`` that the process has mapped and touched."""
    total, inside = 0, False
    for line in (read(f"/proc/{pid}/smaps") or "").splitlines():
        first, _, rest = line.partition(" ")
        if not first.endswith(":"):
            inside = rest.endswith(path)
        elif inside and first == "Rss:":
            total += int(rest.split()[0]) * 1024
    return total


@functools.cache
def _boot_time() -> float | None:
    for line in (read("/proc/stat") or "").splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return None


def fields_of(text: str) -> dict[str, int]:
    """``Name:   123 kB`` of each line, as numbers."""
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    found = {name: value.split() for name, value in pairs}
    return {name: int(words[0]) for name, words in found.items() if words and words[0].isdigit()}


def read(path: str) -> str | None:
    """The text of a file of /proc; None where there is none."""
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return None
