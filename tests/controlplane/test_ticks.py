"""What recurs does so at common moments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.ticks import until_tick


@pytest.mark.parametrize(
    ("now", "period", "wait"), [(0, 5, 5), (3, 5, 2), (5, 5, 5), (5.5, 0.25, 0.25), (12, 10, 8)]
)
def test_the_next_multiple(now: float, period: float, wait: float) -> None:
    assert until_tick(now, period) == wait


@given(st.floats(0, 1e9), st.floats(0.01, 1e5))
def test_it_always_waits_and_never_longer_than_a_period(now: float, period: float) -> None:
    assert 0 < until_tick(now, period) <= period * (1 + 1e-6) + now * 1e-12
