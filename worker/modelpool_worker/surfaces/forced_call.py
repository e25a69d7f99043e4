"""PURE. A chat whose answer has to be a call of a tool, asked as one that has to follow a schema.

llama.cpp holds to ``tool_choice`` only where it knows how a chat template writes calls, and answers
in prose elsewhere; to a schema it holds always.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

Chunk = dict[str, Any]
_NAME = re.compile(r'"name"\s*:\s*("(?:[^"\\]|\\.)*")')
_ARGUMENTS = re.compile(r'"arguments"\s*:\s*')
_REPLACED = ("tool_choice", "parallel_tool_calls", "response_format")


class ForcedCall:
    """Text that follows the schema, told as a call."""

    is_complete = False

    def __init__(self) -> None:
        self._texts: dict[int, str] = {}

    @staticmethod
    def question(body: Mapping[str, Any], *, shows_tools: bool) -> Chunk:
        """The same chat, its answer held to the schemas of the tools that may be called."""
        choice, tools = body["tool_choice"], body["tools"]
        if isinstance(choice, dict):
            tools = [t for t in tools if t["function"]["name"] == choice["function"]["name"]]
        asked = {k: v for k, v in body.items() if k not in _REPLACED}
        if shows_tools:
            asked["tool_choice"] = "none"  # the engine is to make nothing of them
        else:
            del asked["tools"]
        schema = {"name": "tool_call", "schema": calls_schema(tools)}
        return {**asked, "response_format": {"type": "json_schema", "json_schema": schema}}

    def chunk(self, chunk: Chunk) -> list[Chunk]:
        """Text is kept until its choice has ended."""
        told: list[Chunk] = []
        for choice in chunk.get("choices") or ():
            index, delta = choice.get("index", 0), choice.get("delta") or {}
            self._texts[index] = self._texts.get(index, "") + (delta.pop("content", None) or "")
            if choice.get("finish_reason"):
                told += self._called(chunk, choice, index)
        says_more = any(
            c.get("delta") or c.get("finish_reason") for c in chunk.get("choices") or ()
        )
        return [*told, chunk] if says_more or not chunk.get("choices") else told

    def end(self) -> list[Chunk]:
        """Nothing: every choice ends with a reason."""
        return []

    def _called(self, chunk: Chunk, choice: Chunk, index: int) -> list[Chunk]:
        call, is_whole = read_call(self._texts.pop(index, ""))
        if call is None:
            return []
        if is_whole:
            choice["finish_reason"] = "tool_calls"
        said = {"index": 0, "id": f"call_{chunk.get('id', '')}_{index}", "type": "function"}
        delta = {"tool_calls": [{**said, "function": call}]}
        head = {k: v for k, v in chunk.items() if k not in ("choices", "usage", "timings")}
        return [{**head, "choices": [{"index": index, "delta": delta, "finish_reason": None}]}]


def read_call(text: str) -> tuple[dict[str, str] | None, bool]:
    """Name and arguments of a call, and whether it is whole; None where it ends before its name."""
    try:
        call = json.loads(text)
        return {"name": call["name"], "arguments": json.dumps(call["arguments"])}, True
    except (ValueError, KeyError, TypeError):
        name, arguments = _NAME.search(text), _ARGUMENTS.search(text)
    if name is None:
        return None, False
    rest = text[arguments.end() :] if arguments is not None else ""
    return {"name": json.loads(name[1]), "arguments": rest}, False


def calls_schema(tools: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The JSON schema of a call of any of them."""
    definitions: dict[str, Any] = {}
    calls = [_call_schema(tool["function"], n, definitions) for n, tool in enumerate(tools)]
    schema: dict[str, Any] = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return {**schema, "$defs": definitions} if definitions else schema


def _call_schema(function: Mapping[str, Any], n: int, definitions: dict[str, Any]) -> Any:
    parameters = dict(function.get("parameters") or {"type": "object"})
    # What a schema refers to by its root has to move there, without meeting that of another tool.
    for place in ("$defs", "definitions"):
        for name, schema in (parameters.pop(place, None) or {}).items():
            definitions[f"{n}_{name}"] = _moved(schema, n)
    return {
        "type": "object",
        "properties": {"name": {"const": function["name"]}, "arguments": _moved(parameters, n)},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _moved(schema: Any, n: int) -> Any:
    if isinstance(schema, list):
        return [_moved(item, n) for item in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {k: _moved(v, n) for k, v in schema.items()}
    reference = schema.get("$ref")
    if isinstance(reference, str):
        moved["$ref"] = re.sub(r"^#/(?:\$defs|definitions)/", f"#/$defs/{n}_", reference)
    return moved
