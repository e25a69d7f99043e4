"""Apple's GPU, whose memory is the host's: one device, of which the system lets programs wire only
a part. What single processes take of it nobody tells.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable, Mapping

from .base import Device, Sighting

SECONDS = 5.0
MIB = 1 << 20
GIB = 1 << 30
# What Metal recommends as the most, where nobody set another limit: two thirds of up to 36 GB,
# three quarters of more.
SMALL_BYTES = 36 * GIB
SMALL_SHARE, LARGE_SHARE = 2 / 3, 3 / 4

Sysctl = Callable[[str], str]


class Apple:
    """``sysctl`` gives the value of a name, ``available`` the host's free bytes; tests give
    others."""

    name = "apple"
    variable = ""  # there is one device, and it is always seen
    nothing = ""
    more: Mapping[str, str] = {}

    def __init__(
        self,
        sysctl: Sysctl | None = None,
        available: Callable[[], int | None] | None = None,
        machine: str | None = None,
    ) -> None:
        self._sysctl = sysctl if sysctl is not None else _sysctl
        self._available = available if available is not None else _available
        self._machine = f"{sys.platform} {platform.machine()}" if machine is None else machine

    def look(self) -> Sighting:
        """See ``Vendor``."""
        if self._machine != "darwin arm64":
            return Sighting(reason="this is no Mac with Apple silicon")
        host = _number(self._sysctl("hw.memsize"))
        if not host:
            return Sighting(reason="sysctl does not tell the memory of this Mac")
        limit = _number(self._sysctl("iogpu.wired_limit_mb")) * MIB
        share = SMALL_SHARE if host <= SMALL_BYTES else LARGE_SHARE
        total = limit or int(host * share)
        free = self._available()
        return Sighting(
            (
                Device(
                    "metal:0",
                    self.name,
                    self._sysctl("machdep.cpu.brand_string") or "Apple GPU",
                    total_bytes=total,
                    free_bytes=None if free is None else min(free, total),
                    is_shared=True,
                ),
            )
        )


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _available() -> int | None:
    try:
        import psutil
    except ImportError:
        return None
    return int(psutil.virtual_memory().available)


def _sysctl(name: str) -> str:
    try:
        told = subprocess.run(
            ["sysctl", "-n", name], capture_output=True, text=True, timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return told.stdout.strip() if told.returncode == 0 else ""
