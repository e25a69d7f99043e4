"""Tokens, as each API tells them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_worker.tokens import Tokens, count_tokens, estimated, of_usage, usage_after


@pytest.mark.parametrize(
    ("tail", "tokens"),
    [
        (b'{"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}', (3, 7, 0)),
        (
            b'"usage": {"completion_tokens": 3, "prompt_tokens": 7, '
            b'"prompt_tokens_details": {"cached_tokens": 5}}',
            (3, 7, 5),
        ),
        (b'{"prompt_n": 2, "predicted_n": 9, "cache_n": 6}', (9, 8, 6)),
        (
            b'{"input_tokens": 4, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 3,'
            b' "output_tokens": 1}',
            (1, 9, 3),
        ),
        (b'{"prompt_eval_count": 5, "eval_count": 8}', (8, 5, 0)),
        (b'{"usage": {"prompt_tokens": 6, "total_tokens": 6}}', (0, 6, 0)),
        (b"data: [DONE]", (0, 0, 0)),
    ],
)
def test_tokens_are_read(tail: bytes, tokens: tuple[int, int, int]) -> None:
    assert count_tokens(tail) == Tokens(*tokens)


def test_what_nobody_tells_is_estimated_and_says_so() -> None:
    assert estimated(Tokens(3, 7, 1), 1000, 50) == Tokens(3, 7, 1)
    assert estimated(Tokens(3), 1000, 50) == Tokens(3, 250, is_estimated=True)
    assert estimated(Tokens(), 41, 50) == Tokens(50, 11, is_estimated=True)


_COUNTS = st.none() | st.integers(0, 9)


_USAGES = st.fixed_dictionaries(
    {},
    optional={
        "completion_tokens": _COUNTS,
        "prompt_tokens": _COUNTS,
        "total_tokens": _COUNTS,
        "input_tokens": st.integers(0, 9),
        "output_tokens": st.integers(0, 9),
        "prompt_tokens_details": st.none()
        | st.fixed_dictionaries({}, optional={"cached_tokens": st.integers(0, 20)}),
    },
)


@given(_USAGES)
def test_usage_that_was_read_says_the_same(usage: dict[str, Any]) -> None:
    assert of_usage(usage) == count_tokens(json.dumps(usage).encode())


@pytest.mark.parametrize("usage", [None, {}, 7, "two", [1], True])
def test_what_is_no_usage_says_nothing(usage: object) -> None:
    assert of_usage(usage) == Tokens()


_COMPACT = (",", ":")


@given(
    _USAGES, st.sampled_from([{}, {"timings": {"prompt_n": 3, "predicted_n": 2}}]), st.booleans()
)
def test_usage_that_an_answer_tells_last_says_the_same(
    usage: dict[str, Any], more: dict[str, Any], is_compact: bool
) -> None:
    answer = {"choices": [{"text": 'it says "usage": {'}], "usage": usage, **more}
    said = json.dumps(answer, separators=_COMPACT if is_compact else None).encode()
    told = usage_after(b'"usage"', said)
    assert told in (None, count_tokens(said.rpartition(b'"usage"')[2]))
    if usage.get("completion_tokens") and usage.get("prompt_tokens"):
        assert told is not None


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b'{"choices": []}',
        b'{"usage": null, "choices": [{}]}',
        b'{"usage": {"prompt_tokens": 1, "completion_tokens": 2',
        b'{"usage": ' + b'{"a":' * 2000,
        b'{"usage": {"prompt_tokens": true, "completion_tokens": 1.5}}',
    ],
)
def test_no_usage_is_read_where_there_is_none(said: bytes) -> None:
    assert usage_after(b'"usage"', said) is None
