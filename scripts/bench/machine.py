"""The machine that is measured on: facts without which a figure means nothing, and who else works.

No host name, no path.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import psutil

PACKAGES = ("modelpool", "uvloop", "httptools", "httpx", "fastapi", "xllamacpp", "llama_cpp_python")
# What was just measured comes to rest, and then this long a look.
SETTLE_SECONDS = 0.1
LOOK_SECONDS = 0.25


class ProcessorTimes(NamedTuple):
    """Seconds since the machine's start, summed over its cores."""

    total: float
    stolen: float


def facts() -> dict[str, Any]:
    """Cores, CPU, memory, system, and versions of what takes part."""
    return {
        "cores": os.cpu_count(),
        "physical_cores": psutil.cpu_count(logical=False),
        "cpu": _cpu_model(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": {name: v for name in PACKAGES if (v := _version(name))},
        "tools": {name: v for name in ("nginx", "wrk") if (v := _tool_version(name))},
    }


def busy_share() -> float:
    """The share of all cores in use now. To be asked when nothing of ours works."""
    time.sleep(SETTLE_SECONDS)
    return psutil.cpu_percent(interval=LOOK_SECONDS) / 100


def processor_times() -> ProcessorTimes:
    """A reading; two of them make a share."""
    times = psutil.cpu_times()
    # Guests are counted in user time already. Steal is known on Linux only.
    parts = {k: v for k, v in times._asdict().items() if not k.startswith("guest")}
    return ProcessorTimes(sum(parts.values()), float(parts.get("steal", 0.0)))


def stolen_share(before: ProcessorTimes, after: ProcessorTimes) -> float:
    """PURE. The share of the time between that the host gave to other machines."""
    total = after.total - before.total
    return (after.stolen - before.stolen) / total if total > 0 else 0.0


def _cpu_model() -> str:
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or "unknown"
    found = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    return found[1] if found else platform.processor() or "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _tool_version(name: str) -> str:
    if shutil.which(name) is None:
        return ""
    done = subprocess.run([name, "-v"], capture_output=True, text=True, timeout=10, check=False)
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return found[0] if found else "installed"
