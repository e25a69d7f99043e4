"""While memory is short on the host, idle models go, one by one."""

from __future__ import annotations

from collections.abc import Callable

from modelpool.controllers.memory_pressure import Limits, complaint, victim
from modelpool.pool.admission import MB
from modelpool.pool.memory import HostMemory
from modelpool.pool.pool import Pool

# Pressure is an average over 10 s: what an eviction did is seen only then.
RELIEF_SECONDS = 10.0
# So long after pressure nothing is loaded that nobody asked for: it might bring it back.
CALM_SECONDS = 120.0


class PressureController:
    """``memory`` is the host's, as it was last read; ``publish`` tells an event and its reason.

    Attributes:
        complaint: why memory is short, in words; empty if it is not.
    """

    def __init__(
        self, pool: Pool, memory: HostMemory, publish: Callable[[str, str], object]
    ) -> None:
        self._pool = pool
        self._memory = memory
        self._publish = publish
        self._relieved = float("-inf")
        self.complaint = ""

    async def reconcile(self) -> None:
        """Evict one idle model, if memory is short and the last eviction did not help."""
        config, now = self._pool.config, self._pool.clock.now()
        limits = Limits(config.pressure_percent, int(config.pressure_available_mb * MB))
        before, self.complaint = self.complaint, complaint(self._memory.now, limits)
        if bool(before) != bool(self.complaint):
            self._publish("memory-pressure", self.complaint or "memory is no longer short")
        if self.complaint:
            self._pool.pause_preloads(CALM_SECONDS)
        if not self.complaint or now - self._relieved < RELIEF_SECONDS:
            return
        key = victim(list(self._pool.residents().values()))
        if key is not None:
            self._relieved = now
            self._pool.evict_if_idle(key, f"evicted: {self.complaint}")
