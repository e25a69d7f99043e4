"""How many physical cores this process may use."""

from __future__ import annotations

import contextlib
import math
import os


def physical_cores() -> int:
    """Cores without their hyper-threads, within affinity and the cgroup's CPU quota; at least 1.

    Two threads of one core slow matrix products down, and threads beyond the quota are throttled.
    """
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:
        return os.cpu_count() or 1
    siblings = {_siblings(cpu) for cpu in allowed}
    return max(1, min(len(siblings), math.ceil(_quota())))


def logical_cores() -> int:
    """Those with their hyper-threads, within the same bounds."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:
        allowed = os.cpu_count() or 1
    return max(1, min(allowed, math.ceil(_quota())))


def _siblings(cpu: int) -> str:
    with contextlib.suppress(OSError):
        return _read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    return str(cpu)


def _quota() -> float:
    with contextlib.suppress(OSError, ValueError):
        quota, period = _read("/sys/fs/cgroup/cpu.max").split()
        return int(quota) / int(period)
    return float(os.cpu_count() or 1)


def _read(path: str) -> str:
    with open(path) as f:
        return f.read().strip()
