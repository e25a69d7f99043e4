"""What a process takes: memory in bytes, processor time in seconds."""

from __future__ import annotations

from pathlib import Path

import psutil


def resident(pid: int) -> int:
    """Bytes of its pages in memory, shared ones counted in full."""
    return int(psutil.Process(pid).memory_info().rss)


def proportional(pid: int) -> int | None:
    """Bytes of its pages in memory, shared ones divided among those that share them (PSS). None
    where the system does not tell."""
    share = getattr(psutil.Process(pid).memory_full_info(), "pss", None)
    return None if share is None else int(share)


def own(pid: int) -> int:
    """Bytes: the proportional share where it is known, else the resident ones."""
    share = proportional(pid)
    return resident(pid) if share is None else share


def processor_seconds(pid: int) -> float:
    """Processor time since its start, of all threads that live.

    From the scheduler, in nanoseconds, where it tells; else in ticks, of 10 ms as a rule.
    """
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        spent = [int((task / "schedstat").read_text().split()[0]) for task in tasks]
    except (OSError, ValueError, IndexError):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    return sum(spent) / 1e9
