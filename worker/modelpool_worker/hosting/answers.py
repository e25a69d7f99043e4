"""PURE. Answers in OpenAI's shape, whole and in pieces, of what was generated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .contract import Token
from .detokenize import Utf8
from .stops import StopFinder
from .tool_calls import Call, CallFinder

Json = dict[str, Any]


class ChoiceText:
    """The text of one choice, token by token, up to where it stops.

    Attributes:
        count: tokens so far.
        is_stopped: a stop text was found; nothing more belongs to it.
    """

    def __init__(self, stops: Sequence[str], calls: CallFinder | None = None) -> None:
        self._utf8 = Utf8()
        self._stops = StopFinder(stops)
        self._calls = calls
        self.count = 0

    @property
    def is_stopped(self) -> bool:
        return self._stops.found is not None

    @property
    def stop(self) -> str | None:
        """The stop text that was found."""
        return self._stops.found

    @property
    def calls(self) -> Sequence[Call]:
        """Of tools, that were found in it."""
        return self._calls.calls if self._calls is not None else ()

    def feed(self, token: Token) -> str:
        """What is certain to be told by now."""
        self.count += 1
        return self._told(self._stops.feed(self._utf8.feed(token.data)))

    def end(self) -> str:
        """What was held back."""
        text = "" if self.is_stopped else self._stops.feed(self._utf8.end()) + self._stops.end()
        if self._calls is None:
            return text
        return self._told(text) + self._calls.end()

    def finish_reason(self, *, is_length: bool) -> str:
        """In OpenAI's words."""
        if self.calls:
            return "tool_calls"
        return "length" if is_length and not self.is_stopped else "stop"

    def _told(self, text: str) -> str:
        return self._calls.feed(text) if self._calls is not None and text else text


@dataclass
class Choice:
    """One that is put together."""

    text: str = ""
    calls: Sequence[Json] = ()
    logprobs: list[Json] | None = None
    finish_reason: str = ""
    stop: str | None = None


@dataclass(frozen=True)
class Head:
    """What all pieces of an answer have in common."""

    id: str
    created: int
    model: str
    is_chat: bool

    def chunk(
        self, index: int, *, reason: str | None = None, stop: str | None = None, **said: Any
    ) -> bytes:
        """An event of a stream. ``said``: ``content`` of a text, ``role``, ``tool_calls``,
        ``logprobs``. ``stop`` is the stop text that was found."""
        logprobs = said.pop("logprobs", None)
        if self.is_chat:
            part: Json = {"delta": said}
        else:
            part = {"text": said.get("content", "")}
        choice = {"index": index, **part, "logprobs": logprobs, "finish_reason": reason}
        choice |= _stopped_by(stop)
        return _event({**self._fields(is_chunk=True), "choices": [choice]})

    def usage(self, usage: Json) -> bytes:
        """The event that says nothing else."""
        return _event({**self._fields(is_chunk=True), "choices": [], "usage": usage})

    def whole(self, choices: Sequence[Choice], usage: Json) -> Json:
        """All of it."""
        told = [self._choice(i, choice) for i, choice in enumerate(choices)]
        return {**self._fields(is_chunk=False), "choices": told, "usage": usage}

    def _fields(self, *, is_chunk: bool) -> Json:
        kind = "text_completion"
        if self.is_chat:
            kind = "chat.completion.chunk" if is_chunk else "chat.completion"
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _choice(self, index: int, choice: Choice) -> Json:
        if self.is_chat:
            content = None if choice.calls and not choice.text else choice.text
            message: Json = {"role": "assistant", "content": content}
            if choice.calls:
                message["tool_calls"] = [
                    {k: v for k, v in call.items() if k != "index"} for call in choice.calls
                ]
            part: Json = {"message": message}
        else:
            part = {"text": choice.text}
        logprobs = None if choice.logprobs is None else {"content": choice.logprobs}
        end = {"logprobs": logprobs, "finish_reason": choice.finish_reason}
        end |= _stopped_by(choice.stop)
        return {"index": index, **part, **end}


def _stopped_by(stop: str | None) -> Json:
    """As vLLM tells it: OpenAI's answers do not say which stop text it was, Anthropic's do."""
    return {} if stop is None else {"stop_reason": stop}


@dataclass
class Count:
    """Tokens of a whole request."""

    prompt: int
    completion: int = field(default=0)

    def usage(self) -> Json:
        """As OpenAI tells it."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        }


def told_calls(calls: Sequence[Call], id_: str) -> list[Json]:
    """As they stand in a piece of a stream."""
    return [
        {
            "index": i,
            "id": f"call_{id_}_{i}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for i, call in enumerate(calls)
    ]


def token_logprob(token: Token) -> Json:
    """What is told of one token, by the shape of chats."""
    told = _logprob(token.data, token.logprob or 0.0)
    told["top_logprobs"] = [_logprob(data, value) for _, data, value in token.alternatives]
    return told


def _logprob(data: bytes, value: float) -> Json:
    # JSON has no word for minus infinity; OpenAI says this.
    shown = max(value, -9999.0)
    return {"token": data.decode(errors="replace"), "logprob": shown, "bytes": list(data)}


def _event(chunk: Json) -> bytes:
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"
