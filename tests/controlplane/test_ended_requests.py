"""What workers tell of requests that are over: whichever beats are lost, and however often the
manager dies, each counts once."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modelpool.catalog.database import Database
from modelpool.catalog.prices import cost_of, currency_of
from modelpool.catalog.usage_rows import UsageHour, UsageTotal
from modelpool.observe.requests import RequestLog, Wanted, each
from modelpool.observe.usage_hours import UsageHours
from modelpool_client.http1.message import Request
from modelpool_client.wire import (
    CaptureOrder,
    Ended,
    EndedRequest,
    Facts,
    FactsReply,
    Phase,
    decode,
    encode,
)
from modelpool_worker.calls import CallInfo
from modelpool_worker.capture import Capture, Recording
from modelpool_worker.ended import KEPT, EndedRequests, Ending
from modelpool_worker.tokens import Tokens

HOUR = 500_000
DAY = HOUR // 24


def request(**more: Any) -> EndedRequest:
    known = {"model": "m", "served": "m", "path": "/v1/chat/completions", "prompt_tokens": 2}
    return EndedRequest(**{**known, "completion_tokens": 1, "started_at": HOUR * 3600.0, **more})


def ending(path: str = "/v1/chat/completions", request_id: str = "", **more: Any) -> Ending:
    """The same, as a worker knows it."""
    known = {"served": "m", "ended_at": HOUR * 3600.0, "tokens": Tokens(1, 2)}
    times = {"waited_seconds": 0.0, "first_seconds": None, "seconds": 0.0}
    return Ending(CallInfo(path, "m", request_id.encode()), **{**known, **times, **more})


class Store:
    """The table of hours, in memory. ``is_broken``: it refuses."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, str, str], UsageHour] = {}
        self.is_broken = False

    async def put_usage_hours(self, rows: Sequence[UsageHour], hour: int, keep_days: int) -> None:
        if self.is_broken:
            raise OSError("the disk is full")
        self.rows |= {(row.hour, row.model_id, row.source): row for row in rows}

    async def usage_hours_since(self, hour: int) -> list[UsageHour]:
        return [row for row in self.rows.values() if row.hour >= hour]


class Counters:
    def __init__(self) -> None:
        self.requests = 0

    def used(self, new: UsageHour) -> None:
        self.requests += new.requests


class Manager:
    def __init__(self, store: Store, name: str, clock: list[float]) -> None:
        self.running = {"w", "w0", "w1"}
        self.log = RequestLog(lambda: 10_000, lambda: True, lambda: self.running)
        self.counters = Counters()
        self.usage = UsageHours(
            name,
            lambda model_id: {"input": 1},
            self.counters,
            lambda: clock[0],
            lambda: 400,
            lambda: self.running,
        )
        asyncio.run(self.usage.open(store))

    def hear(self, worker_id: str, ended: Ended) -> FactsReply:
        facts = Facts(worker_id, "p", 1, 1, Phase.READY, 1, 1, ended=ended)
        told = decode(Facts, encode(facts)).ended
        assert told is not None
        return FactsReply(
            True,
            "p",
            ended_after=self.log.take(worker_id, told, str),
            usage_saved=self.usage.take(worker_id, told.usage, str),
            request_log=True,
        )


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["ask"]), st.integers(0, 1), st.integers(0, 3)),
        st.tuples(
            st.sampled_from(["beat", "lost post", "lost answer"]), st.integers(0, 1), st.just(0)
        ),
        st.tuples(
            st.sampled_from(["save", "failed save", "restart", "hour"]), st.just(0), st.just(0)
        ),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_each_counts_once(steps: list[tuple[str, int, int]]) -> None:
    clock, store = [HOUR * 3600.0], Store()
    workers = [EndedRequests(Capture(lambda: 0.0)), EndedRequests(Capture(lambda: 0.0))]
    manager = Manager(store, "0", clock)
    asked = 0

    def beat(which: int) -> None:
        workers[which].heard(manager.hear(f"w{which}", workers[which].report()), clock[0])

    for n, (what, which, times) in enumerate(steps):
        if what == "ask":
            for _ in range(times):
                asked += 1
                workers[which].add(ending(request_id=str(asked), ended_at=clock[0]))
        elif what == "beat":
            beat(which)
        elif what == "lost answer":
            manager.hear(f"w{which}", workers[which].report())
        elif what == "lost post":
            workers[which].report()
        elif what == "restart":
            manager = Manager(store, str(n), clock)
        elif what == "hour":
            clock[0] += 3600
        else:
            store.is_broken = what == "failed save"
            asyncio.run(manager.usage.save(store))
            store.is_broken = False
    for which in (0, 1, 0, 1):  # a new manager wants all again
        beat(which)
    asyncio.run(manager.usage.save(store))
    rows = store.rows.values()
    assert sum(row.requests for row in rows) == asked
    assert sum(row.prompt_tokens for row in rows) == 2 * asked
    assert sum(row.cost for row in rows) == pytest.approx(2 * asked / 1e6)
    found, more = manager.log.find(Wanted(), 10_000)
    assert sorted(int(each.request.request_id) for each in found) == list(range(1, asked + 1))
    assert more is None
    assert manager.log.missing == 0
    assert manager.counters.requests <= asked
    beat(0)
    assert not workers[0].report().requests
    assert not workers[0].report().usage


