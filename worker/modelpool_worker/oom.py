"""Did the kernel end somebody for lack of memory? SIGKILL alone does not say who sent it."""

from __future__ import annotations

from pathlib import Path

# The kernel counts when it chooses; to take the memory of a large process apart takes it a while,
# and only then is the end of it seen.
SETTLE_SECONDS = 5.0
KEPT_SECONDS = 60.0


class OomWatch:
    """Compares the kernel's count of such kills with that of some seconds ago.

    The count is the whole machine's, limits of control groups included, so it should be looked at
    often. Elsewhere than on Linux nothing is ever seen. ``now`` is in seconds of any clock.
    """

    def __init__(self, now: float, vmstat: Path = Path("/proc/vmstat")) -> None:
        self._vmstat = vmstat
        self._seen = [(now, self._count())]

    def look(self, now: float) -> None:
        """Remember the count of this moment."""
        self._seen.append((now, self._count()))
        settled = [at for at, _ in self._seen if now - at >= SETTLE_SECONDS]
        oldest = max(settled, default=now - KEPT_SECONDS)
        self._seen = [(at, count) for at, count in self._seen if at >= oldest]

    def has_struck(self, now: float) -> bool:
        """Somebody was killed in the last seconds, or since the look before them."""
        settled = [count for at, count in self._seen if now - at >= SETTLE_SECONDS]
        before = settled[-1] if settled else self._seen[0][1]
        return self._count() > before

    def _count(self) -> int:
        try:
            lines = self._vmstat.read_text().splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
