"""PURE. Anthropic's Messages API: one table checks requests, describes them, and says what of them
has no meaning here.

What a table marks with ``ignored`` is checked, passes and is named in the answer, like whatever
it does not know. Tools and content that only Anthropic's servers can run or read are no values of
the enums, and so refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from modelpool_client.surfaces.schema import CALL_ARGUMENTS, Schema, nullable

MESSAGES_PATH = "/v1/messages"
COUNT_PATH = "/v1/messages/count_tokens"

# The same as chat completions take.
_MAX_STOPS = 16
_MAX_TOOLS = 1024
# They end up in a header.
MAX_NAMES = 32
_MAX_NAME = 64

_STRING: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}


def _ignored(schema: Schema) -> Schema:
    return {**nullable(schema), "ignored": True}


def _optional(properties: Mapping[str, Schema]) -> dict[str, Schema]:
    return {name: nullable(schema) for name, schema in properties.items()}


_CACHE_CONTROL = _ignored({"type": "object"})
_SOURCE: Schema = {
    "type": "object",
    "required": ["type"],
    "properties": {
        "type": {"type": "string", "enum": ["base64", "url", "text", "content"]},
        "media_type": nullable(_STRING),
        "data": nullable(_STRING),
        "url": nullable(_STRING),
        "content": {"anyOf": [_STRING, {"type": "null"}, {"type": "array"}]},
    },
}
# What any block may hold; which of it each type needs is in REQUIRED.
_SHOWN: Mapping[str, Schema] = {
    "text": nullable(_STRING),
    "source": {"anyOf": [_SOURCE, _STRING, {"type": "null"}]},
    "title": nullable(_STRING),
    "context": nullable(_STRING),
    "cache_control": _CACHE_CONTROL,
    "citations": {"ignored": True},
    "transformations": _ignored({"type": "object"}),
}


def _block(kinds: list[str], properties: Mapping[str, Schema]) -> Schema:
    kind: Schema = {"type": "string", "enum": kinds}
    return {"type": "object", "required": ["type"], "properties": {"type": kind, **properties}}


def _content(block: Schema) -> Schema:
    return {"anyOf": [_STRING, {"type": "array", "items": block}]}


_TEXT_BLOCK = _block(["text"], _SHOWN)
_RESULT_BLOCK = _block(
    ["text", "image", "document", "search_result"],
    {**_SHOWN, "content": nullable({"type": "array", "items": _TEXT_BLOCK})},
)
_MESSAGE_BLOCK = _block(
    [
        "text",
        "image",
        "document",
        "search_result",
        "thinking",
        "redacted_thinking",
        "tool_use",
        "tool_result",
    ],
    {
        **_SHOWN,
        "thinking": nullable(_STRING),
        "signature": _ignored(_STRING),
        "data": {**_ignored(_STRING), "description": "redacted thinking: nobody here can read it"},
        "id": nullable(_STRING),
        "name": nullable(_STRING),
        "input": CALL_ARGUMENTS,
        "caller": _ignored({"type": "object"}),
        "toolset_name": _ignored(_STRING),
        "tool_use_id": nullable(_STRING),
        "content": nullable(_content(_RESULT_BLOCK)),
        "is_error": nullable(_FLAG),
    },
)
_MESSAGE: Schema = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": {"type": "string", "enum": ["user", "assistant", "system"]},
        "content": _content(_MESSAGE_BLOCK),
    },
}
# By type of block, and of its source. A tool call of the history may lack its input.
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "text": ("text",),
    "image": ("source",),
    "document": ("source",),
    "search_result": ("source", "title", "content"),
    "thinking": ("thinking",),
    "redacted_thinking": (),
    "tool_use": ("id", "name"),
    "tool_result": ("tool_use_id",),
}
REQUIRED_OF_SOURCE: Mapping[str, tuple[str, ...]] = {
    "base64": ("media_type", "data"),
    "url": ("url",),
    "text": ("data",),
    "content": ("content",),
}
ALLOWED: Mapping[str, frozenset[str]] = {
    "user": frozenset({"text", "image", "document", "search_result", "tool_result"}),
    "assistant": frozenset({"text", "thinking", "redacted_thinking", "tool_use"}),
    "system": frozenset({"text"}),
}

CUSTOM_TOOL = "custom"
_TOOL: Schema = {
    "type": "object",
    "properties": {
        "type": {**nullable(_STRING), "description": f"only {CUSTOM_TOOL}, which is the default"},
        "name": {"type": "string", "minLength": 1, "maxLength": 128},
        "description": nullable(_STRING),
        "input_schema": {"type": "object"},
        "strict": nullable(_FLAG),
        "eager_input_streaming": nullable(_FLAG),
        "allowed_callers": _ignored({"type": "array"}),
        "cache_control": _CACHE_CONTROL,
        "defer_loading": _ignored(_FLAG),
        "input_examples": _ignored({"type": "array"}),
    },
}
_TOOL_CHOICE: Schema = {
    "type": "object",
    "required": ["type"],
    "properties": {
        "type": {"type": "string", "enum": ["auto", "any", "tool", "none"]},
        "name": nullable(_STRING),
        "disable_parallel_tool_use": nullable(_FLAG),
    },
}
_THINKING: Schema = {
    "type": "object",
    "required": ["type"],
    "properties": {
        "type": {"type": "string", "enum": ["enabled", "disabled", "adaptive", "between_tools"]},
        # Anthropic's own least is 1024; small models do with less.
        "budget_tokens": nullable({"type": "integer", "minimum": 1}),
        "display": nullable({"type": "string", "enum": ["summarized", "omitted"]}),
    },
}
_OUTPUT_CONFIG: Schema = {
    "type": "object",
    "properties": {
        "effort": nullable({"type": "string", "enum": ["low", "medium", "high", "xhigh", "max"]}),
        "format": nullable(
            {
                "type": "object",
                "required": ["type", "schema"],
                "properties": {
                    "type": {"type": "string", "enum": ["json_schema"]},
                    "schema": {"type": "object"},
                },
            }
        ),
    },
}
# What decides how long the prompt is.
_PROMPT: Mapping[str, Schema] = {
    "system": _content(_TEXT_BLOCK),
    "tools": {"type": "array", "maxItems": _MAX_TOOLS, "items": _TOOL},
    "tool_choice": _TOOL_CHOICE,
    "thinking": _THINKING,
    "output_config": _OUTPUT_CONFIG,
}
# Who pays, where it runs, what is cached: not questions of a pool.
_ELSEWHERE: Mapping[str, Schema] = {
    "cache_control": _CACHE_CONTROL,
    "speed": _ignored({"type": "string", "enum": ["standard", "fast"]}),
    "user_profile_id": _ignored(_STRING),
    "workspace_id": _ignored(_STRING),
}
_SAMPLING: Mapping[str, Schema] = {
    "stream": _FLAG,
    "temperature": {"type": "number", "minimum": 0, "maximum": 1},
    "top_p": {"type": "number", "minimum": 0, "maximum": 1},
    "top_k": {"type": "integer", "minimum": 0, "maximum": (1 << 31) - 1},
    "stop_sequences": {"type": "array", "maxItems": _MAX_STOPS, "items": _STRING},
    "metadata": {"type": "object", "properties": {"user_id": nullable(_STRING)}},
}
_MESSAGES: Schema = {"type": "array", "minItems": 1, "maxItems": 100_000, "items": _MESSAGE}

BODIES: Mapping[str, Schema] = {
    MESSAGES_PATH: {
        "type": "object",
        "required": ["max_tokens", "messages"],
        "properties": {
            "max_tokens": {
                "type": "integer",
                "minimum": 1,
                "description": "any number: an answer ends where the context does",
            },
            "messages": _MESSAGES,
            **_optional({"model": _STRING, **_PROMPT, **_SAMPLING}),
            **_ELSEWHERE,
            "container": {"anyOf": [_STRING, {"type": ["object", "null"]}], "ignored": True},
            "diagnostics": _ignored({"type": "object"}),
            "inference_geo": _ignored(_STRING),
            "service_tier": _ignored({"type": "string", "enum": ["auto", "standard_only"]}),
        },
    },
    COUNT_PATH: {
        "type": "object",
        "required": ["messages"],
        "properties": {
            "messages": _MESSAGES,
            **_optional({"model": _STRING, **_PROMPT}),
            **_ELSEWHERE,
        },
    },
}


def ignored(path: str, data: Mapping[str, Any]) -> tuple[str, ...]:
    """The parameters of a checked request that change nothing, like ``tools.cache_control``;
    at most ``MAX_NAMES``, each fit for a header."""
    names = _ignored_in(BODIES[path], data, "")
    return tuple(sorted(islice(dict.fromkeys(names), MAX_NAMES)))


def _ignored_in(schema: Schema, value: Any, where: str) -> Iterator[str]:
    for option in schema.get("anyOf", (schema,)):
        if isinstance(value, dict) and "properties" in option:
            yield from _ignored_members(option["properties"], value, where)
        elif isinstance(value, list) and "items" in option:
            for item in value:
                yield from _ignored_in(option["items"], item, where)


def _ignored_members(
    known: Mapping[str, Schema], value: Mapping[str, Any], where: str
) -> Iterator[str]:
    for name, item in value.items():
        if item is None:
            continue
        inner = f"{where}.{name}" if where else name
        if name not in known or known[name].get("ignored"):
            yield _printable(inner)
        elif isinstance(item, (dict, list)):
            yield from _ignored_in(known[name], item, inner)


def _printable(name: str) -> str:
    fit: Iterable[str] = (c if "!" <= c <= "~" and c != "," else "?" for c in name[:_MAX_NAME])
    return "".join(fit)
