"""PURE. OpenAI's Responses API: what checks its requests and describes them, and what becomes of
each parameter.

``BODIES`` says which values a request may hold, ``RULES`` what is done with them. Tools and
content that only OpenAI's servers can run or read are refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.parameter_rules import UNKNOWN, Disposition, Rule, told
from modelpool_client.surfaces.schema import Schema, nullable

RESPONSES_PATH = "/v1/responses"
COUNT_PATH = "/v1/responses/input_tokens"

# OpenAI's own limits, https://platform.openai.com/docs/api-reference/responses/create.
MAX_METADATA, MAX_METADATA_KEY = 16, 64
_MAX_METADATA_VALUE = 512
MAX_TOP_LOGPROBS = 20
# The same as chat completions take.
_MAX_TOOLS = 1024
_MAX_ITEMS = 100_000

_STRING: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_OBJECT: Schema = {"type": "object"}


def _enum(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def _object(properties: Mapping[str, Schema], *required: str) -> Schema:
    """Everything that is not required may be null, which stands for "not given"."""
    shown = {k: v if k in required else nullable(v) for k, v in properties.items()}
    return {"type": "object", "required": list(required), "properties": shown}


# What any part may hold; which of it each type needs is in REQUIRED_OF_PART.
_PART = _object(
    {
        "type": _enum(
            "input_text",
            "input_image",
            "input_audio",
            "input_file",
            "output_text",
            "refusal",
            "reasoning_text",
            "summary_text",
        ),
        "text": _STRING,
        "image_url": _STRING,
        "detail": _enum("auto", "low", "high", "original"),
        "file_id": _STRING,
        "file_data": _STRING,
        "file_url": _STRING,
        "filename": _STRING,
        "input_audio": _object({"data": _STRING, "format": _enum("mp3", "wav")}, "data", "format"),
        "refusal": _STRING,
        "annotations": {"type": "array"},
        "logprobs": {"type": "array"},
        "prompt_cache_breakpoint": _OBJECT,
    },
    "type",
)
_PARTS: Schema = {"type": "array", "items": _PART}
_CONTENT: Schema = {"anyOf": [_STRING, _PARTS]}
REQUIRED_OF_PART: Mapping[str, tuple[str, ...]] = {
    "input_text": ("text",),
    "input_image": ("image_url",),
    "input_audio": ("input_audio",),
    "output_text": ("text",),
    "refusal": ("refusal",),
    "reasoning_text": ("text",),
    "summary_text": ("text",),
}
# By the role of a message.
ALLOWED: Mapping[str, frozenset[str]] = {
    "user": frozenset({"input_text", "input_image", "input_audio", "input_file"}),
    "assistant": frozenset({"output_text", "refusal", "input_text"}),
    "system": frozenset({"input_text"}),
    "developer": frozenset({"input_text"}),
}
ALLOWED_OF_OUTPUT = frozenset({"input_text", "input_image", "input_file"})

# What any item may hold; which of it each type needs is in REQUIRED.
_ITEM = _object(
    {
        "type": {
            **_enum(
                "message",
                "function_call",
                "function_call_output",
                "custom_tool_call",
                "custom_tool_call_output",
                "reasoning",
                "item_reference",
            ),
            "description": "message where there is a role; else item_reference",
        },
        "id": {"type": "string", "minLength": 1},
        "status": _enum("in_progress", "completed", "incomplete"),
        "role": _enum("user", "assistant", "system", "developer"),
        "content": _CONTENT,
        "phase": _enum("commentary", "final_answer"),
        "call_id": {"type": "string", "minLength": 1},
        "name": _STRING,
        "arguments": {"type": "string", "description": "JSON; none, or none in it, is {}"},
        "input": _STRING,
        "output": _CONTENT,
        "summary": _PARTS,
        "encrypted_content": _STRING,
        "caller": _OBJECT,
        "namespace": _STRING,
        "created_by": _STRING,
        "async": _FLAG,
    }
)
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "message": ("role", "content"),
    "function_call": ("call_id", "name"),
    "function_call_output": ("call_id", "output"),
    "custom_tool_call": ("call_id", "name", "input"),
    "custom_tool_call_output": ("call_id", "output"),
    "reasoning": (),
    "item_reference": ("id",),
}

TOOL_KINDS = ("function", "custom")
_TOOL = _object(
    {
        # No enum: whoever asks for one of OpenAI's own is told what to do instead.
        "type": {**_STRING, "description": "function or custom"},
        "name": {"type": "string", "minLength": 1, "maxLength": 128},
        "description": _STRING,
        "parameters": _OBJECT,
        "strict": _FLAG,
        "format": _object({"type": _enum("text", "grammar")}, "type"),
        "allowed_callers": {"type": "array"},
        "async": _FLAG,
        "defer_loading": _FLAG,
        "output_schema": _OBJECT,
    },
    "type",
)
_TOOL_CHOICE: Schema = {
    "anyOf": [
        _enum("none", "auto", "required"),
        _object(
            {
                "type": {**_STRING, "description": "function, custom or allowed_tools"},
                "name": _STRING,
                "mode": _enum("auto", "required"),
                "tools": {"type": "array", "minItems": 1, "items": _OBJECT},
            },
            "type",
        ),
    ]
}
_TEXT = _object(
    {
        "format": _object(
            {
                "type": _enum("text", "json_object", "json_schema"),
                "name": {"type": "string", "minLength": 1},
                "schema": _OBJECT,
                "strict": _FLAG,
                "description": _STRING,
            },
            "type",
        ),
        "verbosity": _enum("low", "medium", "high"),
    }
)
_SUMMARY = _enum("auto", "concise", "detailed")
_REASONING = _object(
    {
        "effort": _enum("none", "minimal", "low", "medium", "high", "xhigh", "max"),
        "summary": _SUMMARY,
        "generate_summary": _SUMMARY,
        "context": _enum("auto", "current_turn", "all_turns"),
        "mode": _STRING,
    }
)
LOGPROBS = "message.output_text.logprobs"
# llama.cpp's own: what a stream tells of its speed.
TELEMETRY = ("timings_per_token", "return_progress")
INCLUDES = (
    LOGPROBS,
    "message.input_image.image_url",
    "reasoning.encrypted_content",
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "web_search_call.action.sources",
    "web_search_call.results",
)
# What decides how long the prompt is.
_PROMPT: Mapping[str, Schema] = {
    "model": _STRING,
    "input": {"anyOf": [_STRING, {"type": "array", "maxItems": _MAX_ITEMS, "items": _ITEM}]},
    "instructions": _STRING,
    "previous_response_id": {"type": "string", "minLength": 1},
    "tools": {"type": "array", "maxItems": _MAX_TOOLS, "items": _TOOL},
    "tool_choice": _TOOL_CHOICE,
    "parallel_tool_calls": _FLAG,
    "text": _TEXT,
    "reasoning": _REASONING,
    "truncation": _enum("auto", "disabled"),
    "conversation": {"anyOf": [_STRING, _OBJECT]},
}
BODIES: Mapping[str, Schema] = {
    RESPONSES_PATH: _object(
        {
            **_PROMPT,
            "stream": _FLAG,
            "stream_options": {
                **_object({"include_obfuscation": _FLAG}),
                "description": "only with stream",
            },
            "temperature": {"type": "number", "minimum": 0, "maximum": 2},
            "top_p": {"type": "number", "minimum": 0, "maximum": 1},
            # OpenAI's own least is 16; small models do with less.
            "max_output_tokens": {"type": "integer", "minimum": 1},
            "max_tool_calls": {"type": "integer", "minimum": 1},
            "top_logprobs": {"type": "integer", "minimum": 0, "maximum": MAX_TOP_LOGPROBS},
            "include": {"type": "array", "items": _enum(*INCLUDES)},
            "metadata": {
                "type": "object",
                "additionalProperties": {"type": "string", "maxLength": _MAX_METADATA_VALUE},
                "description": f"at most {MAX_METADATA} keys of {MAX_METADATA_KEY} characters",
            },
            "store": _FLAG,
            "background": _FLAG,
            "background_options": _OBJECT,
            "prompt": _OBJECT,
            "moderation": _OBJECT,
            "context_management": {"type": "array"},
            "user": _STRING,
            "prompt_cache_key": _STRING,
            "prompt_cache_retention": _enum("in_memory", "in-memory", "24h"),
            "prompt_cache_options": _OBJECT,
            "safety_identifier": _STRING,
            **{name: nullable({"type": "boolean"}) for name in TELEMETRY},
            "service_tier": _enum(
                "auto", "default", "flex", "scale", "priority", "fast", "ultrafast"
            ),
            "access_programs": _OBJECT,
            "image": _OBJECT,
        }
    ),
    COUNT_PATH: _object({**_PROMPT, "personality": _STRING}),
}


def _own(why: str) -> Rule:
    return Rule(Disposition.HONOURED, why)


def _refused(why: str, *neutral: Any) -> Rule:
    return Rule(Disposition.REFUSED, why, neutral)


def _ignored(why: str, *neutral: Any) -> Rule:
    return Rule(Disposition.IGNORED, why, neutral)


_NOT_HOSTED = "means something at OpenAI's own service only"
_CACHES = "prompts are cached as the pool is configured"
_NO_ENCRYPTION = "reasoning is shown as it is: nothing is encrypted, nor can be read if it is"
_NO_SUMMARY = "reasoning is shown as it is, not summed up"
_NO_SUCH_TOOL = "there are no such tools here"
# Every parameter, and of what stands inside one that is honoured whatever is not. Where an engine
# has a say, its own rules follow: what is honoured here is said to it in chat completions' words.
RULES: Mapping[str, Rule] = {
    "model": _own("says which model"),
    "input": _own("a text, or a list of items"),
    "input.encrypted_content": _ignored(_NO_ENCRYPTION),
    "input.phase": _ignored("models here know no phases"),
    "input.caller": _ignored(_NOT_HOSTED),
    "input.namespace": _ignored(_NOT_HOSTED),
    "input.created_by": _ignored(_NOT_HOSTED),
    "input.async": _ignored(_NOT_HOSTED, False),
    **{
        f"input.{place}.{name}": rule
        for place in ("content", "output")
        for name, rule in {
            "detail": _ignored("the model's own size of pictures is used", "auto"),
            "annotations": _ignored("a model reads the text alone", []),
            "logprobs": _ignored("a model reads the text alone", []),
            "prompt_cache_breakpoint": _ignored(_CACHES),
        }.items()
    },
    "instructions": _own("the first message; not carried over from the previous response"),
    "previous_response_id": _own("its items come before the input"),
    "conversation": _refused("no conversations are kept: send previous_response_id, or all items"),
    "prompt": _refused("no prompt templates are kept: send instructions and input"),
    "background": _refused("nothing runs in the background: ask for a stream", False),
    "background_options": _ignored("nothing runs in the background"),
    "context_management": _ignored("nothing is compacted: what is too long is an error", []),
    "moderation": _refused("nothing here moderates"),
    "stream": _own("in pieces, as they are computed"),
    "stream_options": _own("see its own parameters"),
    "stream_options.include_obfuscation": _ignored("nothing is padded here", False),
    "store": _own("kept for GET and previous_response_id as long as there is room; true if absent"),
    "metadata": _own("kept and given back with the response"),
    "include": _own("logprobs; the rest is named as ignored"),
    **{
        f"include.{name}": _ignored(_NO_SUCH_TOOL)
        for name in INCLUDES
        if not name.startswith(("message.", "reasoning."))
    },
    "include.reasoning.encrypted_content": _ignored(_NO_ENCRYPTION),
    "tools": told("tools"),
    "tools.allowed_callers": _ignored(_NOT_HOSTED),
    "tools.async": _ignored(_NOT_HOSTED, False),
    "tools.defer_loading": _ignored("the model is told of all tools at once", False),
    "tools.output_schema": _ignored("what a tool gives is not checked"),
    "tool_choice": told("tool_choice"),
    "parallel_tool_calls": told("parallel_tool_calls"),
    "max_tool_calls": _ignored("is a limit of the tools that OpenAI runs: " + _NO_SUCH_TOOL),
    "text": _own("see its own parameters"),
    "text.format": told("response_format"),
    "text.verbosity": told("verbosity"),
    "reasoning": _own("see its own parameters"),
    "reasoning.effort": told("reasoning_effort", "chat_template_kwargs"),
    "reasoning.summary": _ignored(_NO_SUMMARY),
    "reasoning.generate_summary": _ignored(_NO_SUMMARY),
    "reasoning.context": _ignored("what of former reasoning is read the model decides", "auto"),
    "reasoning.mode": _ignored("models here have one mode", "standard"),
    "temperature": told("temperature"),
    "top_p": told("top_p"),
    "top_logprobs": told("logprobs", "top_logprobs"),
    "max_output_tokens": told("max_tokens"),
    "truncation": _ignored("nothing is dropped: what is too long is an error", "disabled"),
    "user": _own("requests of one user go to the same copy of a model"),
    "prompt_cache_key": _own("requests of one key go to the same copy of a model"),
    "prompt_cache_retention": _ignored(_CACHES),
    "prompt_cache_options": _ignored(_CACHES),
    "safety_identifier": _ignored(_NOT_HOSTED),
    "service_tier": _ignored(_NOT_HOSTED, "auto", "default"),
    "access_programs": _ignored(_NOT_HOSTED),
    "image": _ignored("the model's own size of pictures is used"),
    "personality": _ignored(_NOT_HOSTED),
    **{name: told(name) for name in TELEMETRY},
}
_HONOURED = Rule(Disposition.HONOURED)


def ignored(path: str, data: Mapping[str, Any]) -> tuple[str, ...]:
    """The parameters of a checked request that change nothing, like ``tools.defer_loading``.

    Raises:
        InvalidRequest: one is refused.
    """
    found = set[str]()
    for name, value, rule in _each(BODIES[path], data, ""):
        if rule.how is Disposition.HONOURED or value in rule.neutral:
            continue
        if rule.how is Disposition.REFUSED:
            raise InvalidRequest(f"{name} is not supported here: {rule.why}", param=name)
        found.add(name)
    return tuple(sorted(found))


def _each(schema: Schema, value: Any, where: str) -> Iterator[tuple[str, Any, Rule]]:
    """Everything that a request says by name, and its rule."""
    for option in schema.get("anyOf", (schema,)):
        if isinstance(value, dict) and "properties" in option:
            yield from _members(option["properties"], value, where)
        elif isinstance(value, list) and "items" in option:
            for item in value:
                if isinstance(item, str):  # of include
                    yield f"{where}.{item}", item, RULES.get(f"{where}.{item}", _HONOURED)
                yield from _each(option["items"], item, where)


def _members(
    known: Mapping[str, Schema], value: Mapping[str, Any], where: str
) -> Iterator[tuple[str, Any, Rule]]:
    for name, item in value.items():
        if item is None:
            continue
        inner = f"{where}.{name}" if where else name
        yield inner, item, RULES.get(inner, _HONOURED if name in known else UNKNOWN)
        if name in known:
            yield from _each(known[name], item, inner)
