"""PURE. A request for a chat, said in the words of Anthropic's Messages API."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from modelpool_client.errors import InvalidRequest

Json = dict[str, Any]

_DATA = re.compile(r"data:([^;,]+);base64,(.*)", re.DOTALL)
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}
_EFFORTS = {"minimal": "low"}
_CACHE = "cache_control"
# A tool that takes nothing.
_NO_INPUT: Json = {"type": "object", "properties": {}}


def messages_body(said: Mapping[str, Any], max_tokens: int) -> Json:
    """The body for ``/v1/messages`` of a checked one for chat completions, without its model.

    Args:
        max_tokens: where the request names none; the Messages API needs some.

    Raises:
        InvalidRequest: with ``param``: what cannot be said there.
    """
    body: Json = {"max_tokens": _most_tokens(said, max_tokens)}
    system, turns = _conversation(said["messages"])
    if system:
        body["system"] = system
    body["messages"] = turns
    body |= _tools(said) | _output(said) | _sampling(said)
    if said.get("stream"):
        body["stream"] = True
    if said.get("user"):
        body["metadata"] = {"user_id": said["user"]}
    return body


def _most_tokens(said: Mapping[str, Any], default: int) -> int:
    given = said.get("max_completion_tokens") or said.get("max_tokens")
    return given if isinstance(given, int) and given > 0 else default


def _conversation(messages: list[Json]) -> tuple[str | list[Json], list[Json]]:
    """The system's texts, wherever they stand, and turns that alternate."""
    system: list[Json] = []
    turns: list[Json] = []
    for i, message in enumerate(messages):
        where, role = f"messages[{i}].content", message["role"]
        if role in ("system", "developer"):
            system += _blocks(message.get("content"), where, texts_only=True)
            continue
        speaker = "assistant" if role == "assistant" else "user"
        blocks = list(_BLOCKS[role](message, where, i))
        if not blocks:
            continue
        if turns and turns[-1]["role"] == speaker:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": speaker, "content": blocks})
    if not turns:
        _refuse("messages", "must say something beside what the system says")
    if any(_CACHE in block for block in system):
        return system, turns
    return "\n\n".join(block["text"] for block in system), turns


def _user(message: Json, where: str, i: int) -> Iterator[Json]:
    yield from _blocks(message.get("content"), where)


def _assistant(message: Json, where: str, i: int) -> Iterator[Json]:
    # What it thought goes back with its signature, or not at all: others are refused there.
    yield from message.get("thinking_blocks") or ()
    yield from _blocks(message.get("content"), where, texts_only=True)
    for j, call in enumerate(message.get("tool_calls") or ()):
        function = call["function"]
        at = f"messages[{i}].tool_calls[{j}].function.arguments"
        value = _arguments(function.get("arguments"), at)
        yield {
            "type": "tool_use",
            "id": call.get("id") or f"call_{i}_{j}",
            "name": function["name"],
            "input": value,
        }


def _tool(message: Json, where: str, i: int) -> Iterator[Json]:
    if not message.get("tool_call_id"):
        _refuse(f"messages[{i}].tool_call_id", "is required of a tool")
    content = list(_blocks(message.get("content"), where))
    block = {"type": "tool_result", "tool_use_id": message["tool_call_id"]}
    yield block | ({"content": content} if content else {})


def _function(message: Json, where: str, i: int) -> Iterator[Json]:
    _refuse(f"messages[{i}].role", "function is OpenAI's former role: send tool")


_BLOCKS = {"user": _user, "assistant": _assistant, "tool": _tool, "function": _function}


