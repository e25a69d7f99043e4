"""The search on machines whose truth is known: what it finds, how often it errs, what it costs."""

from __future__ import annotations

import pytest
from modelpool.measure.candidates import DEFAULT
from modelpool.measure.search import (
    ERROR,
    FINAL_PAIRS,
    Done,
    Pair,
    Try,
    next_step,
    race_verdict,
)
from support.measured_machines import SPACE, Machine, search

SEEDS = range(400)
THREADS = (("threads", 4),)


@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_where_nothing_helps_the_defaults_stay(noise: float) -> None:
    """All candidates are as good as the defaults: the hardest case for the stated error."""
    wrong = sum(search(Machine({}, seed, noise))[0].best != DEFAULT for seed in SEEDS)
    # The bound and three standard deviations of a count of that many searches.
    most = ERROR * len(SEEDS) + 3 * (ERROR * (1 - ERROR) * len(SEEDS)) ** 0.5
    assert wrong <= most


@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_what_is_chosen_is_not_worse_than_the_defaults_but_for_the_stated_error(
    noise: float,
) -> None:
    effects = {
        ("threads", 1): 0.6,
        ("threads", 4): 0.9,
        ("flash", "on"): 0.98,
        ("spec", "ngram-mod"): 0.97,
    }
    worse = 0
    for seed in SEEDS:
        machine = Machine(effects, seed, noise)
        done, _ = search(machine)
        worse += machine.truth(done.best) < 1.0
    assert worse <= ERROR * len(SEEDS)


@pytest.mark.parametrize(("noise", "share"), [(0.02, 0.99), (0.05, 0.97), (0.1, 0.6)])
def test_a_planted_gain_is_found(noise: float, share: float) -> None:
    planted = {("batch_size", 512): 1.15, ("threads", 4): 1.1, ("threads", 1): 0.6}
    found = 0
    for seed in SEEDS:
        machine = Machine(planted, seed, noise)
        done, _ = search(machine)
        found += machine.truth(done.best) >= 1.1
    assert found >= share * len(SEEDS)


def test_the_gain_that_is_told_is_the_true_one_about() -> None:
    """It comes from pairs that had no part in the choice: not from the luckiest ones."""
    told, true = [], []
    for seed in SEEDS:
        machine = Machine({("threads", 4): 1.2}, seed, 0.05)
        done, _ = search(machine)
        if done.best != DEFAULT:
            told.append(done.gain)
            true.append(machine.truth(done.best))
    assert len(told) > 300
    assert sum(told) / len(told) == pytest.approx(sum(true) / len(true), rel=0.02)


def test_what_loses_clearly_costs_one_pair() -> None:
    _, results = search(Machine({("threads", 1): 0.4}, 1, 0.02, 0.0))
    slow = [pair for pair in results if pair.challenger == (("threads", 1),)]
    assert len(slow) == 1


def test_a_search_has_an_end_and_a_cost() -> None:
    candidates = sum(len(d.settings) for d in SPACE)
    for seed in SEEDS:
        _, results = search(Machine({}, seed, 0.1))
        assert len(results) <= 7 * candidates + FINAL_PAIRS


def test_pairs_are_measured_in_turns_of_who_is_first() -> None:
    orders: dict[tuple[object, ...], list[bool]] = {}
    results: list[Pair] = []
    machine = Machine({("threads", 4): 1.3}, 3)
    while isinstance(step := next_step(SPACE, results), Try):
        key = (step.challenger, step.champion, step.is_final)
        orders.setdefault(key, []).append(step.challenger_first)
        results.append(machine.pair(step))
    assert all(turns == [n % 2 == 0 for n in range(len(turns))] for turns in orders.values())
    assert any(len(turns) > 3 for turns in orders.values())


def test_time_that_runs_short_is_kept_for_the_final() -> None:
    machine = Machine({("threads", 4): 1.3}, 1, 0.02)
    done, results = search(machine, pairs=22)
    assert done.best == THREADS
    assert len(results) <= 22


def test_without_time_for_a_final_nothing_is_chosen() -> None:
    done, _ = search(Machine({("threads", 4): 1.5}, 1, 0.02), pairs=6)
    assert (done.best, done.gain) == (DEFAULT, 1.0)
    assert "give it more" in done.reason


def test_what_is_excluded_is_not_tried() -> None:
    excluded = {THREADS}
    results: list[Pair] = []
    machine = Machine({("threads", 4): 2.0}, 1, 0.02)
    while isinstance(step := next_step(SPACE, results, excluded), Try):
        assert step.challenger not in excluded
        results.append(machine.pair(step))
    assert isinstance(step, Done)
    assert step.best == DEFAULT


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ([], None),
        ([0.9], None),
        ([0.6], 0.0),
        ([0.9, 0.95], 0.0),
        ([0.9, 1.1, 0.99], 0.0),
        ([1.1, 1.2, 1.3, 1.2], None),
        ([1.1, 1.2, 1.3, 1.2, 1.1], 1.2),
        ([0.9, 1.1, 1.2, 1.3, 1.1], None),
        ([0.9, 1.1, 1.2, 1.3, 1.1, 1.2, 1.2], 1.2),
    ],
)
def test_races(ratios: list[float], verdict: float | None) -> None:
    assert race_verdict(ratios) == verdict


def finals(*ratios: float) -> list[Pair]:
    won = [Pair(THREADS, DEFAULT, 1.3) for _ in range(5)]
    return won + [Pair(THREADS, DEFAULT, ratio, True) for ratio in ratios]


@pytest.mark.parametrize(
    ("ratios", "is_chosen"),
    [
        ([1.1] * 8, True),
        ([1.1] * 7 + [0.9], True),
        ([1.1, 0.9, 0.95], False),
        ([1.01] * 8, False),
    ],
)
def test_finals(ratios: list[float], is_chosen: bool) -> None:
    step = next_step(SPACE[:1], [Pair((("threads", 1),), DEFAULT, 0.5), *finals(*ratios)])
    assert isinstance(step, Done)
    assert (step.best == THREADS) is is_chosen
