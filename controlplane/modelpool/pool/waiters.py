"""Requests that wait for a replica. They come and go; the load that they wait for stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from modelpool_client.errors import ModelPoolError

REQUEST = "a request came"
PRIORITIES = {"high": 0, "normal": 1, "low": 2}


@dataclass(frozen=True)
class Grant:
    """Permission to use a worker until ``release`` is called, once."""

    model_id: str
    worker_id: str
    port: int
    generation: int
    was_hot: bool
    _release: Callable[[str], None]

    def release(self) -> None:
        self._release(self.worker_id)


@dataclass
class Waiter:
    """One who waits: for a grant (a request) or only for HOT (a load)."""

    outcome: asyncio.Future[Grant | None]
    wants_grant: bool
    rank: int = PRIORITIES["normal"]
    since: float = 0.0
    is_standing: bool = False  # a load that was asked for and that nobody waits on
    why: str = REQUEST  # what a start for its sake is for
    had_worker: bool = False  # which is gone; it waits for the next as those do that wait already

    @property
    def is_gone(self) -> bool:
        """Cancelled, timed out or answered."""
        return self.outcome.done()


@dataclass
class Waiters:
    """In order of priority, then of arrival."""

    _waiting: list[Waiter] = field(default_factory=list)

    def __len__(self) -> int:
        self._waiting = [w for w in self._waiting if not w.is_gone]
        return len(self._waiting)

    def __iter__(self) -> Iterator[Waiter]:
        return iter([w for w in self._waiting if not w.is_gone])

    def add(self, waiter: Waiter) -> None:
        self._waiting.append(waiter)

    def take_all(self) -> list[Waiter]:
        taken = sorted(self, key=lambda w: (w.rank, w.since))
        self._waiting.clear()
        return taken

    def fail_all(self, error: ModelPoolError) -> None:
        for waiter in self.take_all():
            waiter.outcome.set_exception(error)