def _blocks(content: Any, where: str, *, texts_only: bool = False) -> Iterator[Json]:
    """Empty texts are refused there, and say nothing."""
    if isinstance(content, str):
        if content:
            yield {"type": "text", "text": content}
        return
    for j, part in enumerate(content or ()):
        kind, at = part["type"], f"{where}[{j}]"
        cached = _cached(part)
        if kind in ("text", "refusal"):
            if text := part.get(kind) or part.get("text"):
                yield {"type": "text", "text": text} | cached
        elif texts_only:
            _refuse(f"{at}.type", f"must be text here, not {kind}")
        elif kind == "image_url":
            yield _image(part, at) | cached
        elif kind == "file":
            yield _file(part, at) | cached
        else:
            _refuse(f"{at}.type", f"{kind} cannot be sent to Anthropic")


def _cached(said: Json) -> Json:
    """Up to where the prompt is to be cached, as those say who know Anthropic's word for it."""
    return {_CACHE: said[_CACHE]} if said.get(_CACHE) else {}


def _image(part: Json, where: str) -> Json:
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str):
        _refuse(f"{where}.image_url.url", "is required")
    if found := _DATA.fullmatch(url):
        source = {"type": "base64", "media_type": found[1], "data": found[2]}
    else:
        source = {"type": "url", "url": url}
    return {"type": "image", "source": source}


def _file(part: Json, where: str) -> Json:
    file = part.get("file") or {}
    found = _DATA.fullmatch(str(file.get("file_data")))
    if found is None:
        _refuse(f"{where}.file.file_data", "must be a data: URL in base64; files are not uploaded")
    source = {"type": "base64", "media_type": found[1], "data": found[2]}
    title = {"title": file["filename"]} if file.get("filename") else {}
    return {"type": "document", "source": source} | title


def _arguments(given: Any, where: str) -> Json:
    if isinstance(given, dict):
        return given
    try:
        value = json.loads(given or "{}")
    except ValueError:
        value = None
    if not isinstance(value, dict):
        _refuse(where, "must be a JSON object")
    return value


def _tools(said: Mapping[str, Any]) -> Json:
    tools = [_own_tool(tool["function"]) | _cached(tool) for tool in said.get("tools") or ()]
    if not tools:
        return {}
    choice = _choice(said.get("tool_choice"))
    if said.get("parallel_tool_calls") is False:
        choice = choice or {"type": "auto"}
        if choice["type"] != "none":
            choice["disable_parallel_tool_use"] = True
    return {"tools": tools} | ({"tool_choice": choice} if choice else {})


def _own_tool(function: Json) -> Json:
    kept = {k: function[k] for k in ("description", "strict") if function.get(k) is not None}
    schema = function.get("parameters") or _NO_INPUT
    return {"name": function["name"], "input_schema": schema} | kept


def _choice(given: Any) -> Json:
    if not given:
        return {}
    if isinstance(given, str):
        return {"type": _CHOICES[given]}
    return {"type": "tool", "name": given["function"]["name"]}


def _output(said: Mapping[str, Any]) -> Json:
    told: Json = {}
    if isinstance(thinking := said.get("thinking"), dict):
        told["thinking"] = thinking
    config: Json = {}
    effort = said.get("reasoning_effort")
    if effort == "none":
        told.setdefault("thinking", {"type": "disabled"})
    elif effort is not None:
        config["effort"] = _EFFORTS.get(effort, effort)
    wanted = said.get("response_format") or {}
    if wanted.get("type") == "json_object":
        text = "json_object is nothing that Anthropic knows: send json_schema with a schema"
        _refuse("response_format.type", text)
    if wanted.get("type") == "json_schema":
        config["format"] = {"type": "json_schema", "schema": wanted["json_schema"]["schema"]}
    return told | ({"output_config": config} if config else {})


def _sampling(said: Mapping[str, Any]) -> Json:
    kept = ("temperature", "top_p", "top_k")
    told: Json = {name: said[name] for name in kept if said.get(name) is not None}
    if stop := said.get("stop"):
        told["stop_sequences"] = [stop] if isinstance(stop, str) else list(stop)
    return told


def _refuse(param: str, problem: str) -> NoReturn:
    raise InvalidRequest(f"{param} {problem}", param=param, source="worker")
