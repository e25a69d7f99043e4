"""Quantiles of a histogram are those of the values, to a few per cent."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.catalog.database import Usage
from modelpool.observe.histogram import GROWTH, LEAST_SECONDS, Histogram
from modelpool.observe.usage import ModelFacts, UsageMeter

SECONDS = st.lists(st.floats(LEAST_SECONDS, 80_000), min_size=1, max_size=200)


@given(SECONDS, SECONDS, st.sampled_from((0.5, 0.95, 0.99, 1.0)))
def test_a_quantile_is_near_the_value_of_that_rank(
    some: list[float], more: list[float], q: float
) -> None:
    one, other = Histogram(), Histogram()
    for histogram, values in ((one, some), (other, more)):
        for value in values:
            histogram.add(value)
    one.take(other)
    every = sorted(some + more)
    exact = every[math.ceil(q * len(every)) - 1]
    assert exact / GROWTH <= one.quantile(q) <= exact * GROWTH
    assert one.mean == pytest.approx(sum(every) / len(every))


def test_statistics_by_model_and_engine() -> None:
    now = [100.0]
    meter = UsageMeter(lambda: now[0])
    for model_id, seconds in (("a", 0.1), ("a", 0.3), ("b", 1.0)):
        meter.began(model_id, was_hot=seconds < 1)
        meter.ended(model_id, 200, seconds)
    meter.reported("w", "a", 10)
    meter.reported("w", "a", 50)
    now[0] = 110.0
    said = meter.statistics({"a": ModelFacts("e", 0.5, {"memory": 0.1}), "b": ModelFacts("e")})
    assert (said["total_requests"], said["success_rate"]) == (3, 1.0)
    assert said["cache_hit_rate"] == pytest.approx(2 / 3)
    assert said["tokens_per_second"] == pytest.approx(40 / 1.4)
    assert said["p99_latency_ms"] == pytest.approx(1000, rel=0.05)
    a = said["models"]["a"]
    assert (a["request_count"], a["throughput_ips"]) == (2, pytest.approx(0.2))
    assert (a["cost_per_request"], a["resource_utilization"]) == (10.0, {"memory": 0.1})
    assert said["models"]["b"]["cost_per_request"] is None
    assert said["engines"]["e"]["request_count"] == 3
    meter.forget("a")
    assert meter.statistics({})["total_requests"] == 3


def test_what_was_counted_is_written_down_once_whoever_leaves_or_refuses() -> None:
    saved: Counter[str] = Counter()
    loads: Counter[str] = Counter()
    fails = False

    class Store:
        async def add_usage(self, deltas: Sequence[Usage]) -> None:
            await asyncio.sleep(0)
            if fails:
                raise OSError("the disk is full")
            saved.update({each.model_id: each.requests for each in deltas})
            loads.update({each.model_id: each.loads for each in deltas})

    def used(model_id: str) -> None:
        meter.began(model_id, was_hot=True)
        meter.ended(model_id, 200, 1.0)

    async def save() -> None:
        await asyncio.gather(meter.save(Store()), meter.save(Store()))

    meter = UsageMeter(lambda: 0.0)
    for model_id in ("a", "b"):
        meter.loaded(model_id)
        used(model_id)
    asyncio.run(save())
    used("a")
    used("b")
    meter.forget("a")  # its use outlives it
    fails = True
    asyncio.run(save())
    used("b")
    assert (saved, loads) == ({"a": 1, "b": 1}, {"a": 1, "b": 1})
    fails = False
    asyncio.run(save())
    asyncio.run(save())
    assert (saved, loads) == ({"a": 2, "b": 3}, {"a": 1, "b": 1})
