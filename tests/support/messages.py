"""Anthropic's Messages API in tests: requests, an engine's chunks, and the events of a stream."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from modelpool_client._stream import EventParser
from modelpool_client.surfaces.anthropic import MESSAGES_PATH, translate

WEATHER = {
    "name": "weather",
    "description": "of a place",
    "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}},
}


def asking(*messages: Any, **more: Any) -> dict[str, Any]:
    """A request; a string is what the user says."""
    told = [{"role": "user", "content": m} if isinstance(m, str) else m for m in messages]
    return {"model": "m", "max_tokens": 2000, "messages": told or asking("hi")["messages"], **more}


def told(data: dict[str, Any]) -> dict[str, Any]:
    return translate(MESSAGES_PATH, data).told.body


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "chatcmpl-7", "model": "file.gguf", "choices": [choice]}


def calling(index: int, arguments: str, **first: Any) -> dict[str, Any]:
    """A chunk with a piece of a tool call; its id and name come with the first."""
    call_id = {"id": first.pop("id")} if "id" in first else {}
    function = {"arguments": arguments, **first}
    return chunk(tool_calls=[{"index": index, **call_id, "function": function}])


def used(prompt: int = 9, cached: int = 4, completion: int = 5) -> dict[str, Any]:
    """The last chunk."""
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    return {"id": "chatcmpl-7", "model": "file.gguf", "choices": [], "usage": usage}


def whole(chunks: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The answer that an engine would have given in place of these chunks."""
    answer: dict[str, Any] = {"id": "", "model": ""}
    message: dict[str, Any] = {"role": "assistant", "content": "", "reasoning_content": ""}
    calls: dict[int, dict[str, Any]] = {}
    finish = None
    for one in chunks:
        answer |= {"id": one["id"], "model": one["model"]} | {"usage": one.get("usage")}
        for choice in one["choices"]:
            finish = choice["finish_reason"] or finish
            for key in ("content", "reasoning_content"):
                message[key] += choice["delta"].get(key) or ""
            for piece in choice["delta"].get("tool_calls") or ():
                call = calls.setdefault(piece["index"], {"function": {"arguments": ""}})
                call["id"] = call.get("id") or piece.get("id")
                function = dict(piece["function"])
                call["function"]["arguments"] += function.pop("arguments")
                call["function"] |= function
    message["tool_calls"] = [call for _, call in sorted(calls.items())]
    return answer | {"choices": [{"message": message, "finish_reason": finish}]}


def stream(data: dict[str, Any], chunks: Iterable[dict[str, Any]]) -> bytes:
    translation = translate(MESSAGES_PATH, {**data, "stream": True})
    told = [translation.begin(), *map(translation.chunk, chunks), translation.end()]
    return b"".join(told)


def events(raw: bytes) -> list[dict[str, Any]]:
    """The data of each event, whose line says the same type."""
    found = []
    for event in EventParser().feed(raw):
        data = json.loads(event.data)
        assert event.event == data["type"]
        found.append(data)
    return found


def put_together(told: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that a stream tells, held to the order of its events."""
    first, *rest = told
    assert first["type"] == "message_start"
    assert [e["type"] for e in rest[-2:]] == ["message_delta", "message_stop"]
    message, is_open, raw = dict(first["message"]), False, ""
    for event in rest[:-2]:
        kind = event["type"]
        if kind == "content_block_start":
            assert not is_open
            assert event["index"] == len(message["content"])
            message["content"] = [*message["content"], dict(event["content_block"])]
            is_open, raw = True, ""
            continue
        assert is_open
        assert event["index"] == len(message["content"]) - 1
        block = message["content"][-1]
        if kind == "content_block_stop":
            is_open = False
            if raw:
                block["input"] = json.loads(raw)
            continue
        assert kind == "content_block_delta"
        delta = dict(event["delta"])
        assert delta.pop("type") in ("text_delta", "thinking_delta", "input_json_delta")
        ((key, text),) = delta.items()
        assert text, "an empty delta is no event"
        if key == "partial_json":
            raw += text
        else:
            block[key] += text
    assert not is_open
    return message | rest[-2]["delta"] | {"usage": rest[-2]["usage"]}
