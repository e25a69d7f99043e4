"""PURE. OpenAI's chat and text completions: one table checks requests and describes the API."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelpool_client.errors import InvalidRequest, ModelNotFound
from modelpool_client.surfaces.names import answers_to
from modelpool_client.surfaces.routes import CHAT_PATH, TEXT_PATH
from modelpool_client.surfaces.schema import Schema, check, nullable

# Load options belong to the instance (SPEC rule 11): in a request they are dropped, and named.
LOAD_OPTIONS = frozenset(
    {
        "cache_type_k",
        "cache_type_v",
        "context_length",
        "context_size",
        "ctx_size",
        "gpu_layers",
        "keep_alive",
        "low_vram",
        "main_gpu",
        "mmap",
        "model_path",
        "n_batch",
        "n_ctx",
        "n_gpu_layers",
        "n_parallel",
        "n_threads",
        "n_ubatch",
        "num_batch",
        "num_ctx",
        "num_gpu",
        "num_thread",
        "numa",
        "parallel",
        "threads",
        "use_mlock",
        "use_mmap",
    }
)

_MAX_TOKENS = 1 << 20
_INT64 = 1 << 63
_STRING: Schema = {"type": "string"}
_TOKEN_COUNT: Schema = {"type": "integer", "minimum": 1, "maximum": _MAX_TOKENS}
_PENALTY: Schema = {"type": "number", "minimum": -2, "maximum": 2}
_TEXT_PART: Schema = {
    "type": "object",
    "required": ["type"],
    "properties": {"type": {"type": "string", "minLength": 1}, "text": _STRING},
}
_MESSAGE: Schema = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": {
            "type": "string",
            "enum": ["system", "developer", "user", "assistant", "tool", "function"],
        },
        "content": {"anyOf": [_STRING, {"type": "null"}, {"type": "array", "items": _TEXT_PART}]},
        "name": nullable(_STRING),
        "tool_calls": nullable({"type": "array", "items": {"type": "object"}}),
        "tool_call_id": nullable(_STRING),
    },
    # Described here, checked by _check_messages.
    "if": {"properties": {"role": {"not": {"const": "assistant"}}}},
    "then": {"required": ["content"], "properties": {"content": {"type": ["string", "array"]}}},
}
_FUNCTION: Schema = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 128},
        "description": nullable(_STRING),
        "parameters": nullable({"type": "object"}),
    },
}
_TOOL: Schema = {
    "type": "object",
    "required": ["type", "function"],
    "properties": {"type": {"type": "string", "enum": ["function"]}, "function": _FUNCTION},
}

# Everything but the model may be null, which stands for "not given".
_COMMON: Mapping[str, Schema] = {
    "model": _STRING,
    "stream": {"type": "boolean"},
    "stream_options": {
        "type": "object",
        "properties": {"include_usage": nullable({"type": "boolean"})},
        "description": "only with stream",
    },
    "temperature": {"type": "number", "minimum": 0, "maximum": 2},
    "top_p": {"type": "number", "minimum": 0, "maximum": 1},
    "n": {"type": "integer", "minimum": 1, "maximum": 128},
    "max_tokens": _TOKEN_COUNT,
    "stop": {
        "anyOf": [_STRING, {"type": "array", "maxItems": 16, "items": _STRING}],
    },
    "seed": {"type": "integer", "minimum": -_INT64, "maximum": _INT64 - 1},
    "presence_penalty": _PENALTY,
    "frequency_penalty": _PENALTY,
    "logit_bias": {
        "type": "object",
        "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
    },
    "user": _STRING,
}
_CHAT: Mapping[str, Schema] = {
    "messages": {"type": "array", "minItems": 1, "items": _MESSAGE},
    "max_completion_tokens": _TOKEN_COUNT,
    "logprobs": {"type": "boolean"},
    "top_logprobs": {
        "type": "integer",
        "minimum": 0,
        "maximum": 20,
        "description": "only with logprobs",
    },
    "response_format": {
        "type": "object",
        "required": ["type"],
        "properties": {
            "type": {"type": "string", "enum": ["text", "json_object", "json_schema"]},
            "json_schema": nullable({"type": "object"}),
        },
    },
    "tools": {"type": "array", "maxItems": 1024, "items": _TOOL},
    "tool_choice": {
        "anyOf": [
            {"type": "string", "enum": ["none", "auto", "required"]},
            {"type": "object"},
        ]
    },
    "parallel_tool_calls": {"type": "boolean"},
}
_TOKEN: Schema = {"type": "integer", "minimum": 0, "maximum": (1 << 31) - 1}
_TEXT: Mapping[str, Schema] = {
    "prompt": {
        "anyOf": [
            _STRING,
            {"type": "array", "minItems": 1, "items": _TOKEN},
            {"type": "array", "minItems": 1, "items": _STRING},
        ]
    },
    "logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
    "echo": {"type": "boolean"},
    "suffix": _STRING,
    "best_of": {"type": "integer", "minimum": 1, "maximum": 128},
}


def _table(own: Mapping[str, Schema], required: str) -> Schema:
    properties = {k: v if k == required else nullable(v) for k, v in {**own, **_COMMON}.items()}
    return {"type": "object", "required": [required], "properties": properties}


BODIES: Mapping[str, Schema] = {
    CHAT_PATH: _table(_CHAT, "messages"),
    TEXT_PATH: _table(_TEXT, "prompt"),
}


# Parameters that make sense only when another one is true.
NEEDS: Mapping[str, Mapping[str, str]] = {
    CHAT_PATH: {"stream_options": "stream", "top_logprobs": "logprobs"},
    TEXT_PATH: {"stream_options": "stream"},
}


@dataclass(frozen=True)
class Completion:
    """A checked request: what the engine is to be told, whether the client streams, what was
    dropped.

    Attributes:
        raw: the client's own words, where they say just ``body``; else None.
    """

    body: dict[str, Any]
    stream: bool
    ignored: tuple[str, ...]
    raw: bytes | None = None

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """What its answer says of it."""
        names = ", ".join(self.ignored).encode()
        return [(b"x-modelpool-ignored", names)] if names else []

    def upstream(self, *, as_stream: bool = True) -> bytes:
        """The body for the engine; ``as_stream`` asks for one whatever the client wants.

        Raises:
            InvalidRequest: a string holds half a surrogate pair.
        """
        is_added = as_stream and not self.stream
        if self.raw is not None:
            if not is_added:
                return self.raw
            if "stream" not in self.body and "stream_options" not in self.body:
                return self.raw.rstrip()[:-1] + _AS_STREAM
        body = self.body
        if is_added:
            body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        try:
            return json.dumps(body, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            text = "the body holds half a surrogate pair"
            raise InvalidRequest(text, param="body", source="worker") from None


# An object that was checked has a key or more before it.
_AS_STREAM = b',"stream":true,"stream_options":{"include_usage":true}}'


def check_request(path: str, data: dict[str, Any], raw: bytes | None = None) -> Completion:
    """Check the body of a completion request, which is ``raw`` as it came.

    Raises:
        InvalidRequest: with ``param``.
    """
    check(BODIES[path], data)
    known = BODIES[path]["properties"]
    given = {k: _whole(known.get(k, {}), v) for k, v in data.items() if v is not None}
    stream = bool(given.get("stream", False))
    for name, other in NEEDS[path].items():
        if name in given and not given.get(other):
            raise InvalidRequest(f"{name} needs {other}", param=name)
    _check_messages(given.get("messages", ()))
    ignored = tuple(sorted(LOAD_OPTIONS & given.keys()))
    body = {k: v for k, v in given.items() if k not in LOAD_OPTIONS}
    # An escape may be half a surrogate pair, which engines choke on; nobody else writes one.
    is_same = raw is not None and len(body) == len(data) and b"\\u" not in raw
    is_same = is_same and all(body[k] is v for k, v in data.items())
    return Completion(body, stream, ignored, raw if is_same else None)


def check_model(data: Mapping[str, Any], model_id: str, aliases: Collection[str]) -> None:
    """A worker answers for its own model, its aliases, with or without ``:latest``, or no model at
    all.

    Raises:
        ModelNotFound: naming what is served here.
    """
    name = data.get("model")
    names = [model_id, *aliases]
    if name is None or answers_to(names, name):
        return
    served = ", ".join(names)
    shown = name if len(name) <= 200 else f"{name[:197]}..."
    raise ModelNotFound(
        f"model {shown!r} is not served here; this worker serves {served}",
        param="model",
        source="worker",
    )


def _check_messages(messages: Sequence[Mapping[str, Any]]) -> None:
    for i, message in enumerate(messages):
        if message["role"] != "assistant" and message.get("content") is None:
            where = f"messages[{i}].content"
            raise InvalidRequest(f"{where} is required of {message['role']}", param=where)


def _whole(schema: Schema, value: Any) -> Any:
    """JSON Schema counts 2.0 as an integer; engines do not."""
    return int(value) if isinstance(value, float) and "integer" in schema.get("type", ()) else value
