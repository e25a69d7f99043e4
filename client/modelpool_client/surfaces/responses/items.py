"""PURE. The input of a request as items in their full form: what is kept, shown to whoever asks for
it, and told to the engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.responses.ids import Ids
from modelpool_client.surfaces.responses.tables import (
    ALLOWED,
    ALLOWED_OF_OUTPUT,
    REQUIRED,
    REQUIRED_OF_PART,
)

Json = dict[str, Any]

# A reference is a few bytes; what it stands for is told again.
MOST_REFERRED_BYTES = 4 << 20
CALLS = {
    "function_call_output": "function_call",
    "custom_tool_call_output": "custom_tool_call",
}


def full_items(given: str | Sequence[Json], context: Sequence[Json], ids: Ids) -> list[Json]:
    """What a request says beside its ``context``, the items of earlier responses. Each has an id,
    a type, a status and parts as its content.

    Raises:
        InvalidRequest: with ``param``: an item lacks what its type needs, holds what it cannot, or
            means one that is not there.
    """
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    reader = _Reader(context, ids)
    return [reader.read(item, f"input[{i}]") for i, item in enumerate(given)]


class _Reader:
    def __init__(self, context: Sequence[Json], ids: Ids) -> None:
        self._ids = ids
        self._known = {item["id"]: item for item in context}
        self._calls = {(item["type"], item.get("call_id")) for item in context}
        self._referred_to: set[str] = set()
        self._left = MOST_REFERRED_BYTES

    def read(self, item: Json, where: str) -> Json:
        kind = item.get("type") or ("item_reference" if item.get("role") is None else "message")
        _check_required(REQUIRED[kind], item, where)
        if kind == "item_reference":
            return self._referred(item["id"], where)
        call = CALLS.get(kind)
        if call and (call, item["call_id"]) not in self._calls:
            shown = item["call_id"][:128]
            _refuse(f"{where}.call_id", f"{shown!r} is of no {call} before it")
        head = {"id": item.get("id") or self._ids.new(kind), "type": kind}
        read = {**head, **_READERS[kind](item, where), "status": item.get("status") or "completed"}
        self._known[read["id"]] = read
        self._calls.add((kind, read.get("call_id")))
        return read

    def _referred(self, item_id: str, where: str) -> Json:
        item = self._known.get(item_id)
        if item is None:
            _refuse(
                f"{where}.id",
                f"{item_id[:128]!r} is no item before it: send the item itself, or the "
                "previous_response_id of a stored response that has it",
            )
        if item_id in self._referred_to:
            _refuse(f"{where}.id", f"{item_id[:128]!r} is referred to already")
        self._referred_to.add(item_id)
        self._left -= len(json.dumps(item))
        if self._left < 0:
            most = f"{MOST_REFERRED_BYTES:,} bytes"
            _refuse(f"{where}.id", f"refers to more than {most} together with those before it")
        return item


def _message(item: Json, where: str) -> Json:
    role = item["role"]
    parts = _parts(item["content"], f"{where}.content", ALLOWED[role], _TEXT_OF.get(role))
    if role == "assistant":
        parts = [_said(part) for part in parts]
    return {"role": role, "content": parts}


_TEXT_OF = {"assistant": "output_text"}


def _said(part: Json) -> Json:
    if part["type"] == "refusal":
        return {"type": "refusal", "refusal": part["refusal"]}
    shown = {key: part[key] for key in ("annotations", "logprobs") if part.get(key)}
    return {"type": "output_text", "text": part["text"], "annotations": [], **shown}


def _function_call(item: Json, where: str) -> Json:
    arguments = item.get("arguments") or ""
    shown = arguments if arguments.strip() else "{}"
    return {"call_id": item["call_id"], "name": item["name"], "arguments": shown}


def _custom_call(item: Json, where: str) -> Json:
    return {key: item[key] for key in ("call_id", "name", "input")}


def _output(item: Json, where: str) -> Json:
    output = item["output"]
    if not isinstance(output, str):
        output = _parts(output, f"{where}.output", ALLOWED_OF_OUTPUT)
    return {"call_id": item["call_id"], "output": output}


def _reasoning(item: Json, where: str) -> Json:
    summary = _parts(item.get("summary") or [], f"{where}.summary", {"summary_text"})
    content = item.get("content") or []
    parts = _parts(content, f"{where}.content", {"reasoning_text"}, "reasoning_text")
    return {"summary": summary, "content": parts}


_READERS: Mapping[str, Callable[[Json, str], Json]] = {
    "message": _message,
    "function_call": _function_call,
    "function_call_output": _output,
    "custom_tool_call": _custom_call,
    "custom_tool_call_output": _output,
    "reasoning": _reasoning,
}


def _parts(
    content: str | list[Json],
    where: str,
    allowed: Collection[str],
    kind_of_text: str | None = None,
) -> list[Json]:
    if isinstance(content, str):
        return [{"type": kind_of_text or "input_text", "text": content}]
    return [_part(part, f"{where}[{j}]", allowed) for j, part in enumerate(content)]


def _part(part: Json, where: str, allowed: Collection[str]) -> Json:
    kind = part["type"]
    if kind not in allowed:
        names = ", ".join(sorted(allowed))
        _refuse(f"{where}.type", f"may be {names} here, not {kind}")
    if kind == "input_file":
        text = "input_file is not supported here: nothing reads files; send the text as input_text"
        raise InvalidRequest(f"{where}.type {text}", param=f"{where}.type")
    if kind == "input_image" and part.get("file_id"):
        _refuse(f"{where}.file_id", "is not supported here: no files are kept; send image_url")
    _check_required(REQUIRED_OF_PART[kind], part, where)
    told = {key: value for key, value in part.items() if value is not None}
    return {**told, "detail": told.get("detail", "auto")} if kind == "input_image" else told


def _check_required(names: tuple[str, ...], value: Mapping[str, Any], where: str) -> None:
    for name in names:
        if value.get(name) is None:
            _refuse(f"{where}.{name}", "is required")


def _refuse(where: str, why: str) -> NoReturn:
    raise InvalidRequest(f"{where} {why}", param=where)
