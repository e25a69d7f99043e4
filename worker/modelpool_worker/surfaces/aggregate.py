"""PURE. Streamed chunks of OpenAI's chat and text completions, put together into one answer.

Workers always stream from their engines, because llama.cpp's server notices a client that left
only on streams; this makes the single answer for clients that did not ask for a stream.
"""

from __future__ import annotations

from typing import Any

from modelpool_client.surfaces.translation import MATCHED_STOP

from .text_frame import TextFrame

_LISTS = ("content", "refusal")
_LEGACY_LISTS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")


# Of no run.
NO_ENDS = (b"", b"")


class Aggregate:
    """Add every chunk in order, then take the ``result``; ``n`` choices answer each prompt."""

    def __init__(self, *, chat: bool, n: int = 1) -> None:
        self._chat = chat
        self._key = "content" if chat else "text"
        self._n = max(1, n)
        self._head: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._usages: list[dict[str, Any]] = []
        self._has_final_usage = False
        self._frame: TextFrame | None = None
        self._texts: list[str] = []

    def takes(self, data: bytes) -> bool:
        """Whether a chunk is like the one before it but for its text; then it is added already."""
        text = self._frame.text(data) if self._frame is not None else None
        if text is None:
            return False
        self._texts.append(text)
        return True

    def take_run(self, data: bytes) -> bytes:
        """Add the chunks with which a stream goes on and that are like the one before them but for
        their texts; what follows them."""
        frame = self._frame
        if frame is None or (found := frame.run(data)) is None:
            return data
        text, rest = found
        self._texts.append(text)
        return rest

    def run_ends(self) -> tuple[bytes, bytes]:
        """How data begins and ends that is likely to be such chunks only."""
        frame = self._frame
        return NO_ENDS if frame is None else (frame.begins, frame.ends)

    def add(self, chunk: dict[str, Any], data: bytes = b"") -> None:
        """Take in one chunk, as the engine sent it; ``data`` is the same unparsed."""
        if self._texts:
            self._add_texts()
        self._frame = TextFrame.of(data, chunk, self._key) if data else None
        if None in chunk.values():
            chunk = {key: value for key, value in chunk.items() if value is not None}
        head = self._head
        head.update(chunk)
        usage, choices = head.pop("usage", None), head.pop("choices", None)
        for choice in choices or ():
            self._add_choice(choice)
        if usage and isinstance(usage, dict):
            self._add_usage(usage, final=not choices)

    def result(self) -> dict[str, Any]:
        """One ``chat.completion`` or ``text_completion``."""
        self._add_texts()
        kind = "chat.completion" if self._chat else "text_completion"
        choices = [_ended(self._choices[i]) for i in sorted(self._choices)]
        answer = {**self._head, "object": kind, "choices": choices}
        if self._usages:
            answer["usage"] = _total(self._usages, self._n)
        return answer

    def _add_texts(self) -> None:
        if self._texts:
            assert self._frame is not None
            text = "".join(self._texts)
            self._texts.clear()
            choice = self._choice(self._frame.index)
            said = choice["message"] if self._chat else choice
            said[self._key] = (said[self._key] or "") + text

    def _add_usage(self, usage: dict[str, Any], *, final: bool) -> None:
        # A chunk without choices carries the whole usage; llama.cpp's text completions carry one
        # in the last chunk of each choice instead.
        if final:
            self._usages = []
        if final or not self._has_final_usage:
            self._usages.append(usage)
        self._has_final_usage = self._has_final_usage or final

    def _add_choice(self, part: dict[str, Any]) -> None:
        choice = self._choice(part.get("index", 0))
        if self._chat:
            if delta := part.get("delta"):
                _add_delta(choice["message"], delta)
        else:
            choice["text"] += part.get("text") or ""
        if logprobs := part.get("logprobs"):
            choice["logprobs"] = _add_logprobs(choice.get("logprobs"), logprobs)
        if reason := part.get("finish_reason"):
            choice["finish_reason"] = reason
            for key in MATCHED_STOP:
                if part.get(key) is not None:
                    choice[key] = part[key]

    def _choice(self, index: int) -> dict[str, Any]:
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = self._new(index)
        return choice

    def _new(self, index: int) -> dict[str, Any]:
        if self._chat:
            message = {"role": "assistant", "content": None}
            return {"index": index, "message": message, "logprobs": None, "finish_reason": None}
        return {"index": index, "text": "", "logprobs": None, "finish_reason": None}


def _ended(choice: dict[str, Any]) -> dict[str, Any]:
    """Whoever reads an answer that is no call takes its content for text, an empty one too."""
    message = choice.get("message")
    if message is None or message["content"] is not None or message.get("tool_calls"):
        return choice
    return {**choice, "message": {**message, "content": ""}}


def _add_delta(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for key, value in delta.items():
        if value is None:
            continue
        if key == "tool_calls":
            calls = message.setdefault("tool_calls", [])
            for call in value:
                _add_tool_call(calls, call)
        elif key == "role":
            message["role"] = value
        elif isinstance(value, str):
            message[key] = (message.get(key) or "") + value
        else:
            message[key] = value


def _add_tool_call(calls: list[dict[str, Any]], part: dict[str, Any]) -> None:
    index = part.get("index", len(calls))
    while len(calls) <= min(index, 1023):
        calls.append({"id": None, "type": "function", "function": {"name": "", "arguments": ""}})
    call = calls[min(index, 1023)]
    for key in ("id", "type"):
        if part.get(key):
            call[key] = part[key]
    for key, text in (part.get("function") or {}).items():
        call["function"][key] = call["function"].get(key, "") + (text or "")


def _add_logprobs(known: dict[str, Any] | None, part: dict[str, Any]) -> dict[str, Any]:
    merged = dict(known or {})
    for key, value in part.items():
        if key in (*_LISTS, *_LEGACY_LISTS) and isinstance(value, list):
            merged[key] = [*(merged.get(key) or []), *value]
        else:
            merged.setdefault(key, value)
    return merged


def _total(usages: list[dict[str, Any]], n: int) -> dict[str, Any]:
    """Usage over all choices: everything adds up, but ``n`` choices share one prompt."""
    if len(usages) == 1:
        return usages[0]
    prompt = sum(u.get("prompt_tokens", 0) for u in usages) // n
    completion = sum(u.get("completion_tokens", 0) for u in usages)
    return {
        **usages[-1],
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
