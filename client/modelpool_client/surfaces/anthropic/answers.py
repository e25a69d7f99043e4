"""PURE. What chat completions answer, in the words of the Messages API."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.body import parse_object
from modelpool_client.surfaces.translation import MATCHED_STOP

Json = dict[str, Any]

# How Anthropic's documentation of tool streaming wraps what a model wrote and is no JSON object.
INVALID_JSON = "INVALID_JSON"

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


def message_id(engine_id: str) -> str:
    """``msg_`` and what is particular in the id of the engine's answer."""
    return f"msg_{engine_id.removeprefix('chatcmpl-')}"


def thinking_of(message: Mapping[str, Any]) -> str:
    """What a message or delta thinks: llama.cpp's name for it, or that of newer vLLM."""
    return message.get("reasoning_content") or message.get("reasoning") or ""


def content(message: Mapping[str, Any], *, shows_thinking: bool) -> list[Json]:
    """The blocks of a whole message; there are none of an empty one."""
    return list(_content(message, shows_thinking))


def _content(message: Mapping[str, Any], shows_thinking: bool) -> Iterator[Json]:
    thinking = thinking_of(message)
    if thinking and shows_thinking:
        yield {"type": "thinking", "thinking": thinking, "signature": ""}
    if message.get("content"):
        yield {"type": "text", "text": message["content"]}
    for index, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function") or {}
        block = tool_use(index, call.get("id"), function.get("name"))
        yield block | {"input": tool_input(function.get("arguments"))}


def tool_use(index: int, call_id: str | None, name: str | None) -> Json:
    """A call whose input is still to come."""
    shown = call_id or f"toolu_{index}"
    return {"type": "tool_use", "id": shown, "name": name or "", "input": {}}


def tool_input(arguments: str | None) -> Json:
    """The JSON object that a model's arguments are; what is none, under ``INVALID_JSON``."""
    if not arguments or not arguments.strip():
        return {}
    try:
        value = parse_object(arguments.encode())
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (InvalidRequest, UnicodeEncodeError):
        return {INVALID_JSON: arguments}
    return value


def matched_stop(choice: Mapping[str, Any], sequences: Sequence[str]) -> str | None:
    """The client's sequence that ended a choice, where the engine tells."""
    return next((choice[key] for key in MATCHED_STOP if choice.get(key) in sequences), None)


def stop(finish_reason: str | None, matched: str | None, *, calls: bool) -> Json:
    """``stop_reason`` and ``stop_sequence``."""
    reason = _STOP_REASONS.get(finish_reason or "stop", "end_turn")
    if reason == "end_turn" and calls:  # some engines say no more than stop
        reason = "tool_use"
    if reason == "end_turn" and matched is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": matched}
    return {"stop_reason": reason, "stop_sequence": None}


def usage(told: Mapping[str, Any] | None) -> Json:
    """Tokens; those read from a cache are none of ``input_tokens``."""
    told = told or {}
    cached = (told.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    counts: Json = {
        "input_tokens": max(0, (told.get("prompt_tokens") or 0) - cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": told.get("completion_tokens") or 0,
    }
    thought = (told.get("completion_tokens_details") or {}).get("reasoning_tokens")
    if thought is not None:
        counts["output_tokens_details"] = {"thinking_tokens": thought}
    return counts


def message(identity: str, model: str, blocks: list[Json], ending: Json, counts: Json) -> Json:
    """The object ``message``, of an answer or of the start of a stream."""
    return {
        "id": message_id(identity),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": blocks,
        **ending,
        "usage": counts,
    }
