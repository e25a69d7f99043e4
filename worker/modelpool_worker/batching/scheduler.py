"""PURE. One compute thread's work: who waits for it, and what it is given next."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

from .policies import Decision, Policy
from .queue import BatchQueue, Priority

Item = TypeVar("Item", bound=Hashable)


class Scheduler(Generic[Item]):
    """Batches of items, one at a time. Times are monotonic seconds.

    Attributes:
        running: the batch that is computed now; empty for none.
    """

    def __init__(self, policy: Policy, most: int) -> None:
        self.running: Sequence[Item] = ()
        self._policy = policy
        self._most = most
        self._queue: BatchQueue[Item] = BatchQueue()
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._queue)

    def arrive(self, item: Item, priority: Priority, now: float) -> None:
        """One more waits."""
        self._queue.push(item, priority, now)
        self._policy.arrived(now)

    def cancel(self, item: Item) -> bool:
        """It is wanted no more; whether it had not begun, and never will."""
        return self._queue.remove(item)

    def next(self, now: float) -> tuple[Sequence[Item], float | None]:
        """The batch to begin now, empty for none; and after how many seconds to ask again where
        nothing else happens, None for never."""
        if self.running or not len(self._queue):
            return (), None
        decision: Decision = self._policy.decide(self._queue.ages(self._most, now))
        if not decision.take:
            return (), decision.wait
        self.running = tuple(self._queue.take(min(decision.take, self._most)))
        self._since = now
        return self.running, None

    def finished(self, now: float) -> None:
        """The batch that was computed has ended."""
        self._policy.observed(len(self.running), now - self._since)
        self.running = ()
