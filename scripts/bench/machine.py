"""Facts of the machine that a figure means nothing without. No host name, no path."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("modelpool", "uvloop", "httptools", "httpx", "fastapi", "xllamacpp")
# Above this share of the cores, somebody else's work is measured along with ours.
BUSY_SHARE = 0.25


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


def busy_warning() -> str:
    """A sentence if others use the processor now, else nothing."""
    share = psutil.cpu_percent(interval=0.5) / 100
    if share <= BUSY_SHARE:
        return ""
    return f"the machine is busy ({share:.0%} of its cores in use): the figures are worth little"


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
