"""PURE. The bodies of OpenAI's chat and text completions: one table checks requests and describes
the API."""

from __future__ import annotations

from collections.abc import Mapping

from modelpool_client.surfaces.routes import CHAT_PATH, TEXT_PATH
from modelpool_client.surfaces.schema import Schema, nullable

_INT64 = 1 << 63
_STRING: Schema = {"type": "string"}
# However many: an answer ends where the context does.
# -1 is how LM Studio and llama.cpp say that nothing limits it.
NO_LIMIT = -1
# What is wrong is told by the last of those that are equally near.
_TOKEN_COUNT: Schema = {
    "anyOf": [{"type": "integer", "enum": [NO_LIMIT]}, {"type": "integer", "minimum": 1}]
}
_OBJECT: Schema = {"type": "object"}
_PENALTY: Schema = {"type": "number", "minimum": -2, "maximum": 2}
_PART: Schema = {
    "type": "object",
    "required": ["type"],
    "properties": {
        "type": {
            "type": "string",
            "enum": ["text", "image_url", "input_audio", "file", "refusal"],
        },
        "text": _STRING,
    },
}
_TOOL_CALL: Schema = {
    "type": "object",
    "required": ["function"],
    "properties": {
        "id": nullable(_STRING),
        "type": nullable({"type": "string", "enum": ["function"]}),
        "function": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": _STRING,
                "arguments": {
                    "type": ["string", "object", "null"],
                    "description": "JSON; none, or none in it, is {}",
                },
            },
        },
    },
}
MESSAGE: Schema = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": {
            "type": "string",
            "enum": ["system", "developer", "user", "assistant", "tool", "function"],
        },
        "content": {"anyOf": [_STRING, {"type": "null"}, {"type": "array", "items": _PART}]},
        "name": nullable(_STRING),
        "tool_calls": nullable({"type": "array", "items": _TOOL_CALL}),
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
        "properties": {
            "include_usage": nullable({"type": "boolean"}),
            "include_obfuscation": nullable({"type": "boolean"}),
        },
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
    "messages": {"type": "array", "minItems": 1, "items": MESSAGE},
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
            "type": {"type": "string", "enum": ["text", "json_object", "json_schema", "json"]},
            **{
                name: {
                    **nullable(_OBJECT),
                    "description": f"{whose} place of a schema, where the type is {kind}",
                }
                for name, whose, kind in (
                    ("schema", "llama.cpp's", "json_object"),
                    ("value", "text-generation-inference's", "json or json_object"),
                )
            },
            "json_schema": nullable(
                {
                    "type": "object",
                    "properties": {"schema": _OBJECT},
                    "description": "with a schema, where the type is json_schema",
                }
            ),
        },
    },
    "tools": {"type": "array", "maxItems": 1024, "items": _TOOL},
    "tool_choice": {
        "anyOf": [
            {
                "type": "string",
                "enum": ["none", "auto", "required", "any"],
                "description": "any is Mistral's word for required",
            },
            {
                "type": "object",
                "required": ["type"],
                "properties": {
                    "type": {"type": "string", "enum": ["function", "allowed_tools"]},
                    "function": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": _STRING},
                    },
                    "allowed_tools": {
                        "type": "object",
                        "required": ["mode", "tools"],
                        "properties": {
                            "mode": {"type": "string", "enum": ["auto", "required"]},
                            "tools": {"type": "array", "minItems": 1, "items": _OBJECT},
                        },
                    },
                },
            },
        ]
    },
    "parallel_tool_calls": {"type": "boolean"},
    "functions": {"type": "array", "items": _OBJECT},
    "function_call": {"anyOf": [{"type": "string", "enum": ["none", "auto"]}, _OBJECT]},
    "reasoning_effort": {
        "type": "string",
        "enum": ["none", "minimal", "low", "medium", "high", "xhigh", "max"],
    },
    "verbosity": {"type": "string", "enum": ["low", "medium", "high"]},
    "prediction": _OBJECT,
    "modalities": {"type": "array", "items": {"type": "string", "enum": ["text", "audio"]}},
    "audio": _OBJECT,
    "web_search_options": _OBJECT,
    "moderation": _OBJECT,
    "prompt_cache_key": _STRING,
    "prompt_cache_options": _OBJECT,
    "prompt_cache_retention": {"type": "string", "enum": ["in_memory", "in-memory", "24h"]},
    "metadata": {"type": "object", "additionalProperties": _STRING},
    "store": {"type": "boolean"},
    "service_tier": {
        "type": "string",
        "enum": ["auto", "default", "flex", "scale", "priority", "fast"],
    },
    "safety_identifier": _STRING,
}
_TOKEN: Schema = {"type": "integer", "minimum": 0, "maximum": (1 << 31) - 1}
_TEXT: Mapping[str, Schema] = {
    "prompt": {
        "anyOf": [
            _STRING,
            {"type": "array", "minItems": 1, "items": _TOKEN},
            {"type": "array", "minItems": 1, "items": _STRING},
            {
                "type": "array",
                "minItems": 1,
                "items": {"type": "array", "minItems": 1, "items": _TOKEN},
            },
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
