"""PURE. What Ollama's requests may hold: one table checks them and describes the API.

Everything but what is required may be null, which stands for "not given". What no table knows is
ignored, and named in the answer.
"""

from __future__ import annotations

from collections.abc import Mapping

from modelpool_client.surfaces.schema import CALL_ARGUMENTS, Schema, nullable

CHAT = "/api/chat"
GENERATE = "/api/generate"
EMBED = "/api/embed"
EMBEDDINGS = "/api/embeddings"

_INT31 = (1 << 31) - 1
_INT63 = (1 << 63) - 1
_STRING: Schema = {"type": "string"}
_BOOLEAN: Schema = {"type": "boolean"}
_OBJECT: Schema = {"type": "object"}
_FACTOR: Schema = {"type": "number", "minimum": 0}
_SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
# Bounds of temperature, penalties, stop and logprobs are OpenAI's, in whose words engines are told.
_PENALTY: Schema = {"type": "number", "minimum": -2, "maximum": 2}

# Those that act on a request. All others are ignored, load options such as num_ctx among them:
# they belong to the instance, and a request never causes another load.
OPTIONS: Mapping[str, Schema] = {
    "temperature": {"type": "number", "minimum": 0, "maximum": 2},
    "top_k": {"type": "integer", "minimum": -1, "maximum": _INT31},
    "top_p": _SHARE,
    "min_p": _SHARE,
    "typical_p": _SHARE,
    "seed": {
        "type": "integer",
        "minimum": -_INT63,
        "maximum": _INT63,
        "description": "negative: another one each time",
    },
    "num_predict": {
        "type": "integer",
        "minimum": -2,
        "description": "tokens at most, any number: an answer ends where the context does;"
        " 0, -1 and -2: no limit",
    },
    "num_keep": {"type": "integer", "minimum": -1, "maximum": _INT31},
    "stop": {"anyOf": [_STRING, {"type": "array", "maxItems": 16, "items": _STRING}]},
    "repeat_penalty": _FACTOR,
    "repeat_last_n": {"type": "integer", "minimum": -1, "maximum": _INT31},
    "presence_penalty": _PENALTY,
    "frequency_penalty": _PENALTY,
    "mirostat": {"type": "integer", "enum": [0, 1, 2]},
    "mirostat_tau": _FACTOR,
    "mirostat_eta": _FACTOR,
}
_EVERYWHERE: Mapping[str, Schema] = {
    "model": _STRING,
    "keep_alive": {
        "anyOf": [{"type": "number"}, _STRING],
        "description": "seconds, or a duration like 5m or 1h30m; negative: for ever; 0: unload",
    },
    "options": {
        "type": "object",
        "properties": {name: nullable(schema) for name, schema in OPTIONS.items()},
    },
}
_GENERATING: Mapping[str, Schema] = {
    "stream": {"type": "boolean", "description": "default: true"},
    "format": {
        "anyOf": [{"type": "string", "enum": ["json", ""]}, _OBJECT],
        "description": "json, or a JSON Schema",
    },
    "think": {
        "anyOf": [_BOOLEAN, {"type": "string", "enum": ["low", "medium", "high", "max"]}],
    },
    "truncate": {"type": "boolean", "description": "true is ignored: nothing is cut off a request"},
    "shift": {"type": "boolean", "description": "true is ignored: a full context ends the answer"},
    "logprobs": _BOOLEAN,
    "top_logprobs": {
        "type": "integer",
        "minimum": 0,
        "maximum": 20,
        "description": "only with logprobs",
    },
}
_IMAGES: Schema = {
    "type": "array",
    "items": {"type": "string", "description": "base64 of an image, or of WAV or MP3"},
}
_TOOL_CALL: Schema = {
    "type": "object",
    "required": ["function"],
    "properties": {
        "id": nullable(_STRING),
        "function": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "index": nullable({"type": "integer"}),
                "name": {"type": "string", "minLength": 1},
                "arguments": CALL_ARGUMENTS,
            },
        },
    },
}
MESSAGE: Schema = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": {"type": "string", "enum": ["system", "developer", "user", "assistant", "tool"]},
        "content": nullable(_STRING),
        "thinking": nullable(_STRING),
        "images": nullable(_IMAGES),
        "tool_calls": nullable({"type": "array", "items": _TOOL_CALL}),
        "tool_name": nullable(_STRING),
        "tool_call_id": nullable(_STRING),
    },
}
_TOOL: Schema = {
    "type": "object",
    "required": ["function"],
    "properties": {
        "type": nullable({"type": "string", "enum": ["function"]}),
        "function": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "minLength": 1, "maxLength": 128},
                "description": nullable(_STRING),
                "parameters": nullable(_OBJECT),
            },
        },
    },
}
_CHAT: Mapping[str, Schema] = {
    "messages": {"type": "array", "items": MESSAGE, "description": "none: the model is loaded"},
    "tools": {"type": "array", "maxItems": 1024, "items": _TOOL},
}
_GENERATE: Mapping[str, Schema] = {
    "prompt": {"type": "string", "description": "none: the model is loaded"},
    "suffix": {"type": "string", "description": "what follows the text to be written"},
    "system": _STRING,
    "template": {"type": "string", "maxLength": 0, "description": "refused; raw takes a prompt"},
    "context": {
        "type": "array",
        "items": {"type": "integer"},
        "description": "ignored: conversations go to /api/chat",
    },
    "raw": {"type": "boolean", "description": "the prompt as it is, without the chat template"},
    "images": _IMAGES,
}
_EMBED: Mapping[str, Schema] = {
    "input": {
        "anyOf": [_STRING, {"type": "array", "items": _STRING}],
        "description": "none: the model is loaded",
    },
    "truncate": {"type": "boolean", "description": "true is ignored: nothing is cut off a request"},
    "dimensions": {"type": "integer", "minimum": 0, "maximum": 1 << 20},
}
_EMBEDDINGS: Mapping[str, Schema] = {
    "prompt": {"type": "string", "description": "none: the model is loaded"}
}


def _table(*parts: Mapping[str, Schema]) -> Schema:
    properties = {name: nullable(s) for part in (*parts, _EVERYWHERE) for name, s in part.items()}
    return {"type": "object", "properties": properties}


BODIES: Mapping[str, Schema] = {
    CHAT: _table(_CHAT, _GENERATING),
    GENERATE: _table(_GENERATE, _GENERATING),
    EMBED: _table(_EMBED),
    EMBEDDINGS: _table(_EMBEDDINGS),
}
