"""PURE. What clients send and engines stumble over is put right; contradictions are refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.openai_bodies import BODIES, MESSAGE, NEEDS, NO_LIMIT
from modelpool_client.surfaces.parameters import is_forced
from modelpool_client.surfaces.routes import CHAT_PATH, TEXT_PATH
from modelpool_client.surfaces.schema import Schema

Given = dict[str, Any]
# Engines count in 32 bits, and end an answer where the context ends.
MAX_TOKENS = (1 << 31) - 1
_TOKEN_COUNTS = ("max_tokens", "max_completion_tokens", "n_predict")
NO_ARGUMENTS = "{}"
# How Mistral's clients say "required".
ANY_TOOL = "any"


_ANSWER = "answer"  # a schema has a name at OpenAI, and nowhere else


def schema_beside(wanted: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema that a ``response_format`` says without OpenAI's word for it: llama.cpp has it
    beside ``json_object`` as ``schema``, and text-generation-inference, which huggingface_hub takes
    every server for, as ``value``."""
    if wanted.get("type") not in ("json_object", "json"):
        return None
    told = (wanted[name] for name in ("schema", "value") if isinstance(wanted.get(name), dict))
    return next((schema for schema in told if schema), None)


def normalized(path: str, given: Given) -> Given:
    """The same request; ``given`` itself, and every value of it, where there is nothing to do.

    Raises:
        InvalidRequest: with ``param``.
    """
    changes, changed = (_CHAT if path == CHAT_PATH else _TEXT), Given()
    for name in given:
        if name in changes:
            changed |= changes[name](given)
    if not changed:
        return given
    return {k: v for k, v in {**given, **changed}.items() if v is not None}


def _stop(given: Given) -> Given:
    """An empty one would end every answer before it begins."""
    stop = given.get("stop")
    if stop == "" or stop == []:
        return {"stop": None}
    if isinstance(stop, list) and "" in stop:
        return {"stop": [text for text in stop if text] or None}
    return {}


def _token_counts(given: Given) -> Given:
    changed = {}
    for name in _TOKEN_COUNTS:
        count = given.get(name)
        if isinstance(count, (int, float)):
            counted = _token_count(count)
            if counted is not count:
                changed[name] = counted
    return changed


def _token_count(value: float) -> int | None:
    """JSON's 5.0 is a whole number, too."""
    return None if value == NO_LIMIT else min(int(value), MAX_TOKENS)


def _messages(given: Given) -> Given:
    """Without what is null in them, which is as good as not given: clients send back the messages
    that they got, ``refusal: null`` and all."""
    told = given
    if any(map(_holds_null, given["messages"])):
        told = {"messages": [_without_null(message) for message in given["messages"]]}
    changed = _tool_calls(told)
    return changed or ({} if told is given else told)


def _holds_null(message: Mapping[str, Any]) -> bool:
    content, calls = message.get("content"), message.get("tool_calls")
    if None in message.values():
        # Beside calls engines know it, and agents' conversations are full of it.
        nulls = [name for name, value in message.items() if value is None]
        if nulls != ["content"] or not calls:
            return True
    parts = content if isinstance(content, list) else ()
    if not parts and not calls:  # nearly always
        return False
    return any(None in part.values() for part in (*parts, *(calls or ())))


def _without_null(message: Mapping[str, Any]) -> Mapping[str, Any]:
    said = _given(message)
    for name in ("content", "tool_calls"):
        if isinstance(said.get(name), list):
            said[name] = [_given(part) for part in said[name]]
    if not said.get("tool_calls"):
        said.setdefault("content", "")  # one or the other engines want
    return said


def _tools(given: Given) -> Given:
    """Their schemas are as they came: there null is a value."""
    tools = given["tools"]
    if not any(None in (*tool.values(), *tool["function"].values()) for tool in tools):
        return {}
    return {"tools": [{**_given(t), "function": _given(t["function"])} for t in tools]}


def _given(value: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in value.items() if v is not None}


def _tool_calls(given: Given) -> Given:
    messages = given["messages"]
    for message in messages:
        if (calls := message.get("tool_calls")) and any(map(_lacks_something, calls)):
            break
    else:
        return {}
    return {"messages": [_with_whole_calls(message) for message in messages]}


def _with_whole_calls(message: Mapping[str, Any]) -> Mapping[str, Any]:
    calls = message.get("tool_calls")
    if not calls or not any(map(_lacks_something, calls)):
        return message
    return {**message, "tool_calls": [_call(call) for call in calls]}


def _lacks_something(call: Mapping[str, Any]) -> bool:
    return call.get("type") is None or _lacks_arguments(call)


def call_arguments(said: Any) -> str:
    """The arguments of a call as OpenAI's API has them, JSON in a text, of an API that has them as
    an object: none, and an empty text, is ``{}``."""
    return json.dumps(said or {}, ensure_ascii=False)


def _lacks_arguments(call: Mapping[str, Any]) -> bool:
    arguments = call["function"].get("arguments")
    return arguments is None or (isinstance(arguments, str) and not arguments.strip())


