"""Quantiles of a histogram are those of the values, to a few per cent."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
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
