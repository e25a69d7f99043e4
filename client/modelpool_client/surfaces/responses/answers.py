"""PURE. The objects that a response is made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modelpool_client.errors import InvalidRequest, ModelPoolError
from modelpool_client.surfaces.body import parse_object
from modelpool_client.surfaces.responses.ids import Ids
from modelpool_client.surfaces.responses.request import CUSTOM_INPUT, own_tools

Json = dict[str, Any]

# What chat completions call the end of an answer that is none.
INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


# What clients expect to be there of a tool, given or not.
_TOOLS: Mapping[str, Json] = {
    "function": {"parameters": None, "strict": None},
    "custom": {"format": {"type": "text"}},
}


def begun(data: Mapping[str, Any], ids: Ids, now: float) -> Json:
    """The object ``response`` as it begins; what was not given is what OpenAI takes it for, or null
    where that is up to the engine. ``now`` in unix seconds."""
    text = data.get("text") or {}
    reasoning = data.get("reasoning") or {}
    return {
        "id": ids.response,
        "object": "response",
        "created_at": int(now),
        "completed_at": None,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": data.get("instructions"),
        "max_output_tokens": _whole(data.get("max_output_tokens")),
        "max_tool_calls": _whole(data.get("max_tool_calls")),
        "metadata": data.get("metadata") or {},
        "model": data.get("model") or "",
        "output": [],
        "parallel_tool_calls": _given(data, "parallel_tool_calls", True),
        "previous_response_id": data.get("previous_response_id"),
        "prompt_cache_key": data.get("prompt_cache_key"),
        "reasoning": {"effort": reasoning.get("effort"), "summary": None},
        "safety_identifier": data.get("safety_identifier"),
        "service_tier": "default",
        "store": _given(data, "store", True),
        "temperature": data.get("temperature"),
        "text": {
            "format": text.get("format") or {"type": "text"},
            "verbosity": text.get("verbosity") or "medium",
        },
        "tool_choice": _given(data, "tool_choice", "auto"),
        "tools": [{**_TOOLS[tool["type"]], **tool} for tool in own_tools(data).values()],
        "top_logprobs": _whole(data.get("top_logprobs")) or 0,
        "top_p": data.get("top_p"),
        "truncation": "disabled",
        "usage": None,
        "user": data.get("user"),
    }


def _given(data: Mapping[str, Any], name: str, other: Any) -> Any:
    value = data.get(name)
    return other if value is None else value


def _whole(value: float | None) -> int | None:
    """JSON Schema counts 2.0 as an integer; clients do not."""
    return None if value is None else int(value)


def ending(finish_reason: str | None, now: float) -> Json:
    """How a response ends; one is complete unless the engine says otherwise."""
    reason = INCOMPLETE.get(finish_reason or "")
    if reason is None:
        return {"status": "completed", "completed_at": int(now)}
    return {"status": "incomplete", "incomplete_details": {"reason": reason}}


def failure(error: ModelPoolError) -> Json:
    """What a failed response says of itself. OpenAI knows few codes: ours is in the event ``error``
    before it."""
    code = "invalid_prompt" if error.status < 500 else "server_error"
    return {"code": code, "message": error.message, "param": error.param, "type": error.type}


def usage(told: Mapping[str, Any] | None) -> Json | None:
    """Tokens; None where the engine counts none."""
    if not told:
        return None
    read, written = told.get("prompt_tokens") or 0, told.get("completion_tokens") or 0
    details = told.get("prompt_tokens_details") or {}
    cached, kept = details.get("cached_tokens") or 0, details.get("cache_write_tokens") or 0
    thought = (told.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": kept},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": read + written,
    }


def reasoning(item_id: str, status: str, texts: Iterable[str]) -> Json:
    """An item of what the model thought, as it thought it: there are no summaries."""
    content = [reasoning_text(text) for text in texts]
    return {
        "id": item_id,
        "type": "reasoning",
        "status": status,
        "summary": [],
        "content": content,
    }


def reasoning_text(text: str) -> Json:
    return {"type": "reasoning_text", "text": text}


def message(item_id: str, status: str, parts: Sequence[Json]) -> Json:
    """An item of what the model said."""
    head = {"id": item_id, "type": "message", "status": status}
    return {**head, "role": "assistant", "content": list(parts)}


def part(kind: str, text: str, logprobs: Sequence[Json]) -> Json:
    """An ``output_text``, or a ``refusal``, of a message."""
    if kind == "refusal":
        return {"type": kind, "refusal": text}
    return {"type": kind, "text": text, "annotations": [], "logprobs": list(logprobs)}


def function_call(item_id: str, status: str, call_id: str, name: str, arguments: str) -> Json:
    """An item of a call of a function."""
    head = {"id": item_id, "type": "function_call", "status": status}
    return {**head, "call_id": call_id, "name": name, "arguments": arguments}


def custom_call(item_id: str, status: str, call_id: str, name: str, text: str) -> Json:
    """An item of a call of a custom tool."""
    head = {"id": item_id, "type": "custom_tool_call", "status": status}
    return {**head, "call_id": call_id, "name": name, "input": text}


def custom_input(arguments: str) -> str:
    """The text for a custom tool, of the arguments of the function that stands for it; arguments
    that are not as its schema wants are the text."""
    try:
        text = parse_object(arguments.encode()).get(CUSTOM_INPUT)
        json.dumps(text, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (InvalidRequest, UnicodeEncodeError):
        return arguments
    return text if isinstance(text, str) else arguments


def logprobs(told: Mapping[str, Any] | None) -> list[Json]:
    """Those of a choice or a chunk of one."""
    return [
        {**_logprob(one), "top_logprobs": [_logprob(top) for top in one.get("top_logprobs") or ()]}
        for one in (told or {}).get("content") or ()
    ]


def _logprob(one: Mapping[str, Any]) -> Json:
    """Where the bytes are missing, those of the token."""
    token = one.get("token") or ""
    shown = one.get("bytes")
    octets = list(token.encode(errors="replace")) if shown is None else shown
    return {"token": token, "logprob": one.get("logprob") or 0.0, "bytes": octets}