def test_what_is_dropped_before_it_is_told_is_missing_but_counted() -> None:
    clock, store = [HOUR * 3600.0], Store()
    manager, worker = Manager(store, "m", clock), EndedRequests(Capture(lambda: 0.0))
    urgent = [worker.add(ending()) for _ in range(KEPT + 7)]
    assert urgent.index(True) == KEPT // 2 - 1
    worker.heard(manager.hear("w", worker.report()), clock[0])
    assert manager.log.missing == 7
    asyncio.run(manager.usage.save(store))
    assert sum(row.requests for row in store.rows.values()) == KEPT + 7
    assert not worker.add(ending())


def test_of_workers_that_are_gone_nothing_is_remembered() -> None:
    clock, store = [HOUR * 3600.0], Store()
    manager = Manager(store, "m", clock)
    for n in range(100):
        name, worker = f"w{n}", EndedRequests(Capture(lambda: 0.0))
        manager.running = {name}
        worker.add(ending(served=f"m{n}"))
        for _ in range(2):
            worker.heard(manager.hear(name, worker.report()), clock[0])
            asyncio.run(manager.usage.save(store))
            assert repr(manager.usage) == "<UsageHours 1 rows, 0 to write, 1 workers>"
    assert repr(manager.log) == "<RequestLog 100 requests, 1 workers>"
    manager.running = set()
    asyncio.run(manager.usage.save(store))
    assert repr(manager.usage) == "<UsageHours 0 rows, 0 to write, 0 workers>"
    assert len(store.rows) == manager.counters.requests == 100


def test_what_a_worker_that_is_gone_has_told_stays_until_it_is_written_down() -> None:
    clock, store = [HOUR * 3600.0], Store()
    manager, worker = Manager(store, "m", clock), EndedRequests(Capture(lambda: 0.0))
    worker.add(ending())
    manager.hear("w", worker.report())
    manager.running = set()
    store.is_broken = True
    asyncio.run(manager.usage.save(store))
    assert repr(manager.usage).startswith("<UsageHours 1 rows, 1 to write")
    store.is_broken = False
    asyncio.run(manager.usage.save(store))
    assert repr(manager.usage) == "<UsageHours 0 rows, 0 to write, 0 workers>"
    assert [row.requests for row in store.rows.values()] == [1]


def test_what_an_adopted_worker_had_told_is_not_counted_again() -> None:
    clock, store = [HOUR * 3600.0], Store()
    former, worker = Manager(store, "1", clock), EndedRequests(Capture(lambda: 0.0))
    worker.add(ending())
    told = worker.report()
    for worker_id in ("w", "gone"):
        former.hear(worker_id, told)
    asyncio.run(former.usage.save(store))
    manager = Manager(store, "2", clock)
    manager.running = {"w"}
    asyncio.run(manager.usage.save(store))
    assert repr(manager.usage) == "<UsageHours 1 rows, 0 to write, 0 workers>"
    manager.hear("w", told)
    assert manager.counters.requests == 0


