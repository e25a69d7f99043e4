"""What /proc says of a process. Elsewhere than on Linux nearly every answer is None."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterable


def name_process(name: str) -> None:
    """What ``top`` and ``ps -o comm`` call this process, as far as 15 bytes go."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as f:
        f.write(name)


def start_time(pid: int) -> float | None:
    """When the process started, in seconds since the boot: unlike the time since 1970 that stays
    the same when somebody sets the clock."""
    fields = read(f"/proc/{pid}/stat")
    if fields is None:
        return None
    return int(fields.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int | None:
    """Resident memory of one process, shared pages included."""
    fields = read(f"/proc/{pid}/statm")
    return int(fields.split()[1]) * os.sysconf("SC_PAGE_SIZE") if fields else None


def cpu_seconds(pid: int) -> float | None:
    """Processor time that all threads of the process have used since its start."""
    fields = read(f"/proc/{pid}/stat")
    if fields is None:
        return _cpu_seconds_elsewhere(pid)
    user, system = fields.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _cpu_seconds_elsewhere(pid: int) -> float | None:
    import psutil  # most workers never need it

    with contextlib.suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    return None


def bytes_read(pid: int) -> int | None:
    """Bytes that the process asked for by reading files, from disk or from the page cache."""
    fields = read(f"/proc/{pid}/io")
    if fields is None:
        return None
    return int(dict(line.split(": ") for line in fields.splitlines())["rchar"])


def descendants(pid: int) -> list[int]:
    """Every living process below that one, nearest first."""
    known = [pid]
    for parent in known:  # it grows meanwhile
        for path in glob.glob(f"/proc/{parent}/task/*/children"):
            known += map(int, (read(path) or "").split())
    return known[1:]


def mapped_bytes(pid: int, paths: Iterable[str]) -> int:
    """Bytes of these files that the process has mapped and touched."""
    total, inside, names = 0, False, tuple(paths)
    for line in (read(f"/proc/{pid}/smaps") or "").splitlines():
        first, _, rest = line.partition(" ")
        if not first.endswith(":"):
            inside = rest.endswith(names)
        elif inside and first == "Rss:":
            total += int(rest.split()[0]) * 1024
    return total


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
