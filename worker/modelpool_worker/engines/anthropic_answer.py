"""PURE. What Anthropic's Messages API answers, as chat completions: whole, or event by event."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Json = dict[str, Any]

_REASONS = {
    "end_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "stop",
    "refusal": "content_filter",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
}
_THOUGHTS = ("thinking", "redacted_thinking")


def completion(answer: Mapping[str, Any], now: float) -> bytes:
    """The body of a chat completion.

    Raises:
        KeyError, TypeError: it is no message.
    """
    blocks = answer["content"]
    message: Json = {"role": "assistant", "content": _joined(blocks, "text") or None}
    if thoughts := [block for block in blocks if block["type"] in _THOUGHTS]:
        message["reasoning_content"] = _joined(thoughts, "thinking")
        message["thinking_blocks"] = thoughts
    calls = [block for block in blocks if block["type"] == "tool_use"]
    if calls:
        message["tool_calls"] = [
            _call(i, block, json.dumps(block["input"])) for i, block in enumerate(calls)
        ]
        for call in message["tool_calls"]:
            del call["index"]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": finish_reason(answer["stop_reason"]),
    }
    told = {
        "id": answer["id"],
        "object": "chat.completion",
        "created": int(now),
        "model": answer["model"],
        "choices": [choice],
        "usage": usage(answer["usage"]),
    }
    return json.dumps(told).encode()


def finish_reason(reason: str | None) -> str:
    """OpenAI's word for why it ended."""
    return _REASONS.get(reason or "", "stop")


def usage(counts: Mapping[str, Any]) -> Json:
    """OpenAI's counts include what was read from, or written to, the cache of prompts."""
    cached = counts.get("cache_read_input_tokens") or 0
    written = counts.get("cache_creation_input_tokens") or 0
    prompt = (counts.get("input_tokens") or 0) + cached + written
    output = counts["output_tokens"]
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
    }


def _joined(blocks: Any, kind: str) -> str:
    return "".join(block.get(kind, "") for block in blocks if block["type"] == kind)


def _call(index: int, block: Mapping[str, Any], arguments: str) -> Json:
    function = {"name": block["name"], "arguments": arguments}
    return {"index": index, "id": block["id"], "type": "function", "function": function}


class ChatStream:
    """The events of one message, told as chunks of a chat. A ``Translator``."""

    def __init__(self, now: float) -> None:
        self.is_complete = False
        self._head: Json = {"id": "", "object": "chat.completion.chunk", "created": int(now)}
        self._counts: Json = {}
        self._reason: str | None = None
        self._calls = 0
        self._open: dict[int, Json] = {}

    def chunks(self, event: Json) -> Iterator[Json]:
        """See ``Translator``. Kinds of events that are not known say nothing here."""
        handle = _HANDLERS.get(event["type"])
        if handle is not None:
            yield from handle(self, event)

    def last(self) -> Iterator[Json]:
        """See ``Translator``: its last event has told it."""
        yield from ()

    def start(self, event: Json) -> Iterator[Json]:
        message = event["message"]
        self._head |= {"id": message["id"], "model": message["model"]}
        self._counts |= message.get("usage") or {}
        yield self._chunk({"role": "assistant", "content": ""})

    def block_start(self, event: Json) -> Iterator[Json]:
        block = dict(event["content_block"])
        self._open[event["index"]] = block
        if block["type"] == "tool_use":
            block |= {"place": self._calls, "has_input": False}
            self._calls += 1
            yield self._chunk({"tool_calls": [_call(block["place"], block, "")]})
        elif block.get("text"):
            yield self._chunk({"content": block["text"]})

    def delta(self, event: Json) -> Iterator[Json]:
        delta, block = event["delta"], self._open[event["index"]]
        kind = delta["type"]
        if kind == "text_delta":
            yield self._chunk({"content": delta["text"]})
        elif kind == "thinking_delta":
            block["thinking"] = block.get("thinking", "") + delta["thinking"]
            yield self._chunk({"reasoning_content": delta["thinking"]})
        elif kind == "signature_delta":
            block["signature"] = block.get("signature", "") + delta["signature"]
        elif kind == "input_json_delta" and delta["partial_json"]:
            block["has_input"] = True
            yield self._arguments(block, delta["partial_json"])

    def block_stop(self, event: Json) -> Iterator[Json]:
        block = self._open.pop(event["index"])
        if block["type"] in _THOUGHTS:
            yield self._chunk({"thinking_blocks": [block]})
        elif block["type"] == "tool_use" and not block["has_input"]:
            yield self._arguments(block, json.dumps(block.get("input") or {}))

    def message_delta(self, event: Json) -> Iterator[Json]:
        self._reason = event["delta"].get("stop_reason") or self._reason
        told = event.get("usage") or {}
        self._counts |= {name: value for name, value in told.items() if value is not None}
        yield from ()

    def stop(self, event: Json) -> Iterator[Json]:
        self.is_complete = True
        yield self._chunk({}, finish_reason(self._reason))
        yield {**self._head, "choices": [], "usage": usage(self._counts)}

    def _arguments(self, block: Json, text: str) -> Json:
        call = {"index": block["place"], "function": {"arguments": text}}
        return self._chunk({"tool_calls": [call]})

    def _chunk(self, delta: Json, reason: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**self._head, "choices": [choice]}


_HANDLERS = {
    "content_block_delta": ChatStream.delta,
    "content_block_start": ChatStream.block_start,
    "content_block_stop": ChatStream.block_stop,
    "message_delta": ChatStream.message_delta,
    "message_start": ChatStream.start,
    "message_stop": ChatStream.stop,
}
