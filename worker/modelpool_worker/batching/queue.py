"""PURE. Who waits to be computed: by priority, which age makes up for, then in order of arrival."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Mapping
from typing import Generic, Literal, TypeVar, get_args

# The header in which a client says it; it wins over the body.
PRIORITY = b"x-priority"
Priority = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
# Who has waited for so much longer goes before the next higher priority.
AGEING_SECONDS = 2.0
_RANKS: Mapping[Priority, int] = {name: rank for rank, name in enumerate(PRIORITIES)}

Item = TypeVar("Item", bound=Hashable)


def priority_of(value: object) -> Priority:
    """What a client calls it; anything else is ``normal``."""
    return next((known for known in PRIORITIES if known == value), "normal")


def priority_in(header: bytes) -> Priority:
    """What ``PRIORITY`` says, in any case."""
    return priority_of(header.decode("latin-1").lower())


class BatchQueue(Generic[Item]):
    """Items in the order in which they are taken; each is in it once. Times are monotonic seconds.

    An item's place is decided as it comes: it goes behind whatever came at the same time with a
    higher priority, and before whatever of that comes ``AGEING_SECONDS`` later.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Item]] = []
        self._since: dict[Item, float] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._since)

    def push(self, item: Item, priority: Priority, now: float) -> None:
        """One more."""
        self._count += 1
        self._since[item] = now
        heapq.heappush(self._heap, (now + AGEING_SECONDS * _RANKS[priority], self._count, item))

    def remove(self, item: Item) -> bool:
        """Forget one; whether it was there."""
        if self._since.pop(item, None) is None:
            return False
        if len(self._heap) > 2 * len(self._since) + 64:
            self._heap = [entry for entry in self._heap if entry[2] in self._since]
            heapq.heapify(self._heap)
        return True

    def ages(self, most: int, now: float) -> list[float]:
        """For how long the first ones have waited, in their order."""
        self._drop()
        first = heapq.nsmallest(most + len(self._heap) - len(self._since), self._heap)
        known = [item for _, _, item in first if item in self._since][:most]
        return [max(0.0, now - self._since[item]) for item in known]

    def take(self, most: int) -> list[Item]:
        """The first ones, which wait no more."""
        taken: list[Item] = []
        while self._heap and len(taken) < most:
            item = heapq.heappop(self._heap)[2]
            if self._since.pop(item, None) is not None:
                taken.append(item)
        return taken

    def _drop(self) -> None:
        while self._heap and self._heap[0][2] not in self._since:
            heapq.heappop(self._heap)
