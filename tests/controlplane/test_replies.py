"""Answers that were made of others, as streams of each API."""

from __future__ import annotations

import json
from typing import Any

import pytest
from modelpool.gateway.replies import as_stream, can_stream, stream_headers
from modelpool_client.surfaces.routes import SURFACES

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOLD = {"method": "vote"}


def events(stream: bytes) -> list[Any]:
    lines = [line for line in stream.split(b"\n") if line.startswith(b"data: {")]
    return [json.loads(line[6:]) for line in lines]


@pytest.mark.parametrize("has_usage", [False, True])
def test_chat_completions(has_usage: bool) -> None:
    message = {"role": "assistant", "content": "hi", "tool_calls": [CALL]}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}
    answer = {"id": "x", "model": "m", "choices": [choice], "usage": {"a": 1}, "modelpool": TOLD}
    stream = as_stream("/v1/chat/completions", answer, has_usage=has_usage)
    assert stream.endswith(b"data: [DONE]\n\n")
    first, last, *usage = events(stream)
    assert first["choices"][0]["delta"]["tool_calls"] == [{"index": 0, **CALL}]
    assert last["choices"][0]["finish_reason"] == "tool_calls"
    assert last["modelpool"] == TOLD
    assert [u["usage"] for u in usage] == ([{"a": 1}] if has_usage else [])


def test_messages() -> None:
    blocks: list[dict[str, Any]] = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "hi"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}},
    ]
    usage = {"input_tokens": 1, "output_tokens": 2}
    answer = {"id": "m", "type": "message", "role": "assistant", "content": blocks}
    answer |= {"stop_reason": "tool_use", "stop_sequence": None, "usage": usage}
    stream = as_stream("/v1/messages", {**answer, "modelpool": TOLD})
    found = events(stream)
    assert found[0]["message"]["content"] == []
    assert "modelpool" not in found[0]["message"]
    deltas = [e["delta"] for e in found if e["type"] == "content_block_delta"]
    assert deltas == [
        {"type": "thinking_delta", "thinking": "hm"},
        {"type": "signature_delta", "signature": "s"},
        {"type": "text_delta", "text": "hi"},
        {"type": "input_json_delta", "partial_json": '{"x": 1}'},
    ]
    ends, stop = found[-2:]
    assert ends["delta"]["stop_reason"] == "tool_use"
    assert (ends["usage"], ends["modelpool"]) == (usage, TOLD)
    assert stop == {"type": "message_stop"}
    assert stream.startswith(b"event: message_start\n")


def test_responses() -> None:
    output = [
        {"type": "message", "id": "i", "content": [{"type": "output_text", "text": "hi"}]},
        {"type": "message", "id": "j", "content": [{"type": "refusal", "refusal": "no"}]},
        {"type": "function_call", "id": "k", "name": "f", "arguments": "{}"},
    ]
    answer = {"id": "r", "status": "completed", "output": output, "modelpool": TOLD}
    found = events(as_stream("/v1/responses", answer))
    assert [e["sequence_number"] for e in found] == list(range(len(found)))
    by_type = {e["type"]: e for e in found}
    assert by_type["response.output_text.done"]["text"] == "hi"
    assert by_type["response.refusal.delta"]["delta"] == "no"
    assert by_type["response.function_call_arguments.done"]["arguments"] == "{}"
    assert found[0]["response"]["output"] == []
    assert found[-1]["response"] == answer
    cut_off = {**answer, "status": "incomplete"}
    assert events(as_stream("/v1/responses", cut_off))[-1]["type"] == "response.incomplete"


def test_lines() -> None:
    answer = {"message": {"content": "hi"}, "done": True, "modelpool": TOLD}
    assert json.loads(as_stream("/api/chat", answer)) == answer
    assert dict(stream_headers(SURFACES["/api/chat"]))[b"content-type"] == b"application/x-ndjson"
    assert not can_stream(SURFACES["/infill"])
