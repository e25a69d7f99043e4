"""What happened in the last minutes, and no longer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.alerts.windows import MOST_TIMES, SPAN_SECONDS, EventWindows, RequestWindows, Totals
from modelpool_client.wire import CLIENT_LEFT, EndedRequest

CHAT = "/v1/chat/completions"


def anybody(_: str) -> bool:
    return True


def request(at: float = 0.0, **facts: Any) -> EndedRequest:
    known = {"path": CHAT, "started_at": at - 1, "seconds": 1.0, "completion_tokens": 5}
    return EndedRequest(**{**known, **facts})


@pytest.mark.parametrize(
    ("facts", "counts"),
    [
        ({}, (1, 0, 0, 0, 0, 1, 0)),
        ({"status": 500}, (1, 1, 0, 0, 0, 0, 0)),
        ({"status": 429}, (1, 0, 0, 0, 0, 0, 0)),
        ({"status": 404}, (1, 0, 0, 0, 0, 0, 0)),
        ({"status": CLIENT_LEFT}, (1, 0, 1, 0, 0, 0, 0)),
        ({"first_seconds": 0.5}, (1, 0, 0, 1, 0, 1, 0)),
        ({"first_seconds": 0.5, "status": 502}, (1, 1, 0, 1, 1, 0, 0)),
        ({"completion_tokens": 0}, (1, 0, 0, 0, 0, 1, 1)),
        ({"completion_tokens": 0, "path": "/v1/embeddings"}, (1, 0, 0, 0, 0, 0, 0)),
    ],
)
def test_what_a_request_counts_as(facts: dict[str, Any], counts: tuple[int, ...]) -> None:
    totals = Totals()
    totals.count(request(**facts))
    assert counts == (
        *(totals.requests, totals.failed, totals.left, totals.streams),
        *(totals.broken, totals.answers, totals.empty),
    )


def test_failures_do_not_make_times_look_short() -> None:
    windows = RequestWindows(60)
    windows.count("m", request(1000, seconds=30.0, started_at=970.0))
    windows.count("m", request(1000, seconds=0.01, status=503))
    assert windows.times("m", 1000, 60).quantile(0.5) == pytest.approx(30, rel=0.05)


def test_of_very_many_requests_the_times_are_a_sample() -> None:
    windows = RequestWindows(60)
    for _ in range(5 * MOST_TIMES):
        windows.count("m", request(1000, first_seconds=0.5))
    totals = windows.totals("m", 1000, 60)
    assert (totals.requests, totals.streams) == (5 * MOST_TIMES, 5 * MOST_TIMES)
    assert windows.times("m", 1000, 60).count == MOST_TIMES
    assert windows.first_times("m", 1000, 60).count == MOST_TIMES


TIMES = st.lists(st.floats(0, 3000), max_size=40)


@given(TIMES, st.floats(0, 3000), st.sampled_from([15.0, 60.0, 300.0, 900.0]))
def test_a_window_has_what_ended_in_it(times: Sequence[float], now: float, seconds: float) -> None:
    windows, events = RequestWindows(1000), EventWindows(1000)
    for at in times:
        windows.count("m", request(at, started_at=at, seconds=0.0))
        events.count("m", at)
    span = SPAN_SECONDS
    first = (now - seconds) // span
    expected = sum(first <= at // span <= now // span for at in times)
    for _ in range(2):  # what is forgotten was not in it
        assert windows.totals("m", now, seconds).requests == expected
        assert windows.times("m", now, seconds).count == expected
        assert events.total("m", now, seconds) == expected
        windows.forget_old(now, anybody)
        events.forget_old(now, anybody)
    surely = sum(now - seconds <= at <= now for at in times)
    perhaps = sum(now - seconds - span <= at < now + span for at in times)
    assert surely <= expected <= perhaps


def test_nothing_is_kept_of_those_that_are_quiet() -> None:
    windows, events = RequestWindows(300), EventWindows(300)
    for i in range(1000):
        windows.count(f"m{i}", request(10.0))
        events.count(f"m{i}", 10.0)
    windows.forget_old(10_000, anybody)
    events.forget_old(10_000, anybody)
    assert windows.models() == []
    assert events.names() == []
    assert windows.totals("m1", 10_000, 300).requests == 0


def test_nothing_is_kept_of_those_that_are_gone() -> None:
    windows, events = RequestWindows(300), EventWindows(300)
    for name in ("here", "gone"):
        windows.count(name, request(10.0))
        events.count(name, 10.0)
    windows.forget_old(10.0, "here".__eq__)
    events.forget_old(10.0, "here".__eq__)
    assert windows.models() == events.names() == ["here"]
