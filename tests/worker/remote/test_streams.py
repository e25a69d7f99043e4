"""Streams of providers, in pieces of any size."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.errors import UpstreamFailed
from modelpool_client.surfaces import sse
from modelpool_worker.engines.http import Answers
from modelpool_worker.remote.errors import Provider
from modelpool_worker.remote.streams import Counted, Decoder, Translated, Watched

WHO = Provider("acme (api.acme.test:443)", "environment variable ACME_KEY", True, str)
TEXTS = ["a", "[DONE]", " b"]
CUTS = st.lists(st.integers(0, 200), max_size=5)


def told(decoder: Decoder, stream: bytes, cuts: list[int]) -> bytes:
    places = sorted({0, *(c for c in cuts if c < len(stream)), len(stream)})
    pieces = [stream[a:b] for a, b in itertools.pairwise(places)]
    return b"".join(map(decoder.feed, pieces)) + decoder.end()


def translated(*, is_ndjson: bool, **options: str) -> Translated:
    answers = Answers(WHO, {"answer": "t", **options}, "m", is_chat=True)
    return Translated(WHO, answers.events(), is_ndjson=is_ndjson)


@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n"])
@given(cuts=CUTS)
def test_the_last_line_needs_no_end(end: bytes, cuts: list[int]) -> None:
    lines = [json.dumps({"t": text}).encode() for text in TEXTS]
    for is_ndjson in (False, True):
        between, head = (b"\n", b"") if is_ndjson else (b"\n\n", b"data: ")
        stream = between.join(head + line for line in lines) + end
        events = sse.Events().feed(told(translated(is_ndjson=is_ndjson), stream, cuts))
        assert events.pop() == b"[DONE]"
        choices: list[Any] = [json.loads(event)["choices"][0] for event in events]
        assert [c["delta"]["content"] for c in choices if c["delta"]["content"]] == TEXTS
        assert [c["finish_reason"] for c in choices if c["finish_reason"]] == ["stop"]


def test_where_the_end_is_told_a_stream_without_it_is_none() -> None:
    lines = b'{"t":"a"}\n{"t":"b"'
    with pytest.raises(UpstreamFailed, match="no JSON in its stream"):
        told(translated(is_ndjson=True), lines, [])
    with pytest.raises(UpstreamFailed, match="ended its stream early"):
        told(translated(is_ndjson=True, stream_done="end"), b'{"t":"a"}\n', [])
    whole = told(translated(is_ndjson=True, stream_done="end"), b'{"t":"a","end":true}', [])
    assert whole.count(b'"stop"') == 1


@given(cuts=CUTS)
def test_a_text_that_speaks_of_the_end_is_not_the_end(cuts: list[int]) -> None:
    stream = b'data: {"choices":[{"delta":{"content":"[DONE]"}}]}\n\n'
    with pytest.raises(UpstreamFailed, match="ended its stream early"):
        told(Watched(WHO, "", (sse.DONE,)), stream, cuts)
    for end in (b"data: [DONE]", b"data: [DONE]\n\n"):
        assert told(Watched(WHO, "", (sse.DONE,)), stream + end, cuts).startswith(stream + end)


class Usage:
    """What a stream tells of its tokens, in which place."""

    ALONE = b'data: {"choices":[],"usage":{"completion_tokens":7}}\n\n'
    BESIDE = b'data: {"choices":[{"delta":{}}],"usage":{"completion_tokens":7}}\n\n'
    NONE = b""


SAYS = [
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}],"usage":null}\n\n',
    b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"\\"usage\\""}}]}\r\n\r\n',
]


@pytest.mark.parametrize(
    ("usage", "tokens", "estimates"),
    [(Usage.ALONE, 7, []), (Usage.BESIDE, 7, []), (Usage.NONE, 2, [2])],
)
@pytest.mark.parametrize("hides", [False, True])
@pytest.mark.parametrize("end", [b"data: [DONE]\n\n", b"data: [DONE]"])
@given(cuts=CUTS)
def test_tokens_of_a_stream_are_counted_and_told_to_whom_asks(
    usage: bytes, tokens: int, estimates: list[int], hides: bool, end: bytes, cuts: list[int]
) -> None:
    heard: list[int] = []
    watched = Watched(WHO, "", (sse.DONE,))
    counted = Counted(watched, hides_usage=hides, estimated=heard.append)
    passed = told(counted, b"".join([*SAYS, usage, end]), cuts)
    assert (b"completion_tokens" in counted.usage) == (not estimates)
    hidden = hides and usage == Usage.ALONE
    expected = b"".join([*SAYS, b"" if hidden else usage, end])
    assert passed.rstrip(b"\n") == expected.rstrip(b"\n")
    assert (counted.tokens, heard) == (tokens, estimates)
