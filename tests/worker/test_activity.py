"""Counting and draining, on a clock of our own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_worker.activity import Activity


def test_idle_time_counts_from_the_end_of_the_last_request() -> None:
    a = Activity(last_end=10)
    assert a.idle_seconds(15) == 5
    assert a.begin(15)
    assert not a.begin(16)
    assert a.idle_seconds(100) == 0
    assert not a.end(20)
    assert a.end(30, tokens=7)
    assert a.idle_seconds(34) == 4
    assert (a.requests, a.tokens, a.errors) == (2, 7, 0)


def test_what_comes_straight_to_the_port_is_told_of_by_its_first_and_last() -> None:
    a = Activity()
    assert a.begin(1)
    assert a.begin(2, is_direct=True), "the manager does not know of it"
    assert not a.begin(3, is_direct=True)
    assert (a.in_flight, a.direct) == (3, 2)
    assert not a.end(4, is_direct=True)
    assert a.end(5, is_direct=True), "its place is free"
    assert a.end(6)
    assert (a.in_flight, a.direct) == (0, 0)


def test_progress_counts_from_the_last_sign_of_work_while_busy() -> None:
    a = Activity()
    assert a.progress_seconds(50) == 0
    a.begin(50)
    assert a.progress_seconds(53) == 3
    a.sign_of_work(53)
    assert a.progress_seconds(54) == 1
    a.end(55, failed=True)
    assert a.progress_seconds(99) == 0
    assert a.errors == 1


def test_clients_that_give_up_one_after_the_other_do_not_hide_a_silent_engine() -> None:
    a = Activity()
    for start in range(0, 100, 10):
        a.begin(start)
        a.asked()
        a.end(start + 8, failed=True)
    assert a.progress_seconds(99) == 99
    a.sign_of_work(99)
    assert a.progress_seconds(500) == 0
    a.begin(500)
    assert a.progress_seconds(501) == 1


def test_who_was_never_asked_owes_nothing() -> None:
    a = Activity()
    a.begin(10)
    a.end(11, failed=True)
    assert a.progress_seconds(500) == 0


@pytest.mark.parametrize(
    ("busy", "idle", "if_idle_for", "drains"),
    [
        (False, 0, None, True),
        (True, 0, None, True),
        (False, 0, 0.0, True),
        (True, 0, 0.0, False),
        (False, 9.9, 10.0, False),
        (False, 10.0, 10.0, True),
        (True, 99, 10.0, False),
    ],
)
def test_drain(busy: bool, idle: float, if_idle_for: float | None, drains: bool) -> None:
    a = Activity(last_end=100)
    if busy:
        a.begin(100)
    assert a.drain(100 + idle, if_idle_for) is drains
    assert a.is_draining is drains


def test_draining_has_no_way_back() -> None:
    a = Activity()
    assert a.drain(5)
    a.begin(6)
    assert a.drain(7, if_idle_for=100)
    assert a.draining_since == 5


@given(st.lists(st.tuples(st.sampled_from(["begin", "end", "drain"]), st.floats(0, 50))))
def test_a_conditional_drain_never_meets_work(steps: list[tuple[str, float]]) -> None:
    a, now = Activity(), 0.0
    for what, seconds in steps:
        now += seconds
        if what == "begin":
            a.begin(now)
        elif what == "end" and a.in_flight:
            a.end(now)
        elif what == "drain" and not a.is_draining:
            could = a.in_flight == 0 and now - a.last_end >= 20
            assert a.drain(now, if_idle_for=20) is could
        assert a.in_flight >= 0
        assert a.idle_seconds(now) >= 0
