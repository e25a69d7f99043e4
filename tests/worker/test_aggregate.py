"""Streams put together: the sum of any cutting is the whole."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.surfaces import sse
from modelpool_worker.surfaces.aggregate import Aggregate

HEAD = {"id": "c1", "created": 7, "model": "m", "system_fingerprint": "f"}


def chat(*parts: dict[str, Any], **last: Any) -> dict[str, Any]:
    aggregate = Aggregate(chat=True)
    for part in parts:
        aggregate.add({**HEAD, "object": "chat.completion.chunk", "choices": [part]})
    if last:
        aggregate.add({**HEAD, "object": "chat.completion.chunk", "choices": [], **last})
    return aggregate.result()


def part(index: int = 0, reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": reason}


def test_a_chat() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    result = chat(
        part(role="assistant", content=None),
        part(content="Hel"),
        part(content="lo"),
        part(reason="stop"),
        usage=usage,
        timings={"predicted_n": 2},
    )
    assert result == {
        **HEAD,
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello"},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": usage,
        "timings": {"predicted_n": 2},
    }


def test_reasoning_and_unknown_text_add_up() -> None:
    result = chat(part(reasoning_content="hm"), part(reasoning_content="m"), part(content="a"))
    message = result["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "a", "reasoning_content": "hmm"}


def test_tool_calls_come_in_pieces() -> None:
    def call(index: int, **function: str) -> dict[str, Any]:
        return {"index": index, "function": function}

    first = {**call(0, name="look", arguments=""), "id": "t1", "type": "function"}
    second = {**call(1, name="see", arguments="{}"), "id": "t2"}
    result = chat(
        part(tool_calls=[first]),
        part(tool_calls=[call(0, arguments='{"a"')]),
        part(tool_calls=[call(0, arguments=":1}"), second]),
        part(reason="tool_calls"),
    )
    choice = result["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == [
        {"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}},
        {"id": "t2", "type": "function", "function": {"name": "see", "arguments": "{}"}},
    ]


def test_logprobs_add_up() -> None:
    a, b = {"token": "a", "logprob": -1.0}, {"token": "b", "logprob": -2.0}
    parts = [{**part(content=t["token"]), "logprobs": {"content": [t]}} for t in (a, b)]
    assert chat(*parts)["choices"][0]["logprobs"] == {"content": [a, b]}


def test_choices_are_kept_apart_and_in_order() -> None:
    result = chat(part(1, content="b"), part(0, content="a"), part(1, "length", content="B"))
    texts = [(c["index"], c["message"]["content"]) for c in result["choices"]]
    assert texts == [(0, "a"), (1, "bB")]


def test_a_text_completion_with_usage_per_choice() -> None:
    # llama.cpp sends so for n=2; the prompt counts once.
    aggregate = Aggregate(chat=False, n=2)
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    for index in (1, 0):
        aggregate.add({"choices": [{"text": "x", "index": index, "finish_reason": None}]})
        end = {"text": "", "index": index, "finish_reason": "length"}
        aggregate.add({"choices": [end], "usage": usage})
    result = aggregate.result()
    assert result["object"] == "text_completion"
    assert [c["text"] for c in result["choices"]] == ["x", "x"]
    assert result["usage"] == {"prompt_tokens": 3, "completion_tokens": 10, "total_tokens": 13}


@given(st.lists(st.tuples(st.integers(0, 2), st.text()), min_size=1), st.data())
def test_any_cutting_of_the_bytes_gives_the_same(
    pieces: list[tuple[int, str]], data: st.DataObject
) -> None:
    chunks = [{**HEAD, "choices": [part(i, content=text)]} for i, text in pieces]
    stream = b"".join(sse.event(c) for c in chunks) + b": a comment\n\ndata: [DONE]\n\n"
    events, aggregate, done = sse.Events(), Aggregate(chat=True), False
    rest = stream
    while rest:
        cut = data.draw(st.integers(1, len(rest)))
        for item in events.feed(rest[:cut]):
            done = item == sse.DONE
            if not done:
                aggregate.add(json.loads(item))
        rest = rest[cut:]
    assert done
    for choice in aggregate.result()["choices"]:
        whole = "".join(text for i, text in pieces if i == choice["index"])
        assert (choice["message"]["content"] or "") == whole


def test_events_with_crlf_and_other_fields() -> None:
    stream = b'event: x\r\ndata: {"a": 1}\r\n\r\nid: 3\r\ndata:[DONE]\r\n\r\n'
    assert sse.Events().feed(stream) == [b'{"a": 1}', b"[DONE]"]
