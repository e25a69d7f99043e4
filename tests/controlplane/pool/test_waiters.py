"""Those who wait: order, leaving, answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.pool.commands import Reject
from modelpool.pool.decide.steps import fail_waiters
from modelpool.pool.decide.table import NoOutcome
from modelpool.pool.replica import Replica
from modelpool.pool.waiters import PRIORITIES, UNUSED, USED, Grant, Use, Waiter, Waiters, turn
from modelpool_client.errors import LoadCancelled
from modelpool_client.http1.endpoint import LocalEndpoint
from support.sim import model


def waiter(rank: int = 1, since: float = 0.0) -> Waiter:
    return Waiter(NoOutcome(), True, rank, since)


def test_by_priority_then_by_arrival() -> None:
    waiters = Waiters()
    low, first, second, high = waiter(2, 0), waiter(1, 1), waiter(1, 2), waiter(0, 3)
    for one in (low, second, first, high):
        waiters.add(one)
    assert waiters.take_all() == [high, first, second, low]
    assert len(waiters) == 0
    assert waiters.take_all() == []


def test_those_who_left_do_not_count() -> None:
    waiters = Waiters()
    gone, there = waiter(), waiter()
    for one in (gone, there):
        waiters.add(one)
    assert waiters.discard(gone)
    assert not waiters.discard(gone), "it left before"
    assert list(waiters) == [there]
    assert len(waiters) == 1
    assert waiters.take_all() == [there]
    assert not waiters.discard(there), "it was answered"


def test_all_are_told_of_a_failure_once() -> None:
    replica = Replica(model("m"))
    one, gone = waiter(), waiter()
    replica.waiters.add(one)
    replica.waiters.add(gone)
    replica.waiters.discard(gone)
    error = LoadCancelled("because")
    assert fail_waiters(replica, error) == [Reject(one.outcome, error)]
    assert fail_waiters(replica, LoadCancelled("again")) == []
    assert len(replica.waiters) == 0


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 100), st.booleans())))
def test_nobody_is_lost_and_nobody_overtakes(those: list[tuple[int, float, bool]]) -> None:
    waiters = Waiters()
    stay: list[Waiter] = []
    for rank, since, leaves in those:
        one = waiter(rank, since)
        waiters.add(one)
        if leaves:
            assert waiters.discard(one)
        else:
            stay.append(one)
    there = len(waiters)
    assert there == len(list(waiters)) == sum(not leaves for *_, leaves in those)
    taken = waiters.take_all()
    assert [(w.rank, w.since) for w in taken] == sorted((r, s) for r, s, gone in those if not gone)
    assert sorted(map(id, taken)) == sorted(map(id, stay))
    assert len(waiters) == 0


def test_a_grant_is_given_back_to_who_gave_it() -> None:
    given_back: list[Use] = []
    grant = Grant("m", "w1", LocalEndpoint("127.0.0.1", 8051, ""), 3, True, given_back.append)
    grant.release()
    assert given_back == [USED]
    grant.release(UNUSED)
    assert given_back == [USED, UNUSED]


def test_the_priorities_in_order() -> None:
    assert sorted(PRIORITIES, key=PRIORITIES.__getitem__) == ["high", "normal", "low"]


# -- turns ----------------------------------------------------------------------------------------

AGEING = 30.0
arrivals = st.lists(st.tuples(st.integers(0, 2), st.floats(0, 200)), max_size=40)


def in_turn(waiters: Waiters) -> list[Waiter]:
    taken = []
    while (one := waiters.take_next(AGEING)) is not None:
        taken.append(one)
    return taken


@pytest.mark.parametrize(
    ("those", "expected"),
    [
        ([(1, 5.0), (1, 4.0)], [(1, 4.0), (1, 5.0)]),
        ([(1, 0.0), (0, 29.0)], [(0, 29.0), (1, 0.0)]),
        ([(1, 0.0), (0, 31.0)], [(1, 0.0), (0, 31.0)]),
        ([(2, 0.0), (0, 59.0), (1, 29.0)], [(0, 59.0), (1, 29.0), (2, 0.0)]),
        ([(2, 0.0), (0, 61.0), (1, 31.0)], [(2, 0.0), (0, 61.0), (1, 31.0)]),
        ([(2, 0.0), (0, 60.0)], [(0, 60.0), (2, 0.0)]),  # the higher class of two alike
    ],
)
def test_a_class_is_worth_its_age(
    those: list[tuple[int, float]], expected: list[tuple[int, float]]
) -> None:
    waiters = Waiters()
    for rank, since in those:
        waiters.add(waiter(rank, since))
    assert [(w.rank, w.since) for w in in_turn(waiters)] == expected


@given(arrivals)
def test_the_order_is_that_of_the_turns_and_first_come_first_served_within_a_class(
    those: list[tuple[int, float]],
) -> None:
    waiters = Waiters()
    added = [waiter(rank, since) for rank, since in those]
    for one in added:
        waiters.add(one)
    taken = in_turn(waiters)
    turns = [turn(w.rank, w.since, AGEING) for w in taken]
    assert turns == sorted(turns)
    assert {id(w) for w in taken} == {id(w) for w in added}
    for rank in range(3):
        of_class = [w for w in added if w.rank == rank]
        assert [w for w in taken if w.rank == rank] == sorted(of_class, key=lambda w: w.since)


@given(arrivals, st.integers(0, 2), st.floats(0, 200))
def test_nobody_is_overtaken_by_who_comes_two_classes_of_age_later(
    those: list[tuple[int, float]], rank: int, since: float
) -> None:
    """So in bounded time it is the turn of whoever waits: only so many can have come until then."""
    waiters = Waiters()
    for each in those:
        waiters.add(waiter(*each))
    one = waiter(rank, since)
    waiters.add(one)
    taken = in_turn(waiters)
    before = taken[: taken.index(one)]
    assert all(w.since <= since + rank * AGEING for w in before)


@given(arrivals, st.integers(0, 50))
def test_some_are_taken_in_turn_and_loads_whatever_their_number(
    those: list[tuple[int, float]], most: int
) -> None:
    waiters, load = Waiters(), Waiter(NoOutcome(), False, 0, 0.0)
    for each in those:
        waiters.add(waiter(*each))
    waiters.add(load)
    assert sum(waiters.by_class.values()) == len(those) == len(waiters) - 1
    oldest = waiters.oldest
    assert oldest is not None
    assert oldest.since == min([0.0, *(since for _, since in those)])
    taken = waiters.take(most, AGEING)
    assert taken[0] is load
    assert len(taken) - 1 == min(most, len(those))
    turns = [turn(w.rank, w.since, AGEING) for w in [*taken[1:], *in_turn(waiters)]]
    assert turns == sorted(turns)
