"""Vectors that are told on as they were written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.surfaces import written
from modelpool_client.surfaces.ollama import EMBED, translate

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)
VECTORS = st.lists(st.lists(NUMBERS, min_size=1, max_size=4), max_size=3)


def _answer(vectors: list[Any], **more: Any) -> dict[str, Any]:
    data = [{"index": i, "embedding": vector} for i, vector in enumerate(vectors)]
    return {"object": "list", "data": data, **more}


@given(VECTORS, st.text())
def test_it_says_the_same(vectors: list[list[float]], text: str) -> None:
    answer = _answer(vectors, model=text)
    told, vectors_read = written.read(json.dumps(answer).encode())
    assert told == answer
    assert json.loads(vectors_read.encode(told)) == answer


def test_its_digits_are_its_engines() -> None:
    raw = b'{"data": [{"embedding": [1.0000,-2.50e0, 3 ], "index": 0}]}'
    told, as_written = written.read(raw)
    vectors = [each["embedding"] for each in told["data"]]
    assert as_written.encode({"embeddings": vectors}) == b'{"embeddings": [[1.0000,-2.50e0, 3 ]]}'


@pytest.mark.parametrize(
    "answer",
    [
        _answer([[1.0]], model="\0"),
        _answer([[[1.0], [2.0]]]),
        _answer(["AACAPw=="]),
        _answer([[1.0]], note='"embedding": [2]'),
        {"data": {"embedding": [1.0]}},
        [1.0],
    ],
)
def test_what_is_not_clear_is_written_anew(answer: Any) -> None:
    told, as_written = written.read(json.dumps(answer).encode())
    assert told == answer
    assert json.loads(as_written.encode({"said": told})) == {"said": answer}


def test_a_vector_that_is_changed_is_told_so() -> None:
    translation = translate(EMBED, {"input": "x", "dimensions": 1}, lambda: 0)
    told, as_written = written.read(b'{"data": [{"index": 0, "embedding": [2.0, 0.5]}]}')
    assert json.loads(as_written.encode(translation.whole(told)))["embeddings"] == [[1.0]]
