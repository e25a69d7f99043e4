"""Which requests are traced: those whose client says so, and a share of those that say nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from .context import TraceContext, WorkerTrace

_TRACE_BITS, _SPAN_BITS = 128, 64


class Sampler:
    """``ratio``: the share of requests that are traced of those whose clients say nothing;
    ``per_second``: how many of them at most, 0: any number. ``clock`` gives seconds."""

    def __init__(
        self, ratio: float, per_second: float = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.ratio = ratio
        self._per_second = per_second
        self._clock = clock
        self._most = self._left = max(1.0, per_second)
        self._at = clock()
        self._chosen: WeakSet[Any] = WeakSet()

    def __repr__(self) -> str:
        return f"<Sampler {self.ratio}>"

    def takes_next(self, connection: Any) -> bool:
        """For a shortcut: whether the request that comes over it, and says nothing, is traced,
        which is to be found out once: ``decides`` gives the same answer if it is."""
        if not self._draws():
            return False
        self._chosen.add(connection)
        return True

    def decides(self, connection: Any, parent: TraceContext | None) -> bool:
        """Whether a request is traced."""
        was_chosen = connection in self._chosen
        self._chosen.discard(connection)
        if parent is not None:
            return parent.is_sampled
        return was_chosen or self._draws()

    def _draws(self) -> bool:
        if self.ratio <= 0 or (self.ratio < 1 and random.random() >= self.ratio):
            return False
        if not self._per_second:
            return True
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def new_trace_id() -> str:
    """One that no other trace has."""
    return f"{random.getrandbits(_TRACE_BITS) or 1:032x}"


def new_span_id() -> str:
    """One that no other span of a trace has."""
    return f"{random.getrandbits(_SPAN_BITS) or 1:016x}"


def worker_trace(parent: TraceContext | None) -> WorkerTrace:
    """Of a request that is traced."""
    trace_id, parent_id = (new_trace_id(), "") if parent is None else parent[:2]
    return WorkerTrace(trace_id, parent_id, new_span_id(), new_span_id())
