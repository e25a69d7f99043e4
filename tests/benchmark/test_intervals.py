"""Intervals by Student's t, of means, of pairs, of changes: tables, and properties."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from bench import intervals
from hypothesis import given
from hypothesis import strategies as st

POSITIVE = st.floats(0.01, 1e6)
SAMPLES = st.lists(POSITIVE, min_size=2, max_size=12)


@pytest.mark.parametrize(
    ("confidence", "degrees", "quantile"),
    [
        # Two-sided quantiles as any table of Student's t has them.
        (0.95, 1, 12.706),
        (0.95, 2, 4.303),
        (0.95, 6, 2.447),
        (0.95, 30, 2.042),
        (0.99, 1, 63.657),
        (0.99, 9, 3.250),
        (0.99, 100, 2.626),
    ],
)
def test_quantiles_are_those_of_the_tables(
    confidence: float, degrees: int, quantile: float
) -> None:
    assert intervals.student(confidence, degrees) == pytest.approx(quantile, abs=1e-3)


def test_many_degrees_are_a_normal_distribution() -> None:
    normal = statistics.NormalDist().inv_cdf(0.975)
    assert intervals.student(0.95, 5000) == pytest.approx(normal, abs=1e-3)


def test_the_interval_of_a_mean() -> None:
    estimate = intervals.of_mean([9.0, 10.0, 11.0])
    assert estimate.value == 10.0
    # 4.303 / sqrt(3) with a deviation of 1.
    assert estimate.high - 10.0 == pytest.approx(2.484, abs=1e-3)
    assert 10.0 - estimate.low == pytest.approx(2.484, abs=1e-3)


def test_one_sample_says_nothing_of_its_spread() -> None:
    assert intervals.of_mean([3.0]) == intervals.Estimate(3.0, -math.inf, math.inf)
    assert intervals.of_ratio([3.0], [2.0]) == intervals.Estimate(pytest.approx(1.5), 0.0, math.inf)


def test_a_drift_of_the_machine_is_none_of_a_ratio() -> None:
    estimate = intervals.of_ratio([60.0, 30.0, 90.0], [100.0, 50.0, 150.0])
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.6, 0.6, 0.6))


def test_a_difference_is_taken_pair_by_pair() -> None:
    assert intervals.of_difference([1.5, 2.5], [1.0, 2.0]) == intervals.Estimate(0.5, 0.5, 0.5)


def test_a_sample_without_its_pair_is_refused() -> None:
    with pytest.raises(ValueError):
        intervals.of_ratio([1.0, 2.0], [1.0])


@given(SAMPLES)
def test_the_mean_is_in_its_interval(samples: list[float]) -> None:
    estimate = intervals.of_mean(samples)
    assert estimate.low <= estimate.value <= estimate.high


@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=2, max_size=12))
def test_the_other_way_round_a_ratio_is_its_inverse(pairs: list[tuple[float, float]]) -> None:
    own, other = [a for a, _ in pairs], [b for _, b in pairs]
    one, two = intervals.of_ratio(own, other), intervals.of_ratio(other, own)
    assert one.value * two.value == pytest.approx(1)
    if math.isfinite(one.high) and one.low > 0:
        assert one.low * two.high == pytest.approx(1)


@given(SAMPLES, SAMPLES)
def test_a_change_there_and_back_is_none(now: list[float], then: list[float]) -> None:
    there, back = intervals.of_change(now, then), intervals.of_change(then, now)
    assert there.value == pytest.approx(-back.value)
    assert there.low == pytest.approx(-back.high)


def test_a_change_of_single_samples_is_unknown() -> None:
    assert intervals.of_change([2.0], [1.0, 1.1]).high == math.inf


def test_what_never_varies_has_an_exact_change() -> None:
    assert intervals.of_change([2.0, 2.0], [1.0, 1.0]) == intervals.Estimate(1.0, 1.0, 1.0)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of 2,000 intervals of 7 samples about 95 in 100 do; 93 to 97 is four deviations wide."""
    generator = random.Random(1)
    held = 0
    for _ in range(2000):
        estimate = intervals.of_mean([generator.gauss(5.0, 2.0) for _ in range(7)])
        held += estimate.low <= 5.0 <= estimate.high
    assert 0.93 <= held / 2000 <= 0.97
