"""Those who wait: order, leaving, answers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from modelpool.pool.commands import Reject
from modelpool.pool.decide.steps import fail_waiters
from modelpool.pool.decide.table import NoOutcome
from modelpool.pool.replica import Replica
from modelpool.pool.waiters import PRIORITIES, Grant, Waiter, Waiters
from modelpool_client.errors import LoadCancelled
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
    given_back: list[bool] = []
    grant = Grant("m", "w1", 8051, 3, True, given_back.append)
    grant.release()
    assert given_back == [True]
    grant.release(is_used=False)
    assert given_back == [True, False]


def test_the_priorities_in_order() -> None:
    assert sorted(PRIORITIES, key=PRIORITIES.__getitem__) == ["high", "normal", "low"]