def test_refusals_are_remembered_until_their_hour_is_over() -> None:
    clock, store = [HOUR * 3600.0], Store()
    manager = Manager(store, "m", clock)
    for _ in range(3):
        manager.usage.refused("m", 1.0, is_error=True)
        asyncio.run(manager.usage.save(store))
    assert [row.requests for row in store.rows.values()] == [3]
    clock[0] += 3600
    manager.usage.refused("n", 1.0, is_error=True)
    asyncio.run(manager.usage.save(store))
    assert repr(manager.usage) == "<UsageHours 1 rows, 0 to write, 0 workers>"


def test_a_log_that_is_off_is_told_to_workers_and_emptied() -> None:
    is_kept = [True]
    log, worker = (
        RequestLog(lambda: 9, lambda: is_kept[0], set),
        EndedRequests(Capture(lambda: 0.0)),
    )
    worker.add(ending())
    log.take("w", worker.report(), str)
    is_kept[0] = False
    after = log.take("w", worker.report(), str)
    worker.heard(FactsReply(True, "p", ended_after=after, request_log=False), 0.0)
    worker.add(ending())
    assert worker.report().requests == ()
    assert log.find(Wanted(), 9) == ([], None)
    assert worker.report().usage[0].requests == 2


@pytest.mark.parametrize("is_kept", [True, False])
def test_listeners_hear_of_each_request_once_kept_or_not(is_kept: bool) -> None:
    log, worker = RequestLog(lambda: 9, lambda: is_kept, set), EndedRequests(Capture(lambda: 0.0))
    log.is_needed = True
    together: list[tuple[str, int]] = []
    single: list[tuple[str, str, str]] = []
    log.listeners += [
        lambda worker_id, told: together.append((worker_id, len(told))),
        each(lambda worker_id, model_id, r: single.append((worker_id, model_id, r.path))),
    ]
    worker.add(ending(path="/1"))
    worker.add(ending(path="/2"))
    for _ in range(2):  # the answer to the first was lost
        after = log.take("w", worker.report(), lambda name: "m")
    worker.heard(FactsReply(True, "p", ended_after=after), 0.0)
    log.take("w", worker.report(), lambda name: "m")
    log.refused("n", request(path="/3"))
    assert together == [("w", 2), ("", 1)]
    assert single == [("w", "m", "/1"), ("w", "m", "/2"), ("", "n", "/3")]
    assert len(log.find(Wanted(), 9)[0]) == (3 if is_kept else 0)


def test_listeners_hear_of_refusals_only_where_they_hear_of_all() -> None:
    log, heard = RequestLog(lambda: 9, lambda: False, set), []
    log.listeners.append(lambda worker_id, told: heard.append(told))
    log.refused("m", request(path="/1"))
    assert heard == []
    log.is_needed = True
    log.refused("m", request(path="/1"))
    assert len(heard) == 1


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (Wanted(), [4, 3, 2, 1]),
        (Wanted(model="m"), [2, 1]),
        (Wanted(model="alias"), [2]),
        (Wanted(model="virtual"), [4]),
        (Wanted(status="404"), [3]),
        (Wanted(status="4XX"), [4, 3]),
        (Wanted(errors=True), [3]),
        (Wanted(surface="/v1/completions"), [1]),
        (Wanted(since=HOUR * 3600.0 + 2), [4, 3]),
    ],
)
def test_the_log_is_searched(wanted: Wanted, numbers: list[int]) -> None:
    log = RequestLog(lambda: 4, lambda: True, set)
    at = HOUR * 3600.0
    for n, (model_id, more) in enumerate(
        [
            ("m", {"model": "gone"}),  # makes room
            ("m", {"path": "/v1/completions"}),
            ("m", {"model": "alias"}),
            ("", {"model": "nobody", "status": 404}),
            ("n", {"model": "n", "status": 499, "via": "virtual@3"}),
        ]
    ):
        log.refused(model_id, request(started_at=at + n - 1, **more))
    found, _ = log.find(wanted, 10)
    assert [each.number - 1 for each in found] == numbers


