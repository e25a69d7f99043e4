"""An engine as a queue, on virtual time, under a limit: to see what a search for it is worth.

All that is at work goes on at the same speed, which depends on how much there is; what has no slot
waits in the engine, first come first served. A closed loop of clients keeps the pool's queue full.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from modelpool.pool.concurrency import Search


@dataclass(frozen=True)
class Engine:
    """``speed(n)``: of each of ``n`` requests at work, 1 where one is alone.

    Attributes:
        slots: at work at once; more wait in the engine.
        first_token, rest: mean work until the first token and after it, in seconds alone.
        spread: standard deviation of the logarithm of that work.
    """

    speed: Callable[[int], float]
    slots: int = 1_000_000
    first_token: float = 0.3
    rest: float = 1.0
    spread: float = 0.0


def linear(n: int) -> float:
    """Each as fast as if it were alone."""
    return 1.0


def flat(n: int) -> float:
    """All together as fast as one."""
    return 1.0 / n


def collapsing(knee: int) -> Callable[[int], float]:
    """Alone up to ``knee`` of them; beyond it all together are the slower the more there are."""
    return lambda n: 1.0 if n <= knee else (knee / n) ** 2


def batching(share: float) -> Callable[[int], float]:
    """A step takes a fixed time, and ``share`` of that more for each in the batch."""
    return lambda n: (1 + share) / (1 + share * n)


@dataclass(frozen=True)
class Outcome:
    """Of the second half of a run: what was served, and 95 of 100 first tokens came within, from
    the client's request on, in seconds."""

    per_second: float
    first_token_p95: float
    limits: tuple[int, ...] = ()


@dataclass(eq=False)
class _Request:
    asked_at: float
    granted_at: float = 0.0
    in_flight: int = 0
    first_token_at: float | None = None
    work: tuple[float, float] = (0.0, 0.0)


@dataclass
class Run:
    """``limit``: a number, or the search for one."""

    engine: Engine
    limit: int | Search
    lots: random.Random
    clients: int = 64
    now: float = 0.0
    _attained: float = 0.0  # the service that one at work since the beginning has had
    _in_flight: int = 0
    _working: list[tuple[float, int, _Request]] = field(default_factory=list)
    _waiting: deque[_Request] = field(default_factory=deque)  # in the pool
    _queued: deque[_Request] = field(default_factory=deque)  # in the engine
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _served: list[tuple[float, float]] = field(default_factory=list)
    _limits: list[int] = field(default_factory=list)

    def run(self, seconds: float) -> Outcome:
        """All clients ask again as soon as they are answered."""
        for _ in range(self.clients):
            self._ask()
        while self.now < seconds:
            self._next()
        half = [took for at, took in self._served if at > seconds / 2]
        half.sort()
        p95 = half[int(0.95 * len(half))] if half else 0.0
        limits = tuple(self._limits[len(self._limits) // 2 :])
        return Outcome(len(half) / (seconds / 2), p95, limits)

    def _most(self) -> int:
        return self.limit.limit if isinstance(self.limit, Search) else self.limit

    def _ask(self) -> None:
        self._waiting.append(_Request(self.now))
        self._grant()

    def _grant(self) -> None:
        while self._waiting and self._in_flight < self._most():
            request = self._waiting.popleft()
            self._in_flight += 1
            request.granted_at, request.in_flight = self.now, self._in_flight
            engine = self.engine
            spread = self.lots.lognormvariate(0.0, engine.spread)
            again = self.lots.lognormvariate(0.0, engine.spread)
            request.work = (engine.first_token * spread, engine.rest * again)
            self._queued.append(request)
        self._begin()

    def _begin(self) -> None:
        while self._queued and len(self._working) < self.engine.slots:
            self._work(self._queued.popleft(), 0)

    def _work(self, request: _Request, part: int) -> None:
        until = self._attained + request.work[part]
        heapq.heappush(self._working, (until, next(self._numbers), request))

    def _next(self) -> None:
        until, _, request = heapq.heappop(self._working)
        at_work = len(self._working) + 1
        self.now += (until - self._attained) / self.engine.speed(at_work)
        self._attained = until
        if request.first_token_at is None:
            request.first_token_at = self.now
            self._work(request, 1)
        else:
            self._end(request, request.first_token_at)

    def _end(self, request: _Request, first_token_at: float) -> None:
        self._in_flight -= 1
        self._served.append((self.now, first_token_at - request.asked_at))
        if isinstance(self.limit, Search):
            self.limit.first_token(request.in_flight, first_token_at - request.granted_at)
            self._limits.append(self.limit.limit)
        self._begin()
        self._ask()
