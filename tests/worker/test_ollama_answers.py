"""What Ollama's clients are told of an engine's answer, whole and streamed."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.errors import EngineFailed
from modelpool_client.surfaces.ollama import CHAT, EMBED, EMBEDDINGS, GENERATE, translate
from modelpool_client.surfaces.translation import Translation

USER = {"role": "user", "content": "hi"}
STEP = 1_000_000  # nanoseconds that pass from one look at the clock to the next
USAGE = {"prompt_tokens": 7, "completion_tokens": 3}
TIMINGS = {"prompt_n": 2, "cache_n": 5, "prompt_ms": 1.5, "predicted_n": 3, "predicted_ms": 0.5}


def asked(path: str = CHAT, **body: Any) -> Translation:
    asks = {CHAT: {"messages": [USER]}, EMBED: {"input": ["a"]}}.get(path, {"prompt": "hi"})
    ticks = itertools.count(0, STEP)
    return translate(path, {"model": "m", **asks, **body}, lambda: next(ticks))


def answer(finish: str = "stop", **message: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return {"model": "file.gguf", "choices": [choice], "usage": USAGE}


def delta(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def lines(translation: Translation, *chunks: dict[str, Any]) -> list[dict[str, Any]]:
    raw = [translation.begin(), *map(translation.chunk, chunks), translation.end()]
    assert all(part == b"" or part.endswith(b"\n") for part in raw)
    return [json.loads(text) for text in b"".join(raw).splitlines()]


def tool_call(name: str, arguments: str, index: int | None = None) -> dict[str, Any]:
    own = {} if index is None else {"index": index}
    return {**own, "id": f"id-{name}", "function": {"name": name, "arguments": arguments}}


def test_a_whole_chat() -> None:
    body = asked().whole(answer(content="ho", reasoning_content="hm"))
    durations = {name: body.pop(name) for name in [*body] if name.endswith("_duration")}
    assert body == {
        "model": "m",
        "created_at": "1970-01-01T00:00:00.001000Z",
        "message": {"role": "assistant", "content": "ho", "thinking": "hm"},
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 7,
        "eval_count": 3,
    }
    assert durations == {
        "total_duration": 2 * STEP,
        "load_duration": 0,
        "prompt_eval_duration": 0,
        "eval_duration": 2 * STEP,
    }


def test_a_whole_generate() -> None:
    body = asked(GENERATE).whole(answer("length", content=None, reasoning="hm"))
    assert (body["response"], body["thinking"], body["done_reason"]) == ("", "hm", "length")
    assert "message" not in body
    raw = asked(GENERATE, raw=True).whole({"choices": [{"text": "ho", "finish_reason": "stop"}]})
    assert (raw["response"], raw["done_reason"], raw["eval_count"]) == ("ho", "stop", 0)


def test_durations_are_llama_cpps_where_it_tells_them() -> None:
    body = asked().whole({**answer(content="ho"), "timings": TIMINGS})
    assert body["prompt_eval_duration"] == 1_500_000
    assert body["eval_duration"] == 500_000
    assert body["load_duration"] == body["total_duration"] - 2_000_000
    del (bare := answer(content="ho"))["usage"]
    body = asked().whole({**bare, "timings": TIMINGS})
    assert (body["prompt_eval_count"], body["eval_count"]) == (7, 3)


def test_the_model_is_the_engines_if_the_client_names_none() -> None:
    assert asked(model=None).whole(answer(content="ho"))["model"] == "file.gguf"
    assert asked(EMBED, model="").whole({"data": [{"embedding": [1.0]}]})["model"] == ""


def test_calls_of_tools_have_objects() -> None:
    calls = [tool_call("f", '{"a": {"b": [1]}}'), tool_call("g", "")]
    message = asked().whole(answer("tool_calls", content=None, tool_calls=calls))["message"]
    assert message == {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "id-f", "function": {"index": 0, "name": "f", "arguments": {"a": {"b": [1]}}}},
            {"id": "id-g", "function": {"index": 1, "name": "g", "arguments": {}}},
        ],
    }


@pytest.mark.parametrize("arguments", ['{"a": ', "3", "[]", "[" * 100_000])
def test_a_call_that_is_no_object_is_an_error_unless_it_was_cut(arguments: str) -> None:
    whole = answer("tool_calls", tool_calls=[tool_call("f", arguments)])
    with pytest.raises(EngineFailed, match="called 'f'"):
        asked().whole(whole)
    pieces = delta(tool_calls=[tool_call("f", arguments, 0)])
    assert "called 'f'" in lines(asked(), pieces, delta("tool_calls"))[-1]["error"]
    cut = answer("length", tool_calls=[tool_call("g", "{}"), tool_call("f", arguments)])
    body = asked().whole(cut)
    assert [c["function"]["name"] for c in body["message"]["tool_calls"]] == ["g"]
    assert body["done_reason"] == "length"


def test_a_stream() -> None:
    translation = asked()
    assert translation.stream_type == b"application/x-ndjson"
    found = lines(
        translation,
        delta(role="assistant", content=None),
        delta(reasoning_content="hm"),
        delta(content="h"),
        delta(content=""),
        delta(content="o"),
        delta("length"),
        {"choices": [], "usage": USAGE},
    )
    said = [line["message"] for line in found]
    assert said == [
        {"role": "assistant", "content": "", "thinking": "hm"},
        {"role": "assistant", "content": "h"},
        {"role": "assistant", "content": "o"},
        {"role": "assistant", "content": ""},
    ]
    assert [line["done"] for line in found] == [False, False, False, True]
    assert not any("done_reason" in line or "eval_count" in line for line in found[:-1])
    times = [line["created_at"] for line in found]
    assert times == sorted({*times})
    last = found[-1]
    assert (last["done_reason"], last["prompt_eval_count"], last["eval_count"]) == ("length", 7, 3)
    assert last["prompt_eval_duration"] == STEP  # until the first text
    assert last["eval_duration"] == last["total_duration"] - STEP


def test_a_stream_of_text() -> None:
    chunks = [{"choices": [{"text": t, "finish_reason": None}]} for t in ("a", "", "b")]
    last = {"choices": [{"text": "", "finish_reason": "stop"}], "timings": TIMINGS}
    found = lines(asked(GENERATE, suffix="}"), *chunks, last)
    assert [line["response"] for line in found] == ["a", "b", ""]
    assert found[-1]["eval_duration"] == 500_000


def test_streamed_calls_come_when_they_are_complete() -> None:
    pieces = [
        delta(tool_calls=[{"index": 0, "id": "x", "function": {"name": "f", "arguments": ""}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"a"'}}]),
        delta(tool_calls=[{"index": 1, "id": "y", "function": {"name": "g", "arguments": "{}"}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": ": 1}"}}]),
        delta("tool_calls"),
    ]
    called, done = lines(asked(), *pieces)
    assert called["message"]["tool_calls"] == [
        {"id": "x", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}},
        {"id": "y", "function": {"index": 1, "name": "g", "arguments": {}}},
    ]
    assert (called["done"], done["done"], done["done_reason"]) == (False, True, "stop")
    generated, _ = lines(asked(GENERATE), *pieces)
    assert len(generated["tool_calls"]) == 2


@given(st.lists(st.text()), st.lists(st.text()))
def test_any_chunking_gives_the_same_text(thoughts: list[str], texts: list[str]) -> None:
    chunks = [*(delta(reasoning_content=t) for t in thoughts), *(delta(content=t) for t in texts)]
    found = lines(asked(), *chunks, delta("stop"), {"choices": [], "usage": USAGE})
    whole = asked().whole(answer(content="".join(texts), reasoning_content="".join(thoughts)))
    assert "".join(line["message"]["content"] for line in found) == whole["message"]["content"]
    thinking = "".join(line["message"].get("thinking", "") for line in found)
    assert thinking == whole["message"].get("thinking", "")
    assert found[-1]["eval_count"] == whole["eval_count"]


@given(st.dictionaries(st.text(), st.integers() | st.text()), st.lists(st.integers(0, 40)))
def test_any_cutting_of_arguments_gives_the_same_call(
    arguments: dict[str, Any], cuts: list[int]
) -> None:
    text = json.dumps(arguments)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [
        delta(tool_calls=[{"index": 0, "function": {"arguments": text[a:b]}}])
        for a, b in itertools.pairwise(places)
    ]
    first = delta(tool_calls=[{"index": 0, "id": "x", "function": {"name": "f"}}])
    called, _ = lines(asked(), first, *pieces, delta("tool_calls"))
    assert called["message"]["tool_calls"][0]["function"]["arguments"] == arguments


def test_a_ping_says_nothing_and_an_error_is_a_line() -> None:
    translation = asked()
    ping = json.loads(translation.ping())
    assert ping["message"] == {"role": "assistant", "content": ""}
    assert ping["done"] is False
    assert json.loads(asked(GENERATE).ping())["response"] == ""
    error = EngineFailed("it broke", source="engine")
    assert translation.failed(error) == b'{"error":"it broke"}\n'
    assert asked(EMBED).failed(error) == b'{"error":"it broke"}\n'


TOKENS = [
    {
        "token": "h",
        "logprob": -0.1,
        "bytes": [104],
        "top_logprobs": [{"token": "h", "logprob": -0.1}, {"token": "j", "logprob": -3.0}],
    },
    {"token": "o", "logprob": -0.2, "bytes": None, "top_logprobs": []},
]


def test_logprobs_of_chat() -> None:
    whole = answer(content="ho")
    whole["choices"][0]["logprobs"] = {"content": TOKENS}
    plain = [{"token": "h", "logprob": -0.1, "bytes": [104]}, {"token": "o", "logprob": -0.2}]
    assert asked(logprobs=True).whole(whole)["logprobs"] == plain
    found = asked(logprobs=True, top_logprobs=1).whole(whole)["logprobs"]
    assert found == [
        {**plain[0], "top_logprobs": [{"token": "h", "logprob": -0.1}]},
        {**plain[1], "top_logprobs": []},
    ]
    chunk = delta(content="")
    chunk["choices"][0]["logprobs"] = {"content": TOKENS}
    streamed, _ = lines(asked(logprobs=True), chunk)
    assert streamed["logprobs"] == plain


def test_logprobs_of_text() -> None:
    theirs = {
        "tokens": ["h", "o"],
        "token_logprobs": [None, -0.2],
        "top_logprobs": [None, {"o": -0.2, "a": -2.0}],
    }
    choice = {"text": "ho", "finish_reason": "stop", "logprobs": theirs}
    found = asked(GENERATE, raw=True, logprobs=True, top_logprobs=2).whole({"choices": [choice]})
    others = [{"token": "o", "logprob": -0.2}, {"token": "a", "logprob": -2.0}]
    assert found["logprobs"] == [{"token": "o", "logprob": -0.2, "top_logprobs": others}]
    choice["logprobs"] = {"content": TOKENS}  # as llama.cpp has them
    found = asked(GENERATE, raw=True, logprobs=True).whole({"choices": [choice]})
    assert [token["token"] for token in found["logprobs"]] == ["h", "o"]


@pytest.mark.parametrize("nothing", [{}, {"choices": []}, {"choices": None}])
def test_no_answer_is_an_error_of_the_engine(nothing: dict[str, Any]) -> None:
    with pytest.raises(EngineFailed, match="no choices"):
        asked().whole(nothing)
    with pytest.raises(EngineFailed, match="0 embeddings for 1"):
        asked(EMBED).whole({})


def test_embeddings_are_in_order_and_of_length_one() -> None:
    data = [{"index": 1, "embedding": [0.6, 0.8]}, {"index": 0, "embedding": [3.0, 4.0]}]
    body = asked(EMBED, input=["a", "b"]).whole({"data": data, "usage": {"prompt_tokens": 2}})
    assert body == {
        "model": "m",
        "embeddings": [[0.6, 0.8], [0.6, 0.8]],
        "total_duration": STEP,
        "load_duration": 0,
        "prompt_eval_count": 2,
    }
    old = asked(EMBEDDINGS).whole({"data": [{"index": 0, "embedding": [3.0, 4.0]}]})
    assert old == {"embedding": [3.0, 4.0]}


@pytest.mark.parametrize(
    ("dimensions", "expected"),
    [(0, [0.8, 0.0, 0.6]), (1, [1.0]), (2, [1.0, 0.0]), (9, [0.8, 0.0, 0.6])],
)
def test_dimensions_are_cut_where_the_engine_did_not(
    dimensions: int, expected: list[float]
) -> None:
    data = [{"index": 0, "embedding": [0.8, 0.0, 0.6]}]
    assert asked(EMBED, dimensions=dimensions).whole({"data": data})["embeddings"] == [expected]


def test_no_length_is_made_of_nothing() -> None:
    data = [{"index": 0, "embedding": [0.0, 0.0]}]
    assert asked(EMBED).whole({"data": data})["embeddings"] == [[0.0, 0.0]]
