"""Routes of other servers' APIs: what engines are told for them, and what their clients hear."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from modelpool_client.errors import EngineFailed, InvalidRequest, ModelPoolError, Unavailable
from modelpool_client.surfaces.families import FAMILIES, Asked, read
from modelpool_client.surfaces.routes import EMBEDDINGS_PATH, RERANK_PATH, SURFACES
from modelpool_client.surfaces.translation import Known

Body = dict[str, Any]
RANKS, EMBEDS = Known(serves=(RERANK_PATH,)), Known(serves=(EMBEDDINGS_PATH,))


def ask(path: str, body: Body, known: Known = EMBEDS) -> Asked:
    return read(SURFACES[path], body, known=known)


def told(path: str, body: Body, answer: Body, known: Known = EMBEDS) -> Any:
    translation = ask(path, body, known).translation
    assert translation is not None
    return translation.whole(answer)


def embedded(*vectors: list[float]) -> Body:
    data = [{"index": i, "embedding": v} for i, v in enumerate(vectors)]
    return {"data": data[::-1], "usage": {"prompt_tokens": 7, "total_tokens": 7}, "model": "m"}


def refusal(path: str, body: Body, known: Known = EMBEDS) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        ask(path, body, known)
    return caught.value


# -- TEI


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, [[0.6, 0.8], [1.0, 0.0]]),
        ({"normalize": False}, [[3.0, 4.0], [2.0, 0.0]]),
        ({"dimensions": 1}, [[1.0], [1.0]]),
        ({"dimensions": 1, "normalize": False}, [[1.0], [1.0]]),
    ],
)
def test_tei_gives_vectors_in_the_order_of_its_texts(more: Body, expected: Any) -> None:
    body = {"inputs": ["a", "b"], **more}
    assert told("/embed", body, embedded([3.0, 4.0], [2.0, 0.0])) == expected


def test_tei_takes_one_text() -> None:
    asked = ask("/embed", {"inputs": "a", "truncate": False, "model": "m"})
    assert asked.path == EMBEDDINGS_PATH
    assert asked.completion.body == {"input": ["a"], "encoding_format": "float"}
    assert asked.completion.ignored == ()


@pytest.mark.parametrize("body", [{}, {"inputs": []}, {"inputs": ""}, {"inputs": {}}])
def test_tei_refuses_what_is_no_text(body: Body) -> None:
    assert refusal("/embed", body).param == "inputs"


def test_an_engine_that_gives_too_few() -> None:
    with pytest.raises(EngineFailed, match="1 embeddings for 2"):
        told("/embed", {"inputs": ["a", "b"]}, embedded([1.0]))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("x"), "Validation"),
        (Unavailable("x", retry_after=1), "Overloaded"),
        (EngineFailed("x", source="engine"), "Backend"),
    ],
)
def test_tei_s_errors(error: ModelPoolError, kind: str) -> None:
    assert FAMILIES["tei"].dialect.error(error) == {"error": "x", "error_type": kind}


# -- Cohere


def test_cohere_gives_vectors_by_type() -> None:
    body = {"texts": ["a"], "input_type": "x", "embedding_types": ["float", "base64"]}
    answer = told("/v2/embed", body, embedded([1.0, 0.0]))
    assert answer["embeddings"] == {"float": [[1.0, 0.0]], "base64": ["AACAPwAAAAA="]}
    assert answer["texts"] == ["a"]
    assert answer["meta"]["billed_units"] == {"input_tokens": 7}
    assert ask("/v2/embed", body).completion.ignored == ("input_type",)


def test_cohere_takes_inputs_of_texts() -> None:
    parts = [{"type": "text", "text": text} for text in "ab"]
    asked = ask("/v2/embed", {"inputs": [{"content": parts}, {"content": parts[:1]}]})
    assert asked.completion.body["input"] == ["a\nb", "a"]


def test_cohere_shortens() -> None:
    answer = told("/v2/embed", {"texts": ["a"], "output_dimension": 2}, embedded([3.0, 4.0, 9.0]))
    assert answer["embeddings"] == {"float": [[0.6, 0.8]]}


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"images": ["data:"]}, "images"),
        ({"inputs": [{"content": []}]}, "inputs[0].content"),
        ({"inputs": [{"content": [{"type": "image_url"}]}]}, "inputs[0].content[0].text"),
        ({"inputs": [{"content": [{"type": "text", "text": "b"}]}]}, "inputs"),
        ({"texts": None}, "texts"),
        ({"texts": []}, "texts"),
        ({"embedding_types": ["int8"]}, "embedding_types[0]"),
    ],
)
def test_cohere_refuses(more: Body, param: str) -> None:
    error = refusal("/v2/embed", {"texts": ["a"], **more})
    assert error.param == param
    assert FAMILIES["cohere"].dialect.error(error) == {"message": error.message}


# -- Mistral


FIM: Body = {"prompt": "a", "suffix": "b", "random_seed": 3, "max_tokens": 4}
CHUNKS: list[Body] = [
    {"id": "i", "model": "m", "choices": [{"index": 0, "text": "x", "finish_reason": None}]},
    {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]},
    {"id": "i", "model": "m", "choices": [], "usage": {"completion_tokens": 1}},
]


def test_fim_is_a_text_with_a_suffix() -> None:
    asked = ask("/v1/fim/completions", FIM)
    wanted = {"prompt": "a", "suffix": "b", "seed": 3, "max_tokens": 4}
    assert (asked.path, asked.completion.body) == ("/v1/completions", wanted)
    assert "suffix" not in ask("/v1/fim/completions", {"prompt": "a", "suffix": ""}).completion.body


def test_fim_answers_as_a_chat_does() -> None:
    usage = {"prompt_tokens": 2}
    choice = {"index": 0, "text": "x", "finish_reason": "length"}
    answer = told("/v1/fim/completions", FIM, {"id": "i", "choices": [choice], "usage": usage})
    message = {"role": "assistant", "content": "x"}
    assert answer["choices"] == [{"index": 0, "message": message, "finish_reason": "length"}]
    assert (answer["object"], answer["usage"]) == ("chat.completion", usage)


def test_fim_tells_usage_with_the_end_of_a_stream() -> None:
    translation = ask("/v1/fim/completions", {**FIM, "stream": True}).translation
    assert translation is not None
    said = b"".join(map(translation.chunk, CHUNKS)) + translation.end()
    *events, done = said.decode().strip().split("\n\n")
    assert done == "data: [DONE]"
    first, last = (json.loads(event.removeprefix("data: ")) for event in events)
    assert first["choices"][0]["delta"]["content"] == "x"
    assert {first["id"], last["id"]} == {"i"}
    assert first["model"] == "m"
    assert "usage" not in first
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["usage"] == {"completion_tokens": 1}


# -- vLLM


def test_scores_of_a_model_that_ranks() -> None:
    body = {"text_1": "q", "text_2": ["a", "b"]}
    asked = ask("/score", body, RANKS)
    wanted = {"query": "q", "documents": ["a", "b"], "top_n": 2}
    assert (asked.path, asked.completion.body) == (RERANK_PATH, wanted)
    results = [{"index": 1, "relevance_score": 2.0}, {"index": 0, "relevance_score": 1.0}]
    answer = told("/score", body, {"results": results}, RANKS)
    assert [(item["index"], item["score"]) for item in answer["data"]] == [(0, 1.0), (1, 2.0)]


@pytest.mark.parametrize(
    ("body", "vectors", "scores"),
    [
        ({"text_1": "q", "text_2": "a"}, [[1.0, 0.0], [1.0, 1.0]], [math.sqrt(0.5)]),
        ({"queries": "q", "documents": ["a", "b"]}, [[2.0], [3.0], [-1.0]], [1.0, -1.0]),
        (
            {"data_1": ["q", "r"], "data_2": ["a", "b"]},
            [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]],
            [1.0, 0.0],
        ),
        ({"text_1": "q", "text_2": "a"}, [[0.0], [1.0]], [0.0]),
    ],
)
def test_scores_of_a_model_that_embeds(
    body: Body, vectors: list[list[float]], scores: list[float]
) -> None:
    answer = told("/score", body, embedded(*vectors))
    assert [item["score"] for item in answer["data"]] == pytest.approx(scores)
    assert answer["usage"]["prompt_tokens"] == 7


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "text_1"),
        ({"text_1": "a"}, "text_2"),
        ({"text_1": "a", "documents": "b"}, "text_2"),
        ({"text_1": ["a", "b"], "text_2": ["c"]}, "text_1"),
        ({"text_1": "a", "text_2": []}, "text_2"),
        ({"queries": ["a", "b"], "documents": ["c", "d"]}, "queries"),
    ],
)
def test_scores_that_cannot_be(body: Body, param: str) -> None:
    error = refusal("/score", body, RANKS)
    assert error.param == param
    assert error.message.startswith(param)
