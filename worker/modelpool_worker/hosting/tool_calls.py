"""PURE. Calls of tools in what a model writes, by the ways in which models write them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Format:
    """How models of a family write calls.

    Attributes:
        opens: what stands before a call.
        closes: what stands after it; empty where the rest of the answer belongs to it.
        bare: a text that begins with one of these may be a call, too.
        hint: what a chat template of such models has in it.
    """

    opens: str
    closes: str = ""
    bare: tuple[str, ...] = ()
    hint: str = ""


FORMATS: Mapping[str, Format] = {
    "hermes": Format("<tool_call>", "</tool_call>", hint="<tool_call>"),
    "mistral": Format("[TOOL_CALLS]", hint="[TOOL_CALLS]"),
    "llama3": Format("<|python_tag|>", bare=("{",), hint="<|python_tag|>"),
}


def format_of(template: str) -> str:
    """The name of the one that a chat template is made for; empty where it shows none. Llama's
    templates say how calls are written in words."""
    for name, form in FORMATS.items():
        if form.hint in template:
            return name
    is_llama = '"parameters"' in template and "<|start_header_id|>" in template
    return "llama3" if is_llama else ""


@dataclass(frozen=True)
class Call:
    """``arguments`` is JSON."""

    name: str
    arguments: str


class CallFinder:
    """Takes the text of an answer piece by piece: tells what is text, and keeps what are calls.

    ``names`` are the tools that there are; whatever names another is text.
    """

    def __init__(self, form: Format, names: Sequence[str]) -> None:
        self._form = form
        self._names = frozenset(names)
        self._held = ""
        self._is_call = False
        self._has_told = False
        self.calls: list[Call] = []

    def feed(self, text: str) -> str:
        """What of it is certain to be text."""
        self._held += text
        told = ""
        while True:
            if self._is_call:
                if not self._form.closes or self._form.closes not in self._held:
                    break
                inner, _, self._held = self._held.partition(self._form.closes)
                told += self._close(inner, self._form.closes)
            elif self._form.opens in self._held:
                before, _, self._held = self._held.partition(self._form.opens)
                told += self._as_text(before)
                self._is_call = True
            else:
                told += self._certain()
                break
        self._has_told = self._has_told or bool(told.strip())
        return told

    def end(self) -> str:
        """The rest that is text: no more comes."""
        held, self._held = self._held, ""
        if self._is_call:
            return self._close(held, "")
        if self._may_be_bare(held):
            calls = self._read(held)
            if calls:
                self.calls += calls
                return ""
        return self._as_text(held)

    def _close(self, inner: str, closes: str) -> str:
        self._is_call = False
        calls = self._read(inner)
        if calls:
            self.calls += calls
            return ""
        return self._form.opens + inner + closes

    def _as_text(self, text: str) -> str:
        """Nobody means the blanks between calls."""
        return "" if self.calls and not text.strip() else text

    def _certain(self) -> str:
        if self._may_be_bare(self._held):
            return ""
        keep = next(
            (
                n
                for n in range(min(len(self._form.opens) - 1, len(self._held)), 0, -1)
                if self._held.endswith(self._form.opens[:n])
            ),
            0,
        )
        at = len(self._held) - keep
        if not self._has_told or self.calls:  # blanks before a call are held, too
            told = self._held[:at]
            if not told.strip():
                return ""
        told, self._held = self._held[:at], self._held[at:]
        return told

    def _may_be_bare(self, text: str) -> bool:
        start = text.lstrip()
        return bool(self._form.bare) and not self._has_told and start.startswith(self._form.bare)

    def _read(self, text: str) -> list[Call]:
        found = [call for value in _values(text) for call in _calls(value)]
        return found if all(call.name in self._names for call in found) else []


def _values(text: str) -> list[Any]:
    """The JSON values in a row, parted by blanks, semicolons or commas; none if there is more."""
    decoder, values, at = json.JSONDecoder(), [], 0
    text = text.strip().rstrip(";")
    while at < len(text):
        if text[at] in " \n\t;,":
            at += 1
            continue
        try:
            value, at = decoder.raw_decode(text, at)
        except ValueError:
            return _named_values(text)
        values.append(value)
    return values


def _named_values(text: str) -> list[Any]:
    """Mistral's newer way: ``name{arguments}`` or ``name[ARGS]{arguments}``."""
    name, brace, rest = text.partition("{")
    try:
        arguments = json.loads(brace + rest)
    except ValueError:
        return []
    return [{"name": name.replace("[ARGS]", "").strip(), "arguments": arguments}]


def _calls(value: Any) -> list[Call]:
    if isinstance(value, list):
        return [call for item in value for call in _calls(item)]
    if not isinstance(value, dict):
        return []
    function = value.get("function")
    said = function if isinstance(function, dict) else value
    name = said.get("name")
    arguments = said.get("arguments", said.get("parameters", {}))
    if not isinstance(name, str):
        return []
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return [Call(name, text or "{}")]
