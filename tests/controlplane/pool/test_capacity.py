"""What fits: the same as a plan would say, for thousands of models from one look."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from modelpool.pool.admission import Budget, Refuse, Requirements, Resident, Start, plan
from modelpool.pool.capacity import Capacity

SIZES = st.integers(0, 20)
DEVICES = st.dictionaries(st.sampled_from(["cuda:0", "cuda:1"]), SIZES)


@st.composite
def residents(draw: st.DrawFn) -> Resident:
    held = draw(SIZES)
    return Resident(
        str(draw(st.integers(0, 10**6))),
        held,
        (draw(SIZES),),
        protected=draw(st.sampled_from(["", "busy"])),
        pinned=draw(st.booleans()),
        leaving=draw(st.booleans()),
        pending_bytes=draw(st.integers(0, held)),
        devices=draw(DEVICES),
    )


BUDGETS = st.builds(Budget, st.integers(1, 5), st.integers(0, 60), st.integers(0, 60), DEVICES)


@given(
    st.builds(Requirements, st.just("m"), SIZES, DEVICES),
    st.lists(residents(), max_size=6, unique_by=lambda r: r.model_id),
    BUDGETS,
)
def test_the_verdict_is_that_of_a_plan(
    need: Requirements, held: list[Resident], budget: Budget
) -> None:
    decision = plan(need, held, budget)
    if isinstance(decision, Start):
        expected = "after evictions" if decision.evict else "now"
    else:
        is_final = isinstance(decision, Refuse) and not decision.is_passing
        expected = "never" if is_final else "later"
    assert Capacity.of(held, budget).verdict(need) == expected


def test_a_space_says_what_is_left() -> None:
    held = [Resident("a", 5, (0,), pending_bytes=2, devices={"cuda:0": 3})]
    now = Capacity.of(held, Budget(4, 30, 20, {"cuda:0": 10, "cuda:1": 4})).now
    assert (now.models, now.bytes, now.host_available) == (3, 25, 18)
    assert now.devices == {"cuda:0": 7, "cuda:1": 4}
    assert now.host == 18
