"""PURE. Anthropic's Messages API, told to an engine as chat completions."""

from __future__ import annotations

from typing import Any

from modelpool_client.errors import ModelPoolError
from modelpool_client.surfaces.anthropic import answers, request, tables
from modelpool_client.surfaces.anthropic.errors import error_body
from modelpool_client.surfaces.anthropic.stream import PING, MessageStream, event
from modelpool_client.surfaces.anthropic.tables import BODIES, COUNT_PATH, MESSAGES_PATH
from modelpool_client.surfaces.counting import token_count
from modelpool_client.surfaces.routes import CHAT_PATH
from modelpool_client.surfaces.schema_checks import checks
from modelpool_client.surfaces.translation import Told, Translation

__all__ = [
    "BODIES",
    "COUNT_PATH",
    "MESSAGES_PATH",
    "count_answer",
    "count_request",
    "error_body",
    "translate",
]

_STREAM_TYPE = b"text/event-stream; charset=utf-8"
_CHECKS = checks(BODIES)


def translate(path: str, data: dict[str, Any]) -> Translation:
    """Check a request to one of the paths of ``BODIES`` and translate it.

    Raises:
        InvalidRequest: with ``param``.
    """
    if path == COUNT_PATH:
        counted = count_request(data)
        return token_count(counted, _ignored(COUNT_PATH, data), count_answer, _error_event)
    return _Message(data)


def count_request(data: dict[str, Any]) -> dict[str, Any]:
    """The body of chat completions (messages, tools, what its template is told) whose prompt is to
    be counted, for an engine that can count without answering.

    Raises:
        InvalidRequest: with ``param``.
    """
    _CHECKS[COUNT_PATH](data)
    return request.prompt_body(data)


def count_answer(tokens: int) -> dict[str, int]:
    """The body that says how many tokens a prompt has."""
    return {"input_tokens": tokens}


# llama.cpp's: how long the prompt is, before the first token. Clients show what the first event
# says of it.
_PROGRESS = {"return_progress": True}


class _Message:
    def __init__(self, data: dict[str, Any]) -> None:
        _CHECKS[MESSAGES_PATH](data)
        is_stream = bool(data.get("stream"))
        self.told = Told(
            CHAT_PATH,
            request.chat_body(data),
            is_stream,
            _ignored(MESSAGES_PATH, data),
            hints=_PROGRESS if is_stream else {},
        )
        self._model: str | None = data.get("model")
        self._stops = request.stop_sequences(data)
        self._shows_thinking = (data.get("thinking") or {}).get("display") != "omitted"
        tools = request.own_tools(data).values()
        eager = {tool["name"] for tool in tools if tool.get("eager_input_streaming")}
        self._stream = MessageStream(self._model, self._stops, eager, self._shows_thinking)

    @property
    def stream_type(self) -> bytes:
        return _STREAM_TYPE

    def whole(self, answer: dict[str, Any]) -> dict[str, Any]:
        choice: dict[str, Any] = (answer.get("choices") or ({},))[0]
        blocks = answers.content(choice.get("message") or {}, shows_thinking=self._shows_thinking)
        matched = answers.matched_stop(choice, self._stops)
        has_calls = any(block["type"] == "tool_use" for block in blocks)
        ending = answers.stop(choice.get("finish_reason"), matched, calls=has_calls)
        model = self._model or answer.get("model") or ""
        counts = answers.usage(answer.get("usage"))
        return answers.message(answer.get("id") or "", model, blocks, ending, counts)

    def begin(self) -> bytes:
        """Nothing: the id of the message comes with the engine's first chunk."""
        return b""

    def chunk(self, chunk: dict[str, Any]) -> bytes:
        return self._stream.chunk(chunk)

    def text(self, text: str) -> bytes:
        """See ``TellsTexts``."""
        return self._stream.text(text)

    def end(self) -> bytes:
        return self._stream.end()

    def failed(self, error: ModelPoolError) -> bytes:
        return _error_event(error)

    def ping(self) -> bytes:
        return PING


def _error_event(error: ModelPoolError) -> bytes:
    return event("error", error=error_body(error)["error"])


def _ignored(path: str, data: dict[str, Any]) -> tuple[str, ...]:
    """With what the table allows and no engine can be told."""
    thinking = data.get("thinking") or {}
    said = [("thinking.type", "between_tools"), ("thinking.display", "summarized")]
    more = [name for name, value in said if thinking.get(name.partition(".")[2]) == value]
    return (*tables.ignored(path, data), *request.left_out(data), *more)
