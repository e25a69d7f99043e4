"""Those who wait: order, leaving, answers."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.pool.waiters import PRIORITIES, Grant, Waiter, Waiters
from modelpool_client.errors import LoadCancelled
from support.virtual_time import run_virtual


def waiter(rank: int = 1, since: float = 0.0) -> Waiter:
    outcome: asyncio.Future[Grant | None] = asyncio.get_running_loop().create_future()
    return Waiter(outcome, True, rank, since)


def test_by_priority_then_by_arrival() -> None:
    async def scene() -> None:
        waiters = Waiters()
        low, first, second, high = waiter(2, 0), waiter(1, 1), waiter(1, 2), waiter(0, 3)
        for one in (low, second, first, high):
            waiters.add(one)
        assert waiters.take_all() == [high, first, second, low]
        assert len(waiters) == 0
        assert waiters.take_all() == []

    run_virtual(scene())


def test_those_who_left_do_not_count() -> None:
    async def scene() -> None:
        waiters = Waiters()
        gone, answered, there = waiter(), waiter(), waiter()
        for one in (gone, answered, there):
            waiters.add(one)
        gone.outcome.cancel()
        answered.outcome.set_result(None)
        assert gone.is_gone
        assert not there.is_gone
        assert list(waiters) == [there]
        assert len(waiters) == 1
        assert waiters.take_all() == [there]

    run_virtual(scene())


def test_all_are_told_of_a_failure_once() -> None:
    async def scene() -> None:
        waiters = Waiters()
        one, gone = waiter(), waiter()
        waiters.add(one)
        waiters.add(gone)
        gone.outcome.cancel()
        waiters.fail_all(LoadCancelled("because"))
        waiters.fail_all(LoadCancelled("again"))
        with pytest.raises(LoadCancelled, match="because"):
            await one.outcome
        assert len(waiters) == 0

    run_virtual(scene())


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 100), st.booleans())))
def test_nobody_is_lost_and_nobody_overtakes(those: list[tuple[int, float, bool]]) -> None:
    async def scene() -> None:
        waiters = Waiters()
        for rank, since, leaves in those:
            one = waiter(rank, since)
            waiters.add(one)
            if leaves:
                one.outcome.cancel()
        there = len(waiters)
        assert there == len(list(waiters)) == sum(not leaves for *_, leaves in those)
        taken = [(w.rank, w.since) for w in waiters.take_all()]
        assert taken == sorted((r, s) for r, s, leaves in those if not leaves)

    run_virtual(scene())


def test_a_grant_is_given_back_by_its_workers_id() -> None:
    given_back: list[str] = []
    grant = Grant("m", "w1", 8051, 3, True, given_back.append)
    grant.release()
    assert given_back == ["w1"]


def test_the_priorities_in_order() -> None:
    assert sorted(PRIORITIES, key=PRIORITIES.__getitem__) == ["high", "normal", "low"]