def _call(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """There is one type only, and engines want it said."""
    more = {"arguments": NO_ARGUMENTS} if _lacks_arguments(call) else {}
    return {**call, "type": "function", "function": {**call["function"], **more}}


def _response_format(given: Given) -> Given:
    wanted = given.get("response_format") or {}
    if (schema := schema_beside(wanted)) is not None:
        named = {"name": _ANSWER, "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    if wanted.get("type") == "json":
        return {"response_format": {"type": "json_object"}}
    if wanted.get("type") != "json_schema":
        return {"response_format": _given(wanted)} if None in wanted.values() else {}
    where = "response_format.json_schema"
    if wanted.get("json_schema") is None:
        raise InvalidRequest(f"{where} is required with the type json_schema", param=where)
    if wanted["json_schema"].get("schema") is None:
        where += ".schema"
        raise InvalidRequest(f"{where} is required: the JSON schema to be followed", param=where)
    return {}


def _tool_choice(given: Given) -> Given:
    if given["tool_choice"] == ANY_TOOL:
        return _tool_choice({**given, "tool_choice": "required"}) | {"tool_choice": "required"}
    if not is_forced(given):
        return {}
    choice, tools = given["tool_choice"], given.get("tools") or []
    if not tools:
        raise InvalidRequest("tool_choice needs tools to choose from", param="tool_choice")
    if choice == "required":
        return {}
    kind = choice["type"]
    if kind not in choice:
        where = f"tool_choice.{kind}"
        raise InvalidRequest(f"{where} is required with the type {kind}", param=where)
    if kind == "function":
        _named(tools, [choice["function"]["name"]], "tool_choice.function.name")
        return {}
    allowed = choice["allowed_tools"]
    where = "tool_choice.allowed_tools.tools"
    names = [(tool.get("function") or tool).get("name") for tool in allowed["tools"]]
    return {"tools": _named(tools, names, where), "tool_choice": allowed["mode"]}


def _named(tools: Sequence[Any], names: Sequence[Any], where: str) -> list[Any]:
    known = {tool["function"]["name"]: tool for tool in tools}
    for name in names:
        if not isinstance(name, str) or name not in known:
            text = f"{where} names {str(name)[:128]!r}; tools has {', '.join(known)}"
            raise InvalidRequest(text, param=where)
    return [known[name] for name in dict.fromkeys(names)]


def _best_of(given: Given) -> Given:
    """As many as are asked for are all that there are to choose from."""
    best_of, n = given.get("best_of"), given.get("n", 1)
    if best_of is not None and best_of < n:
        raise InvalidRequest(f"best_of must be at least n, which is {n}", param="best_of")
    return {"best_of": None} if best_of == n else {}


def _echo(given: Given) -> Given:
    if given.get("echo") and not _is_text(given["prompt"]):
        raise InvalidRequest("echo needs a prompt that is text, not tokens", param="echo")
    if given.get("echo") and "logprobs" in given:
        text = "echo with logprobs is not supported here: those of a prompt are not known"
        raise InvalidRequest(text, param="echo")
    return {}


def _suffix(given: Given) -> Given:
    if given.get("suffix") and not isinstance(given["prompt"], str):
        raise InvalidRequest("suffix needs a prompt that is one text", param="suffix")
    return {}


def _is_text(prompt: Any) -> bool:
    return isinstance(prompt, str) or isinstance(prompt[0], str)


_Change = Callable[[Given], Given]
# By the parameter that there has to be for it.
_COMMON: Mapping[str, _Change] = {"stop": _stop, **dict.fromkeys(_TOKEN_COUNTS, _token_counts)}
_CHAT: Mapping[str, _Change] = {
    **_COMMON,
    "messages": _messages,
    "tools": _tools,
    "response_format": _response_format,
    "tool_choice": _tool_choice,
}
_TEXT: Mapping[str, _Change] = {**_COMMON, "best_of": _best_of, "echo": _echo, "suffix": _suffix}
# Parameters that nothing is to be done about if they say just this.
_USUAL: Mapping[str, Schema] = {
    "max_tokens": {"type": "integer", "minimum": 1, "maximum": MAX_TOKENS},
    "messages": {
        "type": "array",
        "minItems": 1,
        "items": {
            **MESSAGE,
            "required": ["role", "content"],
            "properties": {
                **MESSAGE["properties"],
                "content": {"type": "string"},
                "tool_calls": {"anyOf": []},  # none fits
            },
        },
    },
}


def _unchanged(path: str, changes: Mapping[str, _Change]) -> Schema:
    known = {**BODIES[path]["properties"], **_USUAL}
    names = BODIES[path]["properties"].keys() - changes.keys() - NEEDS[path].keys()
    names |= _USUAL.keys() & changes.keys()
    own = {name: known[name] for name in names}
    return {**BODIES[path], "properties": own, "additionalProperties": False}


# By path: bodies that nothing is to be done about, if they hold no null, and no fraction for a
# whole number.
UNCHANGED: Mapping[str, Schema] = {
    CHAT_PATH: _unchanged(CHAT_PATH, _CHAT),
    TEXT_PATH: _unchanged(TEXT_PATH, _TEXT),
}
