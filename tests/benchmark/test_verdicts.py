"""Targets and verdicts: met, not met, or too noisy, with the reason and what would help."""

from __future__ import annotations

import pytest
from bench import names as n
from bench.figures import Conditions, Row, Versus
from bench.targets import TARGETS, Target, targets_of
from bench.verdicts import Outcome, estimate_of, judge
from hypothesis import given
from hypothesis import strategies as st

QUIET = Conditions(busy=0.02, steal=0.0)
AT_LEAST = Target("s", "f", "ours", ">=", 0.6, "nginx")
AT_MOST = Target("s", "f", "ours", "<=", 2.0, "nginx")
ADDED = Target("s", "f", "ours", "<=", 0.15, "upstream", "added")
OWN = Target("s", "f", "ours", "<=", 64)


def row(samples: list[float], rival: list[float], conditions: Conditions | None = QUIET) -> Row:
    versus = (Versus("nginx", tuple(rival)), Versus("upstream", tuple(rival), "added"))
    return Row("s", "f", "ours", "ms", tuple(samples), versus, True, conditions)


STEADY = [100.0, 101.0, 99.0, 100.0]


@pytest.mark.parametrize(
    ("samples", "rival", "target", "outcome"),
    [
        ([70, 71, 69, 70], STEADY, AT_LEAST, Outcome.MET),
        ([50, 51, 49, 50], STEADY, AT_LEAST, Outcome.NOT_MET),
        ([50, 70, 52, 72], STEADY, AT_LEAST, Outcome.TOO_NOISY),
        ([150, 151, 149, 150], STEADY, AT_MOST, Outcome.MET),
        ([250, 251, 249, 250], STEADY, AT_MOST, Outcome.NOT_MET),
        ([1.10, 1.11, 1.09], [1.0, 1.01, 0.99], ADDED, Outcome.MET),
        ([1.30, 1.31, 1.29], [1.0, 1.01, 0.99], ADDED, Outcome.NOT_MET),
        ([40, 41, 39], [1, 1, 1], OWN, Outcome.MET),
        ([80, 81, 79], [1, 1, 1], OWN, Outcome.NOT_MET),
    ],
)
def test_the_whole_interval_must_be_on_one_side(
    samples: list[float], rival: list[float], target: Target, outcome: Outcome
) -> None:
    assert judge(row(samples, rival), target).outcome is outcome


@pytest.mark.parametrize(
    ("samples", "rival", "conditions", "why", "cure"),
    [
        (STEADY, STEADY, Conditions(busy=0.5), "50% of all cores were busy", "stop what else runs"),
        (STEADY, STEADY, Conditions(steal=0.1), "the host gave 10%", "not shared"),
        ([100.0], [100.0], QUIET, "one round", "--rounds 3"),
        ([100.0, 100.0], [100.0, 100.0], QUIET, "2 rounds", "--rounds 3"),
        ([70, 140, 60, 130], [100, 200, 90, 180], QUIET, "nginx itself varied", "quiet machine"),
        ([58, 64, 60, 61], STEADY, QUIET, "holds 0.6", "--"),
    ],
)
def test_a_noisy_run_says_why_and_what_to_do(
    samples: list[float], rival: list[float], conditions: Conditions, why: str, cure: str
) -> None:
    verdict = judge(row(samples, rival, conditions), AT_LEAST)
    assert verdict.outcome is Outcome.TOO_NOISY
    assert why in verdict.why
    assert cure in verdict.cure
    assert verdict.text == f"too noisy to conclude: {verdict.why}; {verdict.cure}"


def test_bytes_are_the_same_on_a_busy_machine() -> None:
    assert judge(row([40, 41, 39], [1, 1, 1], None), OWN).outcome is Outcome.MET


def test_the_rounds_that_would_do_are_told() -> None:
    # Half the width is twice the distance to the limit: four times the rounds, and one to be sure.
    verdict = judge(row([59.0, 62.0, 65.0, 62.0], [100.0] * 4), AT_LEAST)
    assert verdict.cure == "measure with --rounds 17"


def test_what_is_at_the_limit_takes_no_number_of_rounds() -> None:
    verdict = judge(row([58.0, 62.0, 60.0, 60.1], [100.0] * 4), AT_LEAST)
    assert "more rounds alone will not tell" in verdict.cure


@given(
    st.lists(st.floats(1, 1000), min_size=3, max_size=9),
    st.floats(0.01, 100),
    st.sampled_from((AT_LEAST, AT_MOST)),
)
def test_a_verdict_is_what_the_interval_says(
    rival: list[float], factor: float, target: Target
) -> None:
    it = row([r * factor for r in rival], rival)
    verdict, estimate = judge(it, target), estimate_of(it, target)
    if verdict.outcome is Outcome.TOO_NOISY:
        assert verdict.why
        assert verdict.cure
        return
    assert not estimate.low < target.limit < estimate.high
    is_met = estimate.value >= target.limit
    assert (verdict.outcome is Outcome.MET) == (is_met if target.bound == ">=" else not is_met)


class TestTargets:
    def test_no_two_say_the_same(self) -> None:
        assert len({(t.key, t.rival, t.kind) for t in TARGETS}) == len(TARGETS)

    def test_without_the_rival_there_is_none(self) -> None:
        plain = Row(n.RELAY, n.REQUESTS, n.GATEWAY, "/s", (1.0,))
        assert targets_of(plain) == []

    def test_a_swap_has_two_rivals(self) -> None:
        versus = (Versus(n.NATIVE_BARE, (1.0,)), Versus(n.ROUTER, (1.0,)))
        found = targets_of(Row(n.COLD, n.SWAP, n.NATIVE_GATEWAY, "s", (1.0,), versus))
        assert {target.rival for target in found} == {n.NATIVE_BARE, n.ROUTER}

    @pytest.mark.parametrize(
        ("target", "text"),
        [(AT_LEAST, ">= 0.6x nginx"), (ADDED, "<= 0.15 ms added"), (OWN, "<= 64 ms")],
    )
    def test_they_are_told_in_short(self, target: Target, text: str) -> None:
        assert target.text("ms") == text
