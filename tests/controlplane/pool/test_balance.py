"""Which copy takes a request, by each strategy."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.catalog.entry_schema import BALANCES
from modelpool.catalog.model import Model
from modelpool.gateway.relay import PREFIX_BYTES, prefix_of
from modelpool.pool.balance import LOAD_FACTOR, STRATEGIES, Copy, choose

COPIES = st.lists(
    st.builds(
        Copy,
        st.just(""),
        st.integers(0, 20),
        st.none() | st.floats(0.001, 10),
        st.integers(1, 8),
    ),
    min_size=1,
    max_size=6,
).map(
    lambda found: [
        Copy(f"m#{i}", c.in_flight, c.first_token_seconds, c.target) for i, c in enumerate(found)
    ]
)


def test_an_entry_may_name_every_strategy_and_no_other() -> None:
    assert set(BALANCES) == set(STRATEGIES)
    assert Model("m", "fake", "none").balance == "least_busy"


@given(COPIES, st.sampled_from(sorted(STRATEGIES)), st.text(max_size=5), st.text(max_size=3))
def test_one_of_them_always_and_the_same_for_the_same(
    copies: list[Copy], balance: str, affinity: str, last: str
) -> None:
    chosen = choose(copies, affinity, balance, last)
    assert chosen in copies
    assert choose(copies, affinity, balance, last) == chosen


def test_round_robin_goes_round() -> None:
    copies, last, taken = [Copy(f"m#{i}", i) for i in range(3)], "", []
    for _ in range(6):
        last = choose(copies, "", "round_robin", last).key
        taken.append(last)
    assert taken == ["m#0", "m#1", "m#2"] * 2
    assert choose(copies[:2], "", "round_robin", "m#2").key == "m#0"  # it has left


def test_performance_weighs_pace_by_load() -> None:
    quick, slow, new = Copy("q", 3, 0.1), Copy("s", 0, 1.0), Copy("n", 9)
    assert choose([quick, slow], balance="performance") is quick
    assert choose([Copy("q", 20, 0.1), slow], balance="performance") is slow
    assert choose([new, Copy("q", 10, 0.1)], balance="performance") is new


def test_cost_fills_one_copy_after_the_other() -> None:
    def pick(*in_flight: int) -> str:
        copies = [Copy(str(i), n, target=4) for i, n in enumerate(in_flight)]
        return choose(copies, balance="cost").key

    assert [pick(0, 0), pick(3, 0), pick(4, 0), pick(4, 1), pick(5, 4)] == ["0", "0", "1", "1", "1"]


@given(st.integers(2, 6), st.lists(st.integers(0, 30), min_size=1, max_size=200))
def test_prefix_is_bounded_and_moves_only_what_was_on_the_copy_that_left(
    count: int, prompts: list[int]
) -> None:
    load: Counter[str] = Counter()
    keys = [f"m#{i}" for i in range(count)]
    for prompt in prompts:  # none ends: the load only grows
        copies = [Copy(key, load[key]) for key in keys]
        most = math.ceil(LOAD_FACTOR * (load.total() + 1) / count)
        load[choose(copies, f"p{prompt}", "prefix").key] += 1
        assert max(load.values()) <= most
    idle = [Copy(key, 0) for key in keys]
    for prompt in set(prompts):
        home = choose(idle, f"p{prompt}", "prefix")
        others = [copy for copy in idle if copy.key != "m#0"]
        if home.key != "m#0":
            assert choose(others, f"p{prompt}", "prefix") == home


def test_locality_stays_however_busy() -> None:
    copies = [Copy(f"m#{i}", 0) for i in range(3)]
    home = choose(copies, "ann", "locality")
    busy = [Copy(c.key, 50 if c == home else 0) for c in copies]
    assert choose(busy, "ann", "locality").key == home.key
    assert choose(busy, "ann").key != home.key


@pytest.mark.parametrize("key", ["messages", "prompt", "input"])
def test_prompts_that_begin_alike_have_the_same_prefix(key: str) -> None:
    system = {"role": "system", "content": "x" * PREFIX_BYTES}

    def said(end: str) -> dict[str, object]:
        parts = [system, {"role": "user", "content": end}]
        return {key: parts if key == "messages" else f"{system}{end}"}

    assert prefix_of(said("a")) == prefix_of(said("b"))
    assert prefix_of({key: "a"}) != prefix_of({key: "b"})
    assert prefix_of({"system": "s", key: "a"}) != prefix_of({key: "a"})
    assert prefix_of({}) == ""