def test_pages_follow_each_other() -> None:
    log = RequestLog(lambda: 100, lambda: True, set)
    for n in range(25):
        log.refused("m", request(started_at=float(n % 7)))
    seen, before = [], None
    while True:
        page, before = log.find(Wanted(), 10, before)
        seen += page
        if before is None:
            break
    assert sorted(each.number for each in seen) == list(range(1, 26))
    assert [each.ended_at for each in seen] == sorted((e.ended_at for e in seen), reverse=True)
    assert log.find(Wanted(), 10, 999) == ([], None)


@pytest.mark.parametrize(
    ("prices", "cost"),
    [
        ({}, 0.0),
        ({"input": 2}, 20.0),
        ({"input": 2, "output": 3}, 20 + 15),
        ({"input": 2, "output": 3, "cached_input": 1}, 16 + 15),
        ({"input": 2, "cached_input": 0}, 12.0),
        ({"request": 0.5}, 1.0),
        ({"input": "dear", "output": -1, "request": True}, 0.0),
    ],
)
def test_cost(prices: dict[str, Any], cost: float) -> None:
    of = {"prompt": 10_000_000, "cached": 4_000_000, "completion": 5_000_000}
    assert cost_of(prices, requests=2, **of) == cost


def test_currency() -> None:
    assert currency_of({"currency": "EUR"}) == "EUR"
    assert currency_of({"currency": 3}) == currency_of({}) == "USD"


def hour(at: int, model_id: str, source: str, count: int, **more: Any) -> UsageHour:
    return UsageHour(at, model_id, source, count, prompt_tokens=10 * count, cost=0.5, **more)


def shown(rows: list[UsageTotal]) -> list[tuple[Any, ...]]:
    return [(row.model_id, row.day, row.requests, row.cost) for row in rows]


def test_rows_become_days_and_go(tmp_path: Path) -> None:
    db = Database(tmp_path / "pool.db")
    db.open()
    try:
        first = DAY * 24
        rows = [hour(first, "m", "w", 1), hour(first + 1, "m", "v", 2), hour(first, "n", "w", 4)]
        db.put_usage_hours(rows, first + 1, 400)
        db.put_usage_hours([hour(first, "m", "w", 3)], first + 1, 400)  # in the place of the first
        by_day = [("m", DAY, 5, 1.0), ("n", DAY, 4, 0.5)]
        assert shown(db.usage_totals(["model", "day"], None, None, None)) == by_day
        assert shown(db.usage_totals([], None, None, "m")) == [(None, None, 5, 1.0)]
        assert shown(db.usage_totals(["model"], first + 1, None, None)) == [("m", None, 2, 0.5)]
        assert db.usage_totals([], first + 2, None, None) == []
        assert db.usage_totals([], None, first, None) == []

        later = first + 24 * 9
        db.put_usage_hours([], later, 400)
        assert db.usage_hours_since(0) == [], "they are a part of the day"
        assert shown(db.usage_totals(["model", "day"], None, None, None)) == by_day
        db.put_usage_hours([hour(first, "m", "w", 3)], later, 400)  # too late
        db.put_usage_hours([hour(later, "m", "u", 1, currency="EUR")], later, 400)
        assert shown(db.usage_totals(["model"], None, None, "m")) == [
            ("m", None, 1, 0.5),
            ("m", None, 5, 1.0),
        ]
        db.put_usage_hours([], later + 24, 9)
        assert shown(db.usage_totals(["model", "day"], None, None, None)) == [
            ("m", DAY + 9, 1, 0.5)
        ]
        db.put_usage_hours([], later + 48, 1)
        assert db.usage_totals(["model"], None, None, None) == []
    finally:
        db.close()


def test_what_was_said_is_let_go_of_when_it_was_told_or_is_not_wanted() -> None:
    capture = Capture(lambda: 0.0)
    ended = EndedRequests(capture)
    capture.obey(CaptureOrder(60, 1000))
    held = []
    for n in range(2):
        recording = Recording(Request("POST", b"/", b"", []), 1000)
        held.append(weakref.ref(recording))
        each = ending()
        ended.add(each._replace(asked=each.asked._replace(recording=recording)))
        del recording, each
        assert held[n]() is not None
        if n == 0:
            capture.told(1)
            assert held[0]() is None, "the manager has it"
    capture.obey(CaptureOrder(0, 0))
    assert held[1]() is None, "it is off"
    assert len(ended.report().requests) == 2, "that they were is told all the same"
