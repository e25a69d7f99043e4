"""Requests that wait for a replica: for its load, or for a place on it. They come and go; what they
wait for stays."""

from __future__ import annotations

from bisect import bisect_left, insort_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple, Protocol

from modelpool_client.http1.endpoint import LocalEndpoint

REQUEST = "a request came"
PRIORITIES = {"high": 0, "normal": 1, "low": 2}


class Outcome(Protocol):
    """Where somebody waits for an answer, as in a future. Decisions only hand it on."""

    def done(self) -> bool: ...
    def set_result(self, result: Any, /) -> None: ...
    def set_exception(self, exception: BaseException, /) -> None: ...
    def cancel(self) -> bool: ...


class Use(NamedTuple):
    """What a grant was good for, as far as its holder knows.

    Attributes:
        is_used: the engine was given the request; else no lease is renewed.
        first_token_seconds: from the grant to the first byte of the answer's body; None where none
            came.
        is_overload: it was refused for there being too many, or memory ran out over it.
    """

    is_used: bool = True
    first_token_seconds: float | None = None
    is_overload: bool = False


USED, UNUSED = Use(), Use(is_used=False)


# Not frozen, though nobody changes one: a frozen one takes four times as long to make, and there is
# one of each for every request.
@dataclass(eq=False, slots=True)
class Grant:
    """Permission to use a worker until ``release`` is called, once. ``key``: of the replica."""

    model_id: str
    worker_id: str
    endpoint: LocalEndpoint
    generation: int
    was_hot: bool
    _release: Callable[[Use], None] = field(repr=False)
    key: str = ""

    @property
    def port(self) -> int:
        """Of the worker."""
        return self.endpoint.port

    def release(self, use: Use = USED) -> None:
        """It is not needed any more."""
        self._release(use)


@dataclass(eq=False, slots=True)
class Waiter:
    """One who waits: for a grant (a request) or only for HOT (a load).

    Attributes:
        since: when it came, seconds of the pool's clock.
        is_standing: a load that was asked for and that nobody waits on.
        why: what a start for its sake is for.
        had_worker: its worker is gone; it waits for the next as those do that wait already.
        beside: keys of the replicas that were asked for together with it; none makes room for it.
    """

    outcome: Outcome
    wants_grant: bool
    rank: int = PRIORITIES["normal"]
    since: float = 0.0
    is_standing: bool = False
    why: str = REQUEST
    had_worker: bool = False
    beside: frozenset[str] = frozenset()


def turn(rank: int, since: float, ageing_seconds: float) -> float:
    """Who waits is served in the order of it, the least first: ``ageing_seconds`` of waiting are
    worth one class. All grow old at the same pace, so that the order of two never changes, and
    nobody is overtaken by who comes later than the classes between them are worth."""
    return since + rank * ageing_seconds


def _since(waiter: Waiter) -> float:
    return waiter.since


@dataclass(slots=True)
class Waiters:
    """Each class in order of arrival; among their heads goes first whose ``turn`` is first. Loads
    stand beside them: they need no place. For most models of a large catalog nobody ever waits:
    the queues are made for the first who does."""

    _loads: list[Waiter] = field(default_factory=list)
    _requests: tuple[list[Waiter], ...] = ()

    def __len__(self) -> int:
        return len(self._loads) + sum(map(len, self._requests))

    def __iter__(self) -> Iterator[Waiter]:
        return chain(self._loads, *self._requests)

    @property
    def oldest(self) -> Waiter | None:
        """Who has waited longest."""
        heads = [queue[0] for queue in (self._loads, *self._requests) if queue]
        return min(heads, key=_since, default=None)

    @property
    def beside(self) -> frozenset[str]:
        """Keys of the replicas that must not make room for what they wait for."""
        return frozenset().union(*(load.beside for load in self._loads))

    @property
    def first_beside(self) -> frozenset[str]:
        """Those that were asked for by the oldest who asked for several: where sets that share it
        can never all be there, the first of them is served."""
        return next((load.beside for load in self._loads if load.beside), frozenset())

    @property
    def by_class(self) -> dict[str, int]:
        """How many requests of each class wait."""
        queues = self._requests or ((),) * len(PRIORITIES)
        return {name: len(queues[rank]) for name, rank in PRIORITIES.items()}

    def add(self, waiter: Waiter) -> None:
        """Behind those that came before it, wherever they waited until now."""
        insort_right(self._queue_of(waiter), waiter, key=_since)

    def discard(self, waiter: Waiter) -> bool:
        """Whether it waited."""
        queue = self._queue_of(waiter)
        for at in range(bisect_left(queue, waiter.since, key=_since), len(queue)):
            if queue[at] is waiter:
                del queue[at]
                return True
            if queue[at].since > waiter.since:
                break
        return False

    def take_next(self, ageing_seconds: float) -> Waiter | None:
        """The request whose turn it is."""
        queues = [queue for queue in self._requests if queue]
        if not queues:
            return None
        first = min(queues, key=lambda q: turn(q[0].rank, q[0].since, ageing_seconds))
        return first.pop(0)

    def take_loads(self) -> list[Waiter]:
        """All that only wait for HOT."""
        taken = self._loads[:]
        self._loads.clear()
        return taken

    def take(self, most: int, ageing_seconds: float) -> list[Waiter]:
        """Loads, and so many requests, in the order of their turns."""
        taken = self.take_loads()
        for _ in range(most):
            waiter = self.take_next(ageing_seconds)
            if waiter is None:
                break
            taken.append(waiter)
        return taken

    def take_all(self) -> list[Waiter]:
        """In no order that means anything: they are all told the same."""
        taken = list(self)
        for queue in (self._loads, *self._requests):
            queue.clear()
        return taken

    def _queue_of(self, waiter: Waiter) -> list[Waiter]:
        if not self._requests:
            self._requests = tuple([] for _ in PRIORITIES)
        return self._requests[waiter.rank] if waiter.wants_grant else self._loads
