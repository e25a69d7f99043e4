"""A compute thread on virtual time: arrivals, a scheduler, batches that cost ``a * n + b``."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from modelpool_worker.batching.policies import Limits, Policy
from modelpool_worker.batching.scheduler import Scheduler

Cost = Callable[[int], float]


def run(policy: Policy, limits: Limits, arrivals: Sequence[float], cost: Cost) -> list[float]:
    """How long each waited for its answer, in the order of arrival."""
    scheduler: Scheduler[int] = Scheduler(policy, limits.most)
    took = [0.0] * len(arrivals)
    events: list[tuple[float, int, str]] = [(at, i, "arrive") for i, at in enumerate(arrivals)]
    heapq.heapify(events)
    number, due = len(arrivals), 0
    while events:
        now, i, what = heapq.heappop(events)
        if what == "arrive":
            scheduler.arrive(i, "normal", now)
        elif what == "finish":
            for item in scheduler.running:
                took[item] = now - arrivals[item]
            scheduler.finished(now)
        elif i != due:  # a timer that something else has made void
            continue
        number += 1
        batch, wait = scheduler.next(now)
        if batch:
            heapq.heappush(events, (now + cost(len(batch)), number, "finish"))
        elif wait is not None:
            due = number
            heapq.heappush(events, (now + wait + 1e-9, number, "timer"))
    assert not len(scheduler)
    assert not scheduler.running
    return took


def p95(values: Sequence[float]) -> float:
    return sorted(values)[int(0.95 * (len(values) - 1))]
