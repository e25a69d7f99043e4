"""The last of what was worked out, for whoever asks again."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """So many values at most: the one that was put first makes room."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: dict[K, V] = {}

    def __repr__(self) -> str:
        return f"<Recent {len(self)} of {self._most}>"

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """None where there is none, or none any more."""
        return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        """Keep it for now."""
        self._values.pop(key, None)
        if len(self._values) >= self._most:
            del self._values[next(iter(self._values))]
        self._values[key] = value

    def drop(self, key: K) -> None:
        """It holds no more; none is no matter."""
        self._values.pop(key, None)
