"""Which texts go into one call."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from modelpool_worker.batching.lengths import CALL_TOKENS, groups_of


@given(st.lists(st.integers(0, 600), max_size=60))
def test_all_are_computed_and_little_is_padded(lengths: list[int]) -> None:
    groups = groups_of(lengths)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        longest = max(lengths[i] for i in group)
        assert sum(longest - lengths[i] for i in group) <= CALL_TOKENS
    # Two that follow each other would have more padding in one call.
    for one, other in itertools.pairwise(groups):
        joined = [*one, other[0]]
        longest = max(lengths[i] for i in joined)
        assert sum(longest - lengths[i] for i in joined) > CALL_TOKENS


def test_a_long_one_pads_nobody() -> None:
    assert groups_of([3, 500, 3, 4]) == [[1], [3, 0, 2]]
    assert groups_of([]) == []
