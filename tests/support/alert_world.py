"""A day of a pool on virtual time, for alerts: requests, loads, evictions, a crash now and then."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from modelpool.alerts.costs import Costs
from modelpool.alerts.evaluate import State, evaluate
from modelpool.alerts.rules import BUILT_IN, Rule
from modelpool.alerts.sampler import Sampler
from modelpool.catalog.usage_rows import UsageTotal
from modelpool.observe.events import Event
from modelpool.pool.states import State as ReplicaState
from modelpool_client.wire import CLIENT_LEFT, EndedRequest

STEP = 15.0
HOUR = 3600.0
# A Friday, at midnight.
START = 1_780_000_000.0 // (24 * HOUR) * 24 * HOUR
CHAT = "/v1/chat/completions"


def result_of(work: Coroutine[Any, Any, Any]) -> Any:
    """Of what waits for nothing; a loop for each step would be most of the test."""
    while True:
        try:
            work.send(None)
        except StopIteration as end:
            return end.value


class FakePool:
    """As much of a pool as is looked at."""

    def __init__(self) -> None:
        self.copies: dict[str, list[Any]] = {}
        self.clock = SimpleNamespace(now=lambda: self.now)
        self.now = START

    @property
    def awake_models(self) -> set[str]:
        return set(self.copies)

    def has(self, model_id: str) -> bool:
        return True

    def statuses(self, model_id: str) -> list[Any]:
        return self.copies[model_id]


def status(
    state: ReplicaState = ReplicaState.HOT, waiting: int = 0, since: float | None = None
) -> Any:
    return SimpleNamespace(
        state=state,
        waiting=waiting,
        waiting_since=since,
        reason="it is so",
        describe_wait=lambda: "for room",
    )


class FakeStore:
    """What was spent."""

    def __init__(self) -> None:
        self.spent = 0.0

    async def usage_totals(self, *asked: object) -> list[UsageTotal]:
        counts = (0, 0, 0, 0, 0, 0, 0.0)
        return [UsageTotal("a", None, None, *counts, self.spent, "EUR")]


@dataclass
class World:
    """A pool's day, in steps of a quarter of a minute.

    Attributes:
        news: what began to fire and ended, and when, in seconds since the start.
    """

    seed: int = 0
    rules: Sequence[Rule] = tuple(BUILT_IN.values())
    at: float = 0.0
    is_short_of_memory: bool = False
    breakers: list[tuple[str, str]] = field(default_factory=list)
    news: list[tuple[float, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.pool, self.store = FakePool(), FakeStore()
        self.state = State()
        self.sampler = Sampler(
            cast(Any, self.pool),
            lambda: self.breakers,
            lambda: "memory is short" if self.is_short_of_memory else "",
            Costs(cast(Any, self.store)),
        )

    @property
    def now(self) -> float:
        return START + self.at

    def event(self, name: str, model_id: str = "a") -> None:
        self.sampler.on_event(Event(1, "", name, {"model_id": model_id}), self.now)

    def ask(self, model_id: str, count: float, **facts: Any) -> None:
        """So many requests on average, which end within this step."""
        for _ in range(self.poisson(count)):
            self.sampler.heard(model_id, self.request(**facts))

    def poisson(self, mean: float) -> int:
        limit, product, count = math.exp(-mean), self.random.random(), 0
        while product > limit:
            product *= self.random.random()
            count += 1
        return count

    def request(self, **facts: Any) -> EndedRequest:
        """Most are quick, some are slow, one in two hundred fails, clients leave, some say nothing
        at all."""
        draw = self.random.random()
        first = self.random.lognormvariate(-0.5, 0.8)
        seconds = first + self.random.lognormvariate(1.3, 0.9)
        healthy: dict[str, Any] = {
            "path": CHAT,
            "started_at": self.now - seconds,
            "seconds": seconds,
            "first_seconds": first,
            "is_stream": True,
            "completion_tokens": 0 if draw > 0.98 else 100,
            "status": 502 if draw < 0.005 else CLIENT_LEFT if draw < 0.035 else 200,
        }
        if healthy["status"] == 502 and draw < 0.003:
            healthy["first_seconds"] = None
        return EndedRequest(**{**healthy, **facts})

    def healthy_step(self) -> None:
        """Busy at noon, all but nothing at night; loads, evictions, a crash now and then."""
        hour = self.at / HOUR % 24
        rate = 0.02 + 0.6 * max(0.0, math.sin((hour - 6) / 15 * math.pi)) ** 2
        for model_id, share in (("a", 1.0), ("b", 0.3), ("c", 0.02)):
            self.ask(model_id, rate * share * STEP)
        is_loading = self.random.random() < 0.1
        since = self.now - self.random.uniform(0, 100)
        waiting = self.random.randrange(30)
        self.pool.copies = {
            "a": [status(waiting=waiting if is_loading else 0, since=since if is_loading else None)]
        }
        if self.random.random() < 0.005:
            self.event("model-evicted", "c")
        if self.random.random() < 1 / (8 * HOUR / STEP):
            self.event("model-failed", "b")
            self.pool.copies["b"] = [status(ReplicaState.FAILED)]
        self.is_short_of_memory = self.random.random() < 0.01

    def step(self, *more: Callable[[World], None]) -> None:
        self.at += STEP
        self.pool.now = self.now
        self.breakers = []
        self.healthy_step()
        for plant in more:
            plant(self)
        samples = result_of(self.sampler.look(self.rules, self.now))
        result = evaluate(self.rules, samples, self.state, self.now, 4 * HOUR)
        self.state = result.state
        for alert in result.changed:
            self.news.append((self.at, alert.status.value, alert.rule))

    def run(self, seconds: float, *more: Callable[[World], None]) -> None:
        for _ in range(int(seconds / STEP)):
            self.step(*more)
