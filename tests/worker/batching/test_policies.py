"""Batch policies on virtual time, over many shapes of load."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from modelpool_worker.batching.cost import BatchCost, Gaps
from modelpool_worker.batching.policies import (
    POLICIES,
    Dynamic,
    Fixed,
    Greedy,
    LatencyAware,
    Limits,
)
from support.batches import p95, run

ALONE = Limits(most=1)
SHAPES = ("poisson", "regular", "bursts", "waves")


def arrivals(rng: random.Random, shape: str, gap: float, count: int) -> list[float]:
    """Moments at which items come, ``gap`` seconds apart on average."""
    now, found = 0.0, list[float]()
    size = rng.choice([2, 5, 20, 50])
    while len(found) < count:
        if shape == "poisson":
            now += rng.expovariate(1 / gap)
        elif shape == "regular":
            now += gap * rng.uniform(0.9, 1.1)
        elif shape == "waves":
            now += rng.expovariate(1 / (gap * (0.3 if int(now / gap / 100) % 3 == 0 else 1.7)))
        else:
            now += rng.expovariate(1 / (gap * size))
            found += [now + rng.random() / 1000 for _ in range(rng.randint(1, 2 * size - 1))]
            continue
        found.append(now)
    return sorted(found)


def linear(each: float, fixed: float, noise: float = 0, seed: int = 0) -> Callable[[int], float]:
    rng = random.Random(seed)
    return lambda n: (each * n + fixed) * (1 + rng.uniform(-noise, noise))


@pytest.mark.parametrize("name", POLICIES)
def test_a_hundred_at_once_are_nine_times_as_fast_as_one_after_another(name: str) -> None:
    """Of an engine whose batch costs little more than one of its items."""
    cost, limits = linear(0.0002, 0.02), Limits()
    together = max(run(POLICIES[name](limits), limits, [i * 1e-5 for i in range(100)], cost))
    assert 100 * cost(1) >= 9 * together


@pytest.mark.parametrize("seed", range(40))
def test_latency_aware_keeps_its_target_wherever_batches_of_one_do(seed: int) -> None:
    rng = random.Random(seed)
    shape = rng.choice(SHAPES)
    each, fixed = rng.choice([0.0005, 0.002, 0.01]), rng.choice([0, 0.001, 0.005, 0.02, 0.05])
    gap = (each + fixed) / rng.choice([0.1, 0.3, 0.5, 0.7, 0.85, 0.95, 1.05])
    coming = arrivals(rng, shape, gap, 800)
    noise = rng.choice([0, 0.1])
    cost = linear(each, fixed, noise, seed)
    alone = p95(run(Greedy(ALONE), ALONE, coming, cost))
    # What one run of a noisy engine has met, the next may miss by as much.
    for slack in (1.0 + noise, 1.5, 3.0):
        limits = Limits(rng.choice([8, 32, 128]), 0.005, alone * slack)
        took = run(LatencyAware(limits), limits, coming, cost)
        assert p95(took) <= 1.1 * limits.target, (shape, each, fixed, gap, noise, slack, limits)


def test_latency_aware_does_more_than_batches_of_one_can() -> None:
    """Twice as much as one after the other is too much for batches of one."""
    rng = random.Random(1)
    coming = arrivals(rng, "poisson", 0.01, 2000)
    limits = Limits(64, 0.005, target=0.1)
    cost = linear(0.0005, 0.0195)
    assert p95(run(Greedy(ALONE), ALONE, coming, cost)) > 10
    assert p95(run(LatencyAware(limits), limits, coming, cost)) <= 0.11


def test_latency_aware_makes_no_batch_that_ends_too_late() -> None:
    limits = Limits(64, 0.0, target=0.1)
    policy = LatencyAware(limits)
    for size in (1, 2, 4, 8, 16, 32):
        policy.observed(size, 0.01 * size)
    assert policy.decide([0.0] * 40).take == 10
    assert policy.decide([0.05] * 40).take == 5
    assert policy.decide([0.5] + [0.0] * 39).take == 10  # who is late anyway does not matter


@pytest.mark.parametrize("load", [0.2, 0.5, 0.8])
def test_dynamic_waits_only_while_that_pays(load: float) -> None:
    """On average nobody waits longer than with a greedy policy, by more than chance."""
    rng = random.Random(3)
    for each, fixed in ((0.01, 0.0), (0.001, 0.009), (0.0001, 0.05)):
        coming = arrivals(rng, "poisson", (each + fixed) / load, 2000)
        limits, cost = Limits(32, 0.05), linear(each, fixed)
        dynamic = sum(run(Dynamic(limits), limits, coming, cost))
        assert dynamic <= 1.05 * sum(run(Greedy(limits), limits, coming, cost))


def test_dynamic_waits_for_those_who_are_about_to_come() -> None:
    limits = Limits(32, wait=1.0)
    policy = Dynamic(limits)
    for size in (1, 2, 3):
        policy.observed(size, 0.1 + 0.001 * size)
    for i in range(20):
        policy.arrived(i * 0.01)
    assert policy.decide([0.0]).wait == pytest.approx(0.02)
    assert policy.decide([0.0] * 12).take == 12  # so many wait for one more that it does not pay
    assert policy.decide([0.03]).take == 1  # and it did not come
    seldom = Dynamic(limits)
    for size in (1, 2, 3):
        seldom.observed(size, 0.1 + 0.001 * size)
    for i in range(20):
        seldom.arrived(i * 1.0)
    assert seldom.decide([0.0]).take == 1


def test_fixed_waits_for_a_full_batch_or_its_time() -> None:
    policy = Fixed(Limits(4, wait=0.5))
    assert policy.decide([0.2, 0.1]).take == 0
    assert policy.decide([0.2, 0.1]).wait == pytest.approx(0.3)
    assert policy.decide([0.5]).take == 1
    assert policy.decide([0.0] * 6).take == 4


@pytest.mark.parametrize(("each", "fixed"), [(0.01, 0.0), (0.001, 0.05), (0.0, 0.02)])
def test_costs_are_found_out(each: float, fixed: float) -> None:
    cost, rng = BatchCost(), random.Random(0)
    assert (cost.seconds(8), cost.each, cost.fixed) == (0, 0, 0)
    for _ in range(200):
        size = rng.randint(1, 16)
        cost.observed(size, (each * size + fixed) * rng.uniform(0.95, 1.05))
    assert cost.seconds(8) == pytest.approx(each * 8 + fixed, rel=0.1)
    assert cost.each == pytest.approx(each, abs=0.0015)
    assert cost.most_tried == 32


def test_while_all_batches_have_one_size_a_larger_one_is_thought_to_take_as_much_more() -> None:
    cost = BatchCost()
    cost.observed(1, 0.02)
    cost.observed(1, 0.02)
    assert cost.seconds(3) == pytest.approx(0.06)
    assert cost.fixed == pytest.approx(0.02)


def test_gaps() -> None:
    gaps = Gaps()
    assert gaps.expected == float("inf")
    for i in range(50):
        gaps.arrived(i * 0.5)
    assert gaps.expected == pytest.approx(0.5)
