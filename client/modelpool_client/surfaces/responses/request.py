"""PURE. What a request of the Responses API says, said to chat completions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, takewhile
from typing import Any, NoReturn

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.responses.tables import (
    LOGPROBS,
    MAX_METADATA,
    MAX_METADATA_KEY,
    TOOL_KINDS,
)

Json = dict[str, Any]

# The one argument of a function that stands for a custom tool.
CUSTOM_INPUT = "input"


def check_together(data: Mapping[str, Any]) -> None:
    """What no table can say of a request.

    Raises:
        InvalidRequest: with ``param``.
    """
    if data.get("stream_options") is not None and not data.get("stream"):
        _refuse("stream_options", "needs stream")
    metadata = data.get("metadata") or {}
    if len(metadata) > MAX_METADATA:
        _refuse("metadata", f"must have at most {MAX_METADATA} keys, not {len(metadata)}")
    for key in metadata:
        if len(key) > MAX_METADATA_KEY:
            shown = f"{key[:MAX_METADATA_KEY]}..."
            _refuse(f"metadata.{shown}", f"must have at most {MAX_METADATA_KEY} characters")


def chat_body(data: Mapping[str, Any], items: Sequence[Json]) -> Json:
    """The body for ``/v1/chat/completions`` of a request that its table lets pass; ``items`` are
    all that its conversation has.

    Raises:
        InvalidRequest: with ``param``: it says nothing, asks for tools that are not the client's
            own, or contradicts itself.
    """
    return prompt_body(data, items) | _sampling(data) | _logprobs(data)


def prompt_body(data: Mapping[str, Any], items: Sequence[Json]) -> Json:
    """The part of ``chat_body`` that decides how long the prompt is.

    Raises:
        InvalidRequest: as there.
    """
    messages = list(_messages(data.get("instructions"), items))
    if not messages:
        _refuse("input", "is required: a text, or a list of items")
    return {"messages": messages} | _tools(data) | _reasoning(data) | _text(data)


def _messages(instructions: str | None, items: Sequence[Json]) -> Iterator[Json]:
    """What the system says at first is one message: templates have a place for no more."""
    head = list(takewhile(lambda item: _speaker(item) == "system", items))
    texts = [instructions or "", *(_joined(item["content"]) for item in head)]
    if any(texts):
        yield {"role": "system", "content": "\n\n".join(filter(None, texts))}
    for speaker, turn in groupby(items[len(head) :], key=_speaker):
        yield from _TURNS[speaker](turn)


def _speaker(item: Json) -> str:
    return _SPEAKERS.get(item["type"]) or _SPEAKERS.get(item["role"]) or str(item["role"])


# Models here know no developers beside the system.
_SPEAKERS = {
    "developer": "system",
    "reasoning": "assistant",
    "function_call": "assistant",
    "custom_tool_call": "assistant",
    "function_call_output": "tool",
    "custom_tool_call_output": "tool",
}


def _assistant(items: Iterable[Json]) -> Iterator[Json]:
    """One message: reasoning, text and calls of a turn are three of its fields."""
    thoughts, texts, calls = list[str](), list[str](), list[Json]()
    for item in items:
        if item["type"] == "reasoning":
            thoughts.append(_joined(item["content"] or item["summary"]))
        elif item["type"] == "message":
            texts.append("".join(part.get("text", part.get("refusal")) for part in item["content"]))
        else:
            calls.append(_call(item))
    message: Json = {"role": "assistant", "content": "\n".join(texts)}
    if any(thoughts):
        message["reasoning_content"] = "\n".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    yield message


def _call(item: Json) -> Json:
    if item["type"] == "custom_tool_call":
        arguments = json.dumps({CUSTOM_INPUT: item["input"]}, ensure_ascii=False)
    else:
        arguments = item["arguments"]
    function = {"name": item["name"], "arguments": arguments}
    return {"id": item["call_id"], "type": "function", "function": function}


def _results(items: Iterable[Json]) -> Iterator[Json]:
    for item in items:
        output = item["output"]
        content = output if isinstance(output, str) else _shown(output)
        yield {"role": "tool", "tool_call_id": item["call_id"], "content": content}


def _user(items: Iterable[Json]) -> Iterator[Json]:
    for item in items:
        yield {"role": "user", "content": _shown(item["content"])}


def _system(items: Iterable[Json]) -> Iterator[Json]:
    for item in items:
        yield {"role": "system", "content": _joined(item["content"])}


_TURNS: Mapping[str, Callable[[Iterable[Json]], Iterator[Json]]] = {
    "assistant": _assistant,
    "tool": _results,
    "user": _user,
    "system": _system,
}


def _shown(parts: Sequence[Json]) -> str | list[Json]:
    """Plain text, which every engine takes, or parts where there are pictures or sounds."""
    if all(part["type"] == "input_text" for part in parts):
        return _joined(parts)
    return [_PARTS[part["type"]](part) for part in parts]


_PARTS: Mapping[str, Callable[[Json], Json]] = {
    "input_text": lambda part: {"type": "text", "text": part["text"]},
    "input_image": lambda part: {"type": "image_url", "image_url": {"url": part["image_url"]}},
    "input_audio": lambda part: {"type": "input_audio", "input_audio": part["input_audio"]},
}


def _joined(parts: Sequence[Json]) -> str:
    return "\n".join(part["text"] for part in parts)


def custom_tools(data: Mapping[str, Any]) -> frozenset[str]:
    """The names of the tools whose input is a text."""
    tools = data.get("tools") or ()
    return frozenset(tool["name"] for tool in tools if tool["type"] == "custom")


def own_tools(data: Mapping[str, Any]) -> Mapping[int, Json]:
    """The client's own tools by their places. What stands beside them and no model can be told of,
    OpenAI's and those whose input follows a grammar, is left out: a model that may choose is not
    wrong to leave it. Alone that is what is asked for, and stays."""
    tools = dict(enumerate(data.get("tools") or ()))
    return {i: tool for i, tool in tools.items() if _can_be_told(tool)} or tools


def _can_be_told(tool: Json) -> bool:
    return tool["type"] in TOOL_KINDS and not _has_grammar(tool)


def _has_grammar(tool: Json) -> bool:
    return (tool.get("format") or {}).get("type") == "grammar"


def left_out(data: Mapping[str, Any]) -> tuple[str, ...]:
    """The tools that ``own_tools`` leaves out, like ``tools.web_search``."""
    own = own_tools(data)
    tools = enumerate(data.get("tools") or ())
    return tuple(sorted({f"tools.{tool['type']}" for i, tool in tools if i not in own}))


def _tools(data: Mapping[str, Any]) -> Json:
    given = own_tools(data)
    tools = [_tool(tool, f"tools[{i}]") for i, tool in given.items()]
    _check_names(given)
    told = _tool_choice(data.get("tool_choice"), list(given.values()))
    if tools and data.get("parallel_tool_calls") is not None:
        told["parallel_tool_calls"] = data["parallel_tool_calls"]
    return {"tools": tools} | told if tools else {}


def _tool(tool: Json, where: str) -> Json:
    kind = tool["type"]
    if kind not in TOOL_KINDS:
        _refuse(
            f"{where}.type",
            f"{kind[:64]!r} is a tool that OpenAI defines or runs; here tools are the client's "
            "own: send one of type function, or of type custom with a format of text",
        )
    if tool.get("name") is None:
        _refuse(f"{where}.name", "is required")
    function = {"name": tool["name"], **_TOOLS[kind](tool, where)}
    if tool.get("description") is not None:
        function["description"] = tool["description"]
    return {"type": "function", "function": function}


def _function(tool: Json, where: str) -> Json:
    return {key: tool[key] for key in ("parameters", "strict") if tool.get(key) is not None}


def _custom(tool: Json, where: str) -> Json:
    """A function of one text."""
    if _has_grammar(tool):
        _refuse(
            f"{where}.format.type",
            "must be 'text': what a tool is given cannot be held to a grammar here",
        )
    properties = {CUSTOM_INPUT: {"type": "string"}}
    schema = {"type": "object", "properties": properties, "required": [CUSTOM_INPUT]}
    return {"parameters": {**schema, "additionalProperties": False}}


_TOOLS: Mapping[str, Callable[[Json, str], Json]] = {"function": _function, "custom": _custom}


def _check_names(tools: Mapping[int, Json]) -> None:
    """Of a call no more is known than its name."""
    kinds: dict[str, str] = {}
    for i, tool in tools.items():
        if kinds.setdefault(tool["name"], tool["type"]) != tool["type"]:
            _refuse(f"tools[{i}].name", f"{tool['name']!r} is that of a tool of another type, too")


def _tool_choice(choice: str | Json | None, tools: Sequence[Json]) -> Json:
    if choice is None:
        return {}
    if isinstance(choice, str):
        if choice == "required" and not tools:
            _refuse("tool_choice", "needs tools to choose from")
        return {"tool_choice": choice}
    kind = choice["type"]
    if kind == "allowed_tools":
        return {"tool_choice": _allowed(choice, tools)}
    if kind not in TOOL_KINDS:
        known = ", ".join(map(repr, [*TOOL_KINDS, "allowed_tools"]))
        _refuse("tool_choice.type", f"must be one of {known}, not {kind[:64]!r}")
    return {"tool_choice": _named(kind, choice.get("name"), tools, "tool_choice")}


def _allowed(choice: Json, tools: Sequence[Json]) -> Json:
    for name in ("mode", "tools"):
        if choice.get(name) is None:
            _refuse(f"tool_choice.{name}", "is required with the type allowed_tools")
    allowed = [
        _named(tool.get("type"), tool.get("name"), tools, f"tool_choice.tools[{i}]")
        for i, tool in enumerate(choice["tools"])
    ]
    return {
        "type": "allowed_tools",
        "allowed_tools": {"mode": choice["mode"], "tools": allowed},
    }


def _named(kind: Any, name: Any, tools: Sequence[Json], where: str) -> Json:
    names = [tool["name"] for tool in tools if tool["type"] == kind]
    if name not in names:
        known = ", ".join(map(repr, names)) or "none, for tools has none of this type"
        _refuse(f"{where}.name", f"must be one of {known}")
    return {"type": "function", "function": {"name": name}}


# Chat templates know three efforts, and whether to think at all.
_EFFORTS = {"minimal": "low", "xhigh": "high", "max": "high"}


def _reasoning(data: Mapping[str, Any]) -> Json:
    effort = (data.get("reasoning") or {}).get("effort")
    if effort is None:
        return {}
    if effort == "none":
        return {"reasoning_effort": effort, "chat_template_kwargs": {"enable_thinking": False}}
    effort = _EFFORTS.get(effort, effort)
    return {"reasoning_effort": effort, "chat_template_kwargs": {"reasoning_effort": effort}}


def _text(data: Mapping[str, Any]) -> Json:
    text = data.get("text") or {}
    told = _response_format(text.get("format") or {})
    return told if text.get("verbosity") is None else told | {"verbosity": text["verbosity"]}


def _response_format(wanted: Json) -> Json:
    kind = wanted.get("type", "text")
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"response_format": {"type": kind}}
    for name in ("name", "schema"):
        if wanted.get(name) is None:
            _refuse(f"text.format.{name}", "is required with the type json_schema")
    known = ("name", "schema", "strict", "description")
    schema = {key: wanted[key] for key in known if wanted.get(key) is not None}
    return {"response_format": {"type": kind, kind: schema}}


_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_output_tokens": "max_tokens",
    "user": "user",
    "prompt_cache_key": "prompt_cache_key",
}


def _sampling(data: Mapping[str, Any]) -> Json:
    return {told: data[name] for name, told in _SAMPLING.items() if data.get(name) is not None}


def shows_logprobs(data: Mapping[str, Any]) -> bool:
    """They are asked for, in either of two ways."""
    return LOGPROBS in (data.get("include") or ()) or bool(data.get("top_logprobs"))


def _logprobs(data: Mapping[str, Any]) -> Json:
    if not shows_logprobs(data):
        return {}
    return {"logprobs": True, "top_logprobs": int(data.get("top_logprobs") or 0)}


def _refuse(where: str, why: str) -> NoReturn:
    raise InvalidRequest(f"{where} {why}", param=where)
