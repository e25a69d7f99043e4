"""W3C Trace Context: what its headers say and are told on as, and which requests are traced."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.tracing.context import (
    TraceContext,
    WorkerTrace,
    is_sampled,
    read_parent,
    read_state,
    read_worker_trace,
)
from modelpool_client.tracing.sampling import Sampler, new_span_id, new_trace_id, worker_trace

T, S = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"00-{T}-{S}-01", TraceContext(T, S, True)),
        (f" 00-{T}-{S}-00 ", TraceContext(T, S, False)),
        (f"00-{T}-{S}-03", TraceContext(T, S, True)),
        (f"00-{T}-{S}-fe", TraceContext(T, S, False)),
        # A later version may say more, at the end.
        (f"01-{T}-{S}-01-more", TraceContext(T, S, True)),
        (f"00-{T}-{S}-01-more", None),
        (f"ff-{T}-{S}-01", None),
        (f"00-{T.upper()}-{S}-01", None),
        (f"00-{'0' * 32}-{S}-01", None),
        (f"00-{T}-{'0' * 16}-01", None),
        (f"00-{T}-{S}-1", None),
        (f"00-{T[1:]}-{S}-01", None),
        (f"{T}-{S}", None),
        ("", None),
    ],
)
def test_what_a_traceparent_says(value: str, expected: TraceContext | None) -> None:
    assert read_parent(value.encode()) == expected
    assert is_sampled(value.encode()) is bool(expected and expected.is_sampled)


def test_none_is_none() -> None:
    assert read_parent(None) is None
    assert not is_sampled(None)


@given(st.binary(max_size=80))
def test_anything_may_be_sent_as_one(value: bytes) -> None:
    read_parent(value)
    assert len(read_state(value)) <= len(value)


@given(st.booleans())
def test_what_is_told_on_is_understood(sampled: bool) -> None:
    context = TraceContext(new_trace_id(), new_span_id(), sampled)
    assert read_parent(context.header()) == context


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b" a=1,b=2 ", "a=1,b=2"), (None, ""), (b"a\x00", ""), (b"a=\xe4", ""), (b"a" * 513, "")],
)
def test_a_tracestate_is_passed_on_if_it_can_be(value: bytes | None, expected: str) -> None:
    assert read_state(value) == expected


@pytest.mark.parametrize("parent", [None, TraceContext(T, S)])
def test_a_worker_s_spans_come_back_out_of_their_text(parent: TraceContext | None) -> None:
    trace = worker_trace(parent)
    assert read_worker_trace(trace.text()) == trace
    unasked = trace._replace(engine_id="")
    assert read_worker_trace(unasked.text()) == unasked
    assert trace.parent_id == (S if parent else "")
    assert (trace.trace_id == T) is (parent is not None)
    assert trace.engine.trace_id == trace.trace_id


@pytest.mark.parametrize("text", ["", "a-b-c-d", WorkerTrace(T, S, S, "x" * 16).text(), f"{T}-{S}"])
def test_what_is_no_text_of_theirs(text: str) -> None:
    assert read_worker_trace(text) is None


class Connection:
    """Something that can be told from others."""


@given(st.floats(0, 1), st.booleans())
def test_a_client_s_word_goes_before_any_share(ratio: float, sampled: bool) -> None:
    assert Sampler(ratio).decides(Connection(), TraceContext(T, S, sampled)) is sampled


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_the_share_is_what_it_is_whichever_way_a_request_goes(ratio: float) -> None:
    sampler, connection, count = Sampler(ratio), Connection(), 4000
    direct = sum(sampler.decides(connection, None) for _ in range(count))
    # Where a shortcut declines what is traced the general way must not ask another time.
    short = 0
    for _ in range(count):
        if sampler.takes_next(connection):
            assert sampler.decides(connection, None)
            short += 1
    for found in (direct, short):
        assert abs(found / count - ratio) < 0.05
    if ratio in (0, 1):
        assert direct == short == ratio * count


def test_another_s_choice_is_not_taken_for_ones_own() -> None:
    sampler, mine, other = Sampler(1), Connection(), Connection()
    assert sampler.takes_next(mine)
    sampler.ratio = 0
    assert not sampler.decides(other, None)
    assert sampler.decides(mine, None)
    assert not sampler.decides(mine, None)


@pytest.mark.parametrize(
    ("per_second", "gap", "expected"),
    [(0, 0.0, 100), (10, 0.0, 10), (10, 0.1, 100), (10, 0.05, 59), (0.5, 1.0, 50)],
)
def test_no_more_than_so_many_a_second(per_second: float, gap: float, expected: int) -> None:
    now = [0.0]
    sampler, connection = Sampler(1, per_second, lambda: now[0]), Connection()
    taken = 0
    for _ in range(100):
        taken += sampler.decides(connection, None)
        now[0] += gap
    assert abs(taken - expected) <= 1
    # A client's own word is not counted.
    assert sampler.decides(connection, TraceContext(T, S, True))
