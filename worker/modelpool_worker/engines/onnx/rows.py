"""PURE. Which row of a cache each sequence has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Rows(Generic[Item]):
    """Those that write have the first rows, those whose prompts are read the rows behind them:
    each of the two lies in one piece, and is computed as one.

    Attributes:
        writing, reading: in the order of their rows.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.writing: list[Item] = []
        self.reading: list[Item] = []

    def __len__(self) -> int:
        """How many are taken."""
        return len(self.writing) + len(self.reading)

    @property
    def free(self) -> int:
        """How many are left."""
        return self.count - len(self)

    @property
    def first_read(self) -> int:
        """The row of the first one that is read."""
        return len(self.writing)

    def read(self, items: Sequence[Item]) -> None:
        """Begin to read them; nobody else is being read."""
        self.reading = list(items)

    def write(self) -> list[Item]:
        """All that are read write from now on; these are they."""
        came, self.reading = self.reading, []
        self.writing += came
        return came

    def remove(self, item: Item) -> list[tuple[int, int]]:
        """Forget one. Returns which rows to put where, in this order, so that no gap is left."""
        moves = []
        if item in self.writing:
            gap, last = self.writing.index(item), len(self.writing) - 1
            if gap != last:
                self.writing[gap] = self.writing[last]
                moves.append((last, gap))
            self.writing.pop()
            if self.reading:
                moves.append((last + len(self.reading), last))
                self.reading.insert(0, self.reading.pop())
            return moves
        gap, last = self.reading.index(item), len(self.reading) - 1
        if gap != last:
            self.reading[gap] = self.reading[last]
            moves.append((len(self.writing) + last, len(self.writing) + gap))
        self.reading.pop()
        return moves
