"""PURE. What a request of the Messages API says, said to chat completions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple, NoReturn

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.anthropic.tables import (
    ALLOWED,
    CUSTOM_TOOL,
    REQUIRED,
    REQUIRED_OF_SOURCE,
)
from modelpool_client.surfaces.normalize import call_arguments

Json = dict[str, Any]

# What OpenAI has no word for, a model reads in the text.
ERROR_MARK = "Error: "


class _Block(NamedTuple):
    """One piece of content, and its name in errors."""

    where: str
    value: Json

    @property
    def kind(self) -> str:
        return str(self.value["type"])


def chat_body(data: Mapping[str, Any]) -> Json:
    """The body for ``/v1/chat/completions`` of a request that its table lets pass.

    Raises:
        InvalidRequest: with ``param``: a block lacks what its type needs, or stands where it
            cannot; a tool that is not the client's own; what contradicts itself.
    """
    return prompt_body(data) | _sampling(data) | _thinking_budget(data)


def prompt_body(data: Mapping[str, Any]) -> Json:
    """The part of ``chat_body`` that decides how long the prompt is.

    Raises:
        InvalidRequest: as there.
    """
    said = list(_messages(data["messages"]))
    if not said:
        _refuse("messages", "must say something")
    messages = [*_system(data.get("system")), *said]
    return {"messages": messages} | _tools(data) | _template(data) | _response_format(data)


def _system(system: str | list[Json] | None) -> Iterator[Json]:
    text = _joined(_blocks(system or "", "system"))
    if text:
        yield {"role": "system", "content": text}


def _messages(messages: Sequence[Json]) -> Iterator[Json]:
    for role, blocks in _turns(messages):
        yield from _TURNS[role](blocks)


def _turns(messages: Sequence[Json]) -> Iterator[tuple[str, list[_Block]]]:
    """Who speaks, and what; as in the API, neighbours of one role are one turn."""
    said = (
        (message["role"], block)
        for i, message in enumerate(messages)
        for block in _blocks(message["content"], f"messages[{i}].content", ALLOWED[message["role"]])
    )
    for role, turn in groupby(said, key=itemgetter(0)):
        yield role, [block for _, block in turn]


def _blocks(
    content: str | list[Json], where: str, allowed: frozenset[str] | None = None
) -> list[_Block]:
    if isinstance(content, str):
        return [_Block(where, {"type": "text", "text": content})]
    blocks = [_Block(f"{where}[{j}]", value) for j, value in enumerate(content)]
    for block in blocks:
        if allowed is not None and block.kind not in allowed:
            names = ", ".join(sorted(allowed))
            _refuse(f"{block.where}.type", f"may be {names} in this role, not {block.kind}")
        _check_required(REQUIRED[block.kind], block.value, block.where)
    return blocks


def _user(blocks: list[_Block]) -> Iterator[Json]:
    """Results of tools are messages of their own; what stands between them stays there."""
    said: list[_Block] = []
    for block in blocks:
        if block.kind != "tool_result":
            said.append(block)
            continue
        if said:
            yield {"role": "user", "content": _shown(said)}
            said = []
        yield _result(block)
    if said:
        yield {"role": "user", "content": _shown(said)}


def _result(block: _Block) -> Json:
    content = block.value.get("content") or ""
    shown = _shown(_blocks(content, f"{block.where}.content"))
    if block.value.get("is_error"):
        mark = ERROR_MARK
        shown = f"{mark}{shown}" if isinstance(shown, str) else [_text_part(mark), *shown]
    return {"role": "tool", "tool_call_id": block.value["tool_use_id"], "content": shown}


def _assistant(blocks: list[_Block]) -> Iterator[Json]:
    """One message; its parts were cut out of one text, so they are put together as they are."""
    text = "".join(b.value["text"] for b in blocks if b.kind == "text")
    message: Json = {"role": "assistant", "content": text}
    thoughts = [b.value["thinking"] for b in blocks if b.kind == "thinking"]
    if any(thoughts):
        message["reasoning_content"] = "".join(thoughts)
    calls = [_call(b.value) for b in blocks if b.kind == "tool_use"]
    if calls:
        message["tool_calls"] = calls
    yield message


def _call(block: Json) -> Json:
    function = {"name": block["name"], "arguments": call_arguments(block.get("input"))}
    return {"id": block["id"], "type": "function", "function": function}


def _system_turn(blocks: list[_Block]) -> Iterator[Json]:
    yield {"role": "system", "content": _joined(blocks)}


_TURNS: Mapping[str, Callable[[list[_Block]], Iterator[Json]]] = {
    "user": _user,
    "assistant": _assistant,
    "system": _system_turn,
}


def _shown(blocks: list[_Block]) -> str | list[Json]:
    """Plain text, which every engine takes, or parts where there are pictures."""
    if all(block.kind != "image" for block in blocks):
        return _joined(blocks)
    return [
        _image_part(block) if block.kind == "image" else _text_part(_text(block))
        for block in blocks
    ]


def _joined(blocks: list[_Block]) -> str:
    return "\n".join(map(_text, blocks))


def _text_part(text: str) -> Json:
    return {"type": "text", "text": text}


def _image_part(block: _Block) -> Json:
    source = _source(block, ("base64", "url"))
    if source["type"] == "url":
        url = source["url"]
    else:
        media = source["media_type"]
        if not media.startswith("image/"):
            _refuse(f"{block.where}.source.media_type", "must be one of image/…")
        url = f"data:{media};base64,{source['data']}"
    return {"type": "image_url", "image_url": {"url": url}}


def _text(block: _Block) -> str:
    if block.kind == "document":
        return _document(block)
    if block.kind == "search_result":
        return _search_result(block)
    return str(block.value["text"])


def _document(block: _Block) -> str:
    source = _source(block, ("text", "content"))
    head = [block.value.get(key) for key in ("title", "context")]
    if source["type"] == "text":
        text = source["data"]
    else:
        where = f"{block.where}.source.content"
        text = _joined(_texts_of(source["content"], where))
    return "\n".join(filter(None, [*head, text]))


def _texts_of(content: str | list[Any], where: str) -> list[_Block]:
    """What a document holds; its table says no more than that it is a list."""
    for j, item in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(item, dict) or item.get("type") != "text":
            _refuse(f"{where}[{j}]", "must be a text block")
        if not isinstance(item.get("text"), str):
            _refuse(f"{where}[{j}].text", "must be a string")
    return _blocks(content, where)


def _search_result(block: _Block) -> str:
    source = block.value["source"]
    if not isinstance(source, str):
        _refuse(f"{block.where}.source", "must be a string")
    head = f"{block.value['title']} ({source})"
    return "\n".join([head, _joined(_blocks(block.value["content"], f"{block.where}.content"))])


def _source(block: _Block, kinds: tuple[str, ...]) -> Json:
    source, where = block.value["source"], f"{block.where}.source"
    if not isinstance(source, dict):
        _refuse(where, "must be an object")
    if source["type"] not in kinds:
        names = " or ".join(map(repr, kinds))
        _refuse(f"{where}.type", f"must be {names} for a block of type {block.kind}")
    _check_required(REQUIRED_OF_SOURCE[source["type"]], source, where)
    return source


def own_tools(data: Mapping[str, Any]) -> Mapping[int, Json]:
    """The client's own tools by their places. Anthropic's that stand beside them are left out: a
    model that may choose is not wrong to leave them. Alone they are what is asked for, and stay."""
    tools = dict(enumerate(data.get("tools") or ()))
    return {i: tool for i, tool in tools.items() if _kind(tool) == CUSTOM_TOOL} or tools


def left_out(data: Mapping[str, Any]) -> tuple[str, ...]:
    """The tools that ``own_tools`` leaves out, like ``tools.web_search_20250305``."""
    own = own_tools(data)
    tools = enumerate(data.get("tools") or ())
    return tuple(sorted({f"tools.{_kind(tool)}" for i, tool in tools if i not in own}))


def _kind(tool: Json) -> str:
    return tool.get("type") or CUSTOM_TOOL


def _tools(data: Mapping[str, Any]) -> Json:
    tools = [_tool(tool, f"tools[{i}]") for i, tool in own_tools(data).items()]
    choice = _tool_choice(data.get("tool_choice") or {}, [t["function"]["name"] for t in tools])
    return {"tools": tools} | choice if tools else {}


def _tool(tool: Json, where: str) -> Json:
    kind = _kind(tool)
    if kind != CUSTOM_TOOL:
        _refuse(
            f"{where}.type",
            f"{kind[:64]!r} is a tool that Anthropic defines or runs; here tools are the client's "
            "own: leave the type out and give name and input_schema",
        )
    _check_required(("name", "input_schema"), tool, where)
    function = {"name": tool["name"], "parameters": tool["input_schema"]}
    told = {key: tool[key] for key in ("description", "strict") if tool.get(key) is not None}
    return {"type": "function", "function": function | told}


_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def _tool_choice(choice: Json, names: list[str]) -> Json:
    if not choice:
        return {}
    kind = choice["type"]
    if kind in ("any", "tool") and not names:
        _refuse("tool_choice", "needs tools")
    if kind != "tool":
        told: Json = {"tool_choice": _CHOICES[kind]}
    else:
        _check_required(("name",), choice, "tool_choice")
        if choice["name"] not in names:
            _refuse("tool_choice.name", f"must be one of {', '.join(map(repr, names))}")
        told = {"tool_choice": {"type": "function", "function": {"name": choice["name"]}}}
    alone = choice.get("disable_parallel_tool_use")
    return told if alone is None else told | {"parallel_tool_calls": not alone}


# The words of chat templates, which llama.cpp, vLLM and SGLang hand on under this name; adaptive
# leaves it to the model how long it thinks, which is all that local ones know.
_THINKS = {"enabled": True, "adaptive": True, "disabled": False}
# Templates know three; OpenAI's own word knows one more, and none knows Anthropic's last.
_EFFORTS = {"xhigh": "high", "max": "high"}


def _template(data: Mapping[str, Any]) -> Json:
    thinks = _THINKS.get((data.get("thinking") or {}).get("type", ""))
    effort = (data.get("output_config") or {}).get("effort")
    words: Json = {} if thinks is None else {"enable_thinking": thinks}
    if effort is None:
        return {"chat_template_kwargs": words} if words else {}
    effort = _EFFORTS.get(effort, effort)
    words["reasoning_effort"] = effort
    return {"chat_template_kwargs": words, "reasoning_effort": effort}


def _thinking_budget(data: Mapping[str, Any]) -> Json:
    thinking = data.get("thinking") or {}
    if thinking.get("type") != "enabled":
        return {}
    _check_required(("budget_tokens",), thinking, "thinking")
    budget = int(thinking["budget_tokens"])
    if budget >= data["max_tokens"]:
        _refuse("thinking.budget_tokens", "must be less than max_tokens")
    return {"thinking_budget_tokens": budget}  # llama.cpp's word


def _response_format(data: Mapping[str, Any]) -> Json:
    wanted = (data.get("output_config") or {}).get("format")
    if not wanted:
        return {}
    schema = {"name": "output", "schema": wanted["schema"], "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def stop_sequences(data: Mapping[str, Any]) -> list[str]:
    """Those that can stop something: an empty one would stop everything."""
    return [stop for stop in data.get("stop_sequences") or () if stop]


def _sampling(data: Mapping[str, Any]) -> Json:
    told: Json = {"max_tokens": int(data["max_tokens"])}
    for name in ("temperature", "top_p"):
        if data.get(name) is not None:
            told[name] = data[name]
    if data.get("top_k") is not None:
        told["top_k"] = int(data["top_k"])
    if stops := stop_sequences(data):
        told["stop"] = stops
    if user := (data.get("metadata") or {}).get("user_id"):
        told["user"] = user
    return told


def _check_required(names: tuple[str, ...], value: Mapping[str, Any], where: str) -> None:
    for name in names:
        if value.get(name) is None:
            _refuse(f"{where}.{name}", "is required")


def _refuse(where: str, why: str) -> NoReturn:
    raise InvalidRequest(f"{where} {why}", param=where)
