"""``poolctl top``: what happens in a second, told from two looks."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.cli.keys import pressed_keys
from modelpool_client.cli.top import Reading, rates
from modelpool_client.types import ModelView, PoolHealth


def reading(at: float, **models: tuple[int, int, int]) -> Reading:
    """Of each model its generation, requests and tokens."""
    views = [
        ModelView(model_id=name, generation=generation, requests_total=r, tokens_total=t)
        for name, (generation, r, t) in models.items()
    ]
    return Reading(at, PoolHealth(), views)


def test_what_was_counted_between_two_looks_is_told_for_a_second() -> None:
    before = reading(10.0, same=(1, 5, 100), again=(1, 9, 900), gone=(1, 1, 1))
    now = reading(12.0, same=(1, 9, 300), again=(2, 1, 10), new=(1, 4, 4))
    assert rates(before, now) == {"same": (2.0, 100.0)}
    assert rates(None, now) == {}
    assert rates(now, now) == {}


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.floats(0.1, 3600), st.integers(0, 3))
def test_no_rate_is_below_nothing(before: int, now: int, span: float, generation: int) -> None:
    earlier = reading(0.0, m=(generation, before, before))
    found = rates(earlier, reading(span, m=(generation, now, now)))
    assert all(value >= 0 for pair in found.values() for value in pair)


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_terminal_that_goes_away_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, its = os.openpty()
    with os.fdopen(its) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        with pressed_keys() as key:
            os.write(ours, b"q")
            assert key(60) == "q"
            os.close(ours)
            with pytest.raises(KeyboardInterrupt):
                key(60)
