"""Streams as they pass: what is an answer, what keeps a client waiting, and what is an error."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.gateway.attempt import Attempt
from modelpool.gateway.stream_watch import NoAnswer, Opening, StreamWatch, error_in, is_error
from modelpool_client.errors import (
    EngineFailed,
    InvalidRequest,
    ModelPoolError,
    RateLimited,
    from_response,
)
from modelpool_client.http1.exchange import Source
from modelpool_client.http1.message import Headers, Request
from modelpool_client.surfaces import sse
from modelpool_client.surfaces.anthropic.stream import PING
from modelpool_client.surfaces.dialect import OPENAI

EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x", b"y")]
LINES = [(b"content-type", b"application/x-ndjson")]
ERROR = EngineFailed("it broke", source="engine")
FAILED = sse.event(ERROR.body())
HELLO = b'data: {"choices":[{"delta":{"content":"an \\"error\\" is no error"}}]}\n\n'


class Flow:
    """Where it comes from."""

    is_paused = False

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False


class Answer:
    """Where it goes."""

    source: Source | None = None
    is_full = False

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self.comments = self.body = b""

    def begin(self, status: int, headers: Headers, length: int | None = None) -> None:
        self.status, self.headers = status, headers

    def write(self, data: bytes) -> None:
        self.body += data

    def pass_comments(self, headers: Headers, data: bytes) -> None:
        assert not self.body
        self.comments += data


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(ends)]


def passed(data: bytes, cuts: list[int], headers: Headers) -> tuple[Answer, StreamWatch]:
    answer = Answer()
    watch = StreamWatch(answer, headers, holds=True)
    for piece in pieces_of(data, cuts):
        watch.write(piece)
    watch.end()
    return answer, watch


COMMENTS = st.lists(st.sampled_from([b": wait\n\n", b":\n\n", PING, b": a\n: b\n\n"]), max_size=4)
CUTS = st.lists(st.integers(0, 500), max_size=8)


@given(COMMENTS, st.lists(st.just(HELLO), max_size=3), CUTS)
def test_all_of_a_stream_is_passed_on_however_it_is_cut(
    comments: list[bytes], parts: list[bytes], cuts: list[int]
) -> None:
    answer, watch = passed(b"".join(comments + parts), cuts, EVENTS)
    assert answer.comments == b"".join(comments)
    assert answer.body == b"".join(parts)
    assert (answer.status, answer.headers, watch.error) == (200, EVENTS, None)
    assert watch.has_content


@given(COMMENTS, CUTS)
def test_an_error_before_anything_else_is_no_answer(comments: list[bytes], cuts: list[int]) -> None:
    answer = Answer()
    watch = StreamWatch(answer, EVENTS, holds=True)
    *pieces, last = pieces_of(b"".join(comments) + FAILED, cuts)
    for piece in pieces:
        watch.write(piece)
    with pytest.raises(NoAnswer) as refused:
        watch.write(last)
    assert (answer.status, answer.body) == (0, b"")
    assert not watch.has_content
    error = refused.value.error
    assert (error.status, error.code, error.source) == (502, ERROR.code, "engine")
    assert error.message == "it broke"


@given(COMMENTS, CUTS)
def test_an_error_later_is_passed_on_and_heard(comments: list[bytes], cuts: list[int]) -> None:
    answer, watch = passed(b"".join(comments) + HELLO + FAILED, cuts, EVENTS)
    assert answer.body == HELLO + FAILED
    assert watch.error is not None


def test_what_nobody_else_is_asked_for_is_passed_on_as_it_comes() -> None:
    answer = Answer()
    watch = StreamWatch(answer, EVENTS, holds=False)
    assert answer.status == 200
    watch.write(FAILED[:30])
    watch.write(FAILED[30:])
    assert answer.body == FAILED
    assert watch.error is not None


@pytest.mark.parametrize(
    "line",
    [
        b'{"message":{"role":"assistant","content":""},"done":false}',
        b'{"response":"","done":false}',
    ],
)
def test_lines_that_say_nothing_are_comments(line: bytes) -> None:
    opening = Opening(is_lines=True)
    assert opening.feed(line + b"\n" + line) == (line + b"\n", False)
    assert opening.feed(b'\n{"response":"a","done":false}\n') == (line + b"\n", True)
    with pytest.raises(NoAnswer, match="no room"):
        passed(line + b'\n{"error":"no room"}\n', [], LINES)


@given(st.integers(1, 90))
def test_within_a_line_there_is_no_error_wherever_it_is_cut(cut: int) -> None:
    arguments = b'{"error":"x","a":1,"b":"and much more of it"}'
    line = b'{"message":{"tool_calls":[{"function":{"arguments":%b}}]}}\n' % arguments
    answer = Answer()
    watch = StreamWatch(answer, LINES, holds=False)
    watch.write(line[:cut])
    for byte in line[cut:]:
        watch.write(bytes([byte]))
    assert (answer.body, watch.error) == (line, None)


def test_a_response_that_failed_has_told_an_error() -> None:
    answer = Answer()
    watch = StreamWatch(answer, EVENTS, holds=False)
    watch.write(b"event: response.failed\n")
    watch.write(b'data: {"type":"response.failed","response":{"status":"failed"}}\n\n')
    assert watch.error is not None


def test_what_is_too_long_to_be_held_is_passed_on() -> None:
    long = b"data: " + b"x" * 70_000
    assert passed(long, [10], EVENTS)[0].body == long


@pytest.mark.parametrize(
    ("part", "kind", "status"),
    [
        (sse.event(InvalidRequest("no").body()), InvalidRequest, 400),
        (
            b'event: error\ndata: {"type":"error","error":{"type":"rate_limit_error"}}\n\n',
            None,
            429,
        ),
        (sse.event(RateLimited("slowly").body()), RateLimited, 429),
        (b'data: {"error":{"code":500,"type":"server_error","message":"m"}}\n\n', None, 500),
        (b'error: {"code":400,"message":"too long"}\n\n', None, 400),
        (b'{"error":"told to fail"}\n', None, 502),
        (b"event: error\ndata: what?\n\n", None, 502),
        (
            b'event: response.failed\ndata: {"response":{"error":{"type":"rate_limit_error"}}}\n\n',
            None,
            429,
        ),
    ],
)
def test_errors_of_all_apis(part: bytes, kind: type[ModelPoolError] | None, status: int) -> None:
    assert is_error(part)
    error = error_in(part)
    assert error.status == status
    assert kind is None or isinstance(error, kind)


@pytest.mark.parametrize("code", ["x\r\nset-cookie: a=b", True, ["a"], 12.5, {}, "ünsound", None])
def test_whatever_an_error_says_it_can_be_told_in_headers(code: Any) -> None:
    details = {"allow": "GET\r\nx: y", "limit": 4}
    for status, told in ((405, details), (429, "none"), (415, {"accept_encoding": "\n"})):
        words = {"message": "m", "code": code, "param": [1], "details": told}
        error = from_response(status, {"error": words})
        assert error.code == type(error).default_code
        assert all(value.isprintable() for value in error.headers().values())
        assert error.param is None
        assert error.details.get("limit") == (4 if told is details else None)
    event = sse.event({"error": {"message": "m", "code": code, "details": "none"}})
    with pytest.raises(NoAnswer) as refused:
        passed(event, [], EVENTS)
    assert all(value.isprintable() for value in refused.value.error.headers().values())


@pytest.mark.parametrize(
    "part",
    [
        b'data: {"error":null,"id":"x"}\n\n',
        b'data: {"choices":[{"delta":{"content":"{\\"error\\": {}}"}}]}\n\n',
        b"data: [DONE]\n\n",
        b'{"response":"error","done":false}\n',
    ],
)
def test_what_only_speaks_of_errors_is_none(part: bytes) -> None:
    assert not is_error(part)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize("comments", [b"", b": wait\n\n"])
def test_what_was_held_back_goes_no_faster_than_its_client_takes_it(
    depth: int, is_full: bool, comments: bytes
) -> None:
    answer, flow = Answer(), Flow()
    outlet: Any = answer
    for _ in range(depth):
        outlet = Attempt(Request("POST", b"/", b"", []), outlet, OPENAI, [])
    watch = StreamWatch(outlet, EVENTS, holds=True)
    watch.source = flow  # before the first of it comes, as whoever pipes it does
    watch.write(comments)
    assert answer.source is None
    answer.is_full = is_full
    watch.write(HELLO)
    assert answer.source is flow
    assert flow.is_paused is is_full
    watch.source = None
    assert answer.source is None
