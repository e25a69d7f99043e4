"""Did the kernel end somebody for lack of memory? SIGKILL alone does not say who sent it."""

from __future__ import annotations

from pathlib import Path


class OomWatch:
    """Compares the kernel's count of such kills with that of the last look.

    The count is the whole machine's, limits of control groups included, so the look should be
    recent. Elsewhere than on Linux nothing is ever seen.
    """

    def __init__(self, vmstat: Path = Path("/proc/vmstat")) -> None:
        self._vmstat = vmstat
        self._seen = self._count()

    def look(self) -> None:
        """What was until now is not asked for again."""
        self._seen = self._count()

    def has_struck(self) -> bool:
        """Somebody was killed since the last look."""
        return self._count() > self._seen

    def _count(self) -> int:
        try:
            lines = self._vmstat.read_text().splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
