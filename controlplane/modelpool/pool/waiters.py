"""Requests that wait for a replica. They come and go; the load that they wait for stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

REQUEST = "a request came"
PRIORITIES = {"high": 0, "normal": 1, "low": 2}


class Outcome(Protocol):
    """Where somebody waits for an answer, as in a future. Decisions only hand it on."""

    def done(self) -> bool: ...
    def set_result(self, result: Any, /) -> None: ...
    def set_exception(self, exception: BaseException, /) -> None: ...
    def cancel(self) -> bool: ...


# Not frozen, though nobody changes one: a frozen one takes four times as long to make, and there is
# one of each for every request.
@dataclass(eq=False, slots=True)
class Grant:
    """Permission to use a worker until ``release`` is called, once."""

    model_id: str
    worker_id: str
    port: int
    generation: int
    was_hot: bool
    _release: Callable[[bool], None] = field(repr=False)

    def release(self, *, is_used: bool = True) -> None:
        """It is not needed any more. Not ``is_used``: its engine was given nothing, as far as is
        known, which renews no lease."""
        self._release(is_used)


@dataclass(eq=False, slots=True)
class Waiter:
    """One who waits: for a grant (a request) or only for HOT (a load).

    Attributes:
        since: when it came, seconds of the pool's clock.
        is_standing: a load that was asked for and that nobody waits on.
        why: what a start for its sake is for.
        had_worker: its worker is gone; it waits for the next as those do that wait already.
    """

    outcome: Outcome
    wants_grant: bool
    rank: int = PRIORITIES["normal"]
    since: float = 0.0
    is_standing: bool = False
    why: str = REQUEST
    had_worker: bool = False


@dataclass
class Waiters:
    """In order of priority, then of arrival."""

    _waiting: list[Waiter] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiting)

    def add(self, waiter: Waiter) -> None:
        self._waiting.append(waiter)

    def discard(self, waiter: Waiter) -> bool:
        """Whether it waited."""
        if waiter not in self._waiting:
            return False
        self._waiting.remove(waiter)
        return True

    def take_all(self) -> list[Waiter]:
        taken = sorted(self._waiting, key=lambda w: (w.rank, w.since))
        self._waiting.clear()
        return taken
