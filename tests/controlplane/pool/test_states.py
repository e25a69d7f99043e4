"""The table of states, leases and back-off: every branch, and what must hold for any input."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.pool.states import (
    TRANSITIONS,
    IllegalTransition,
    Lease,
    State,
    Trigger,
    backoff,
    recent,
    transition,
)

# The drawing of the lifecycle. A change of the table is a change of this list, and of the docs.
DRAWN = [
    "COLD -start-> WARMING",
    "COLD -adopted while loading-> WARMING",
    "COLD -adopted-> HOT",
    "COLD -adopted while draining-> UNLOADING",
    "COLD -adopted asleep-> ASLEEP",
    "WARMING -room lost-> COLD",
    "WARMING -sleeps on-> ASLEEP",
    "WARMING -ready-> HOT",
    "WARMING -load failed-> FAILED",
    "WARMING -stop-> UNLOADING",
    "HOT -lease over-> COOLING",
    "HOT -stop-> UNLOADING",
    "HOT -died-> FAILED",
    "COOLING -used-> HOT",
    "COOLING -stop-> UNLOADING",
    "COOLING -died-> FAILED",
    "UNLOADING -stopped-> COLD",
    "UNLOADING -fell asleep-> ASLEEP",
    "ASLEEP -start-> WARMING",
    "ASLEEP -stop-> UNLOADING",
    "ASLEEP -died-> COLD",
    "FAILED -start-> WARMING",
    "FAILED -clear-> COLD",
]

times = st.floats(0, 1e7)
spans = st.floats(0, 1e6)
leases = st.builds(Lease, st.one_of(st.none(), spans), st.one_of(st.none(), times))


def test_the_table_is_the_drawn_one() -> None:
    table = [f"{state} -{trigger.value}-> {to}" for (state, trigger), to in TRANSITIONS.items()]
    assert table == DRAWN


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("trigger", Trigger)
def test_a_move_is_in_the_table_or_a_bug(state: State, trigger: Trigger) -> None:
    if (state, trigger) in TRANSITIONS:
        assert transition(state, trigger) is TRANSITIONS[state, trigger]
    else:
        with pytest.raises(IllegalTransition, match=f"'{trigger.value}'.*{state}"):
            transition(state, trigger)


@pytest.mark.parametrize("start", State)
def test_every_state_is_reached_from_every_other(start: State) -> None:
    reached, todo = {start}, [start]
    while todo:
        state = todo.pop()
        new = {to for (origin, _), to in TRANSITIONS.items() if origin is state} - reached
        reached |= new
        todo += new
    assert reached == set(State)


def test_every_trigger_moves_something() -> None:
    assert {trigger for _, trigger in TRANSITIONS} == set(Trigger)


def test_nothing_moves_to_where_it_is() -> None:
    assert all(state is not to for (state, _), to in TRANSITIONS.items())


@pytest.mark.parametrize("state", State)
def test_what_a_state_means(state: State) -> None:
    assert state.is_serving == (state.value in ("HOT", "COOLING"))
    assert state.has_worker == (state.value not in ("COLD", "FAILED"))


# -- leases ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lease", "now", "left"),
    [
        (Lease(None), 5, None),
        (Lease(None, 100), 5, None),
        (Lease(10), 5, 0),  # not running yet
        (Lease(10, 12), 5, 7),
        (Lease(10, 12), 12, 0),
        (Lease(10, 12), 50, 0),
    ],
)
def test_what_is_left(lease: Lease, now: float, left: float | None) -> None:
    assert lease.remaining(now) == left


@pytest.mark.parametrize(
    ("lease", "seconds", "longest", "added", "until"),
    [
        (Lease(None, None), 60, 100, 0, None),  # it never ends: it has it already
        (Lease(10, 30), 60, 100, 60, 90),
        (Lease(10, 30), 90, 100, 80, 110),  # capped
        (Lease(10, 200), 60, 100, 0, 200),  # beyond the maximum already: not shortened
        (Lease(10, 5), 60, 100, 60, 70),  # over: counted from now
        (Lease(10), 60, 100, 60, 70),
    ],
)
def test_extension(
    lease: Lease, seconds: float, longest: float, added: float, until: float | None
) -> None:
    assert lease.extended(seconds, 10, longest) == (Lease(lease.ttl, until, until), added)


@pytest.mark.parametrize(
    ("lease", "ttl", "until"),
    [
        (Lease(10, 30), 5, 25),
        (Lease(10, 30), 50, 70),
        (Lease(10, 30), None, None),
        (Lease(None), 5, 25),
        (Lease(10, 90, 90), 5, 90),  # extended: that holds
        (Lease(10, 90, 90), 100, 120),
        (Lease(10, 90, 90), None, None),
        (Lease(None, None, 90), 5, 90),  # also by way of a lease without end
    ],
)
def test_another_ttl(lease: Lease, ttl: float | None, until: float | None) -> None:
    assert lease.with_ttl(ttl, 20) == Lease(ttl, until, lease.promised)


def test_what_a_former_manager_granted_beyond_the_ttl_is_a_promise() -> None:
    own = Lease(10).used(20)
    assert own.at_least(10.5, 20).promised is None, "it is the TTL, as the worker counted it"
    assert own.at_least(60, 20) == Lease(10, 80, 80)
    assert own.at_least(60, 20).with_ttl(5, 20).until == 80


@given(leases, times)
def test_use_never_shortens(lease: Lease, at: float) -> None:
    used = lease.used(at)
    assert used.ttl == lease.ttl
    if lease.ttl is None:
        assert used == lease
    else:
        assert used.until is not None
        assert used.until >= (lease.until or 0)
        assert used.until >= at + lease.ttl


@given(leases, times, times)
def test_the_order_of_uses_does_not_matter(lease: Lease, one: float, other: float) -> None:
    assert lease.used(one).used(other) == lease.used(other).used(one)


@given(leases, spans, times, spans)
def test_extension_says_exactly_what_it_adds(
    lease: Lease, seconds: float, now: float, longest: float
) -> None:
    longer, added = lease.extended(seconds, now, longest)
    before, after = lease.remaining(now), longer.remaining(now)
    assert 0 <= added <= seconds + 1e-6
    if before is None or after is None:
        assert (longer, added) == (lease, 0)
        return
    assert after == pytest.approx(before + added, abs=1e-6)
    assert after >= before - 1e-6
    assert after <= max(longest, before) + 1e-6


# -- back-off --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "pause"), [(-1, 0), (0, 0), (1, 2), (2, 4), (3, 8), (6, 60), (10_000, 60)]
)
def test_backoff_doubles_up_to_its_limit(failures: int, pause: float) -> None:
    assert backoff(failures, 2, 60) == pause


@given(st.integers(0, 200), st.floats(0, 1e4), st.floats(0, 1e6))
def test_backoff_never_falls_and_is_bounded(failures: int, first: float, longest: float) -> None:
    pause, next_pause = backoff(failures, first, longest), backoff(failures + 1, first, longest)
    assert 0 <= pause <= next_pause <= longest


def test_recent_keeps_what_lies_in_the_window() -> None:
    assert recent([1, 5, 9, 10], now=15, window=10) == (9, 10)
    assert recent([5], now=15, window=10) == ()


@given(st.lists(times), times, spans)
def test_recent_keeps_order_and_adds_nothing(when: list[float], now: float, window: float) -> None:
    kept = recent(when, now, window)
    assert list(kept) == [t for t in when if t in kept]
    assert all(now - t < window for t in kept)
