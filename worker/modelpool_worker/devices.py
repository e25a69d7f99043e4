"""How much of each device's memory some processes use: asked of the vendor's own tool.

Nothing here opens a device. ``python -m modelpool_worker devices PID …`` prints it, for a manager
that wants to know whether the memory of a worker that ended is back. On machines whose devices
share the host's memory (Apple), and where processes have other numbers than the driver's (most
containers), nothing is known and the answer is empty.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

TOOL = "nvidia-smi"
TOOL_SECONDS = 5.0
MIB = 1 << 20

Ask = Callable[[Sequence[str]], str]


def used_by(pids: Iterable[int], ask: Ask | None = None) -> Mapping[str, int]:
    """Bytes that the processes use of each device, as ``{"cuda:0": …}``."""
    if ask is None:
        if shutil.which(TOOL) is None:
            return {}
        ask = _run
    wanted = set(pids)
    names = {uuid: f"cuda:{index}" for index, uuid in _rows(ask, "--query-gpu=index,uuid")}
    used: Counter[str] = Counter()
    for pid, uuid, size in _rows(ask, "--query-compute-apps=pid,gpu_uuid,used_memory"):
        # A size may be "[N/A]" where the driver does not tell.
        if pid.isdigit() and int(pid) in wanted and size.isdigit() and uuid in names:
            used[names[uuid]] += int(size) * MIB
    return dict(used)


def tell(arguments: list[str]) -> int:
    """The subcommand ``devices``."""
    print(json.dumps(dict(used_by(int(pid) for pid in arguments if pid.isdigit()))))
    return 0


def _rows(ask: Ask, query: str) -> list[list[str]]:
    count = query.count(",") + 1
    lines = ask([TOOL, query, "--format=csv,noheader,nounits"]).splitlines()
    rows = [[word.strip() for word in line.split(",")] for line in lines]
    return [row for row in rows if len(row) == count]


def _run(command: Sequence[str]) -> str:
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return told.stdout if told.returncode == 0 else ""
