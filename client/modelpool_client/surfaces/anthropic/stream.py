"""PURE. A stream of chat completions, told as the events of the Messages API."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelpool_client.surfaces.anthropic import answers
from modelpool_client.surfaces.text_events import TextEvents

Json = dict[str, Any]

PING = b'event: ping\ndata: {"type":"ping"}\n\n'

_STARTS: dict[str, Json] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}
_DELTAS = {"text": "text_delta", "thinking": "thinking_delta"}


def event(kind: str, **fields: Any) -> bytes:
    """One event, its type both in its line and in its data."""
    data = _ENCODER.encode({"type": kind, **fields})
    return f"event: {kind}\ndata: {data}\n\n".encode()


# Made once: json.dumps makes an encoder for every call with separators.
_ENCODER = json.JSONEncoder(separators=(",", ":"))


class Blocks:
    """Content blocks one after another: at most one is open, and each ends before the next."""

    def __init__(self) -> None:
        self._index = -1
        self._open: str | None = None
        self._deltas: TextEvents | None = None  # of the open one

    def start(self, kind: str, block: Json) -> bytes:
        """End the open one and begin another."""
        before = self.stop()
        self._index, self._open, self._deltas = self._index + 1, kind, None
        return before + event("content_block_start", index=self._index, content_block=block)

    def say(self, kind: str, text: str) -> bytes:
        """Text or thinking, in the open block if it is of that kind."""
        start = b"" if self._open == kind else self.start(kind, _STARTS[kind])
        return start + self._delta(_DELTAS[kind], kind, text)

    def arguments(self, text: str) -> bytes:
        """More of the arguments of the tool call whose block is open; nothing is no event."""
        return self._delta("input_json_delta", "partial_json", text) if text else b""

    def stop(self) -> bytes:
        """End the open one, if there is one."""
        if self._open is None:
            return b""
        self._open = None
        return event("content_block_stop", index=self._index)

    def _delta(self, kind: str, key: str, text: str) -> bytes:
        if self._deltas is None:  # a block has but one kind of them
            delta = {"type": kind, key: ""}
            told = event("content_block_delta", index=self._index, delta=delta)
            self._deltas = TextEvents(told.decode())
        return self._deltas.of(text).encode()


@dataclass
class _Call:
    id: str | None = None
    name: str | None = None
    arguments: list[str] = field(default_factory=list)


class MessageStream:
    """The events of one answer.

    A tool call is told when its input is whole, for only then is it sure to be JSON, which
    Anthropic's clients insist on. The first call of an answer is told as it comes if its tool
    wants that (``eager_input_streaming``); what comes beside it waits until it has ended.

    Args:
        model: as the client calls it; None for the name that the engine says.
        stops: the client's stop sequences.
        eager: names of tools whose input may be told before it is whole.
    """

    def __init__(
        self, model: str | None, stops: Sequence[str], eager: Collection[str], shows_thinking: bool
    ) -> None:
        self._model = model
        self._stops = stops
        self._eager = eager
        self._shows_thinking = shows_thinking
        self._has_started = False
        self._blocks = Blocks()
        self._calls: dict[int, _Call] = {}
        self._told_early: _Call | None = None
        self._waiting: list[tuple[str, str]] = []
        self._finish: str | None = None
        self._matched: str | None = None
        self._usage: Json | None = None

    def chunk(self, chunk: Json) -> bytes:
        """The events of one of the engine's chunks."""
        told = [self._start(chunk)]
        self._usage = chunk.get("usage") or self._usage
        for choice in (chunk.get("choices") or ())[:1]:
            told += self._delta(choice.get("delta") or {})
            if choice.get("finish_reason"):
                self._finish = choice["finish_reason"]
                self._matched = answers.matched_stop(choice, self._stops)
        return b"".join(told)

    def text(self, text: str) -> bytes:
        """The events of one that says nothing but that text, and is not the first."""
        return self._say("text", text)

    def end(self) -> bytes:
        """What is still to be told, and how it ended."""
        told = [self._start({}), *self._rest(), self._blocks.stop()]
        ending = answers.stop(self._finish, self._matched, calls=bool(self._calls))
        told.append(event("message_delta", delta=ending, usage=answers.usage(self._usage)))
        return b"".join([*told, event("message_stop")])

    def _start(self, chunk: Json) -> bytes:
        if self._has_started:
            return b""
        self._has_started = True
        model = self._model or chunk.get("model") or ""
        ending = {"stop_reason": None, "stop_sequence": None}
        counts = answers.usage(_read_so_far(chunk.get("prompt_progress")))
        start = answers.message(chunk.get("id") or "", model, [], ending, counts)
        return event("message_start", message=start)

    def _delta(self, delta: Json) -> list[bytes]:
        told = []
        if self._shows_thinking:
            told.append(self._say("thinking", answers.thinking_of(delta)))
        told.append(self._say("text", delta.get("content") or ""))
        told += [self._call(call) for call in delta.get("tool_calls") or ()]
        return told

    def _say(self, kind: str, text: str) -> bytes:
        if not text:
            return b""
        if self._told_early is None:
            return self._blocks.say(kind, text)
        self._waiting.append((kind, text))
        return b""

    def _call(self, delta: Json) -> bytes:
        index, function = self._index_of(delta), delta.get("function") or {}
        is_first = not self._calls
        call = self._calls.setdefault(index, _Call())
        call.id = call.id or delta.get("id")
        call.name = call.name or function.get("name")
        text = function.get("arguments") or ""
        start = b""
        if is_first and call.name in self._eager:
            self._told_early = call
            start = self._blocks.start("tool_use", answers.tool_use(index, call.id, call.name))
        if call is self._told_early:
            return start + self._blocks.arguments(text)
        call.arguments.append(text)
        return b""

    def _index_of(self, delta: Json) -> int:
        """Some engines leave it out: then a call begins where there is a name."""
        index = delta.get("index")
        if index is not None:
            return int(index)
        last = max(self._calls, default=-1)
        return last + 1 if (delta.get("function") or {}).get("name") else max(0, last)

    def _rest(self) -> list[bytes]:
        told = []
        if self._told_early is not None:
            told.append(self._blocks.stop())
        told += [self._blocks.say(kind, text) for kind, text in self._waiting]
        for index, call in sorted(self._calls.items()):
            if call is not self._told_early:
                told.append(self._whole_call(index, call))
        return told

    def _whole_call(self, index: int, call: _Call) -> bytes:
        value = answers.tool_input("".join(call.arguments))
        block = answers.tool_use(index, call.id, call.name)
        text = json.dumps(value) if value else ""
        return self._blocks.start("tool_use", block) + self._blocks.arguments(text)


def _read_so_far(progress: Json | None) -> Json | None:
    """What llama.cpp tells of a prompt before the first token, as usage."""
    if not progress:
        return None
    cached = {"cached_tokens": progress.get("cache", 0)}
    return {"prompt_tokens": progress.get("total", 0), "prompt_tokens_details": cached}
