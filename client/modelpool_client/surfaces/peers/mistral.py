"""PURE. ``/v1/fim/completions`` of Mistral's API: a text between two others, told as a chat is."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from modelpool_client.errors import ModelPoolError
from modelpool_client.surfaces import sse
from modelpool_client.surfaces.contract import (
    COUNT,
    EVENT_STREAM,
    TEXT,
    Contract,
    Description,
    constant,
    holds,
    listed,
)
from modelpool_client.surfaces.parameter_rules import (
    LOAD_OPTION,
    LOAD_OPTIONS,
    Rule,
    ignored,
    own,
    told,
)
from modelpool_client.surfaces.routes import FIM_PATH, TEXT_PATH
from modelpool_client.surfaces.schema import Schema, nullable
from modelpool_client.surfaces.schema_checks import checks
from modelpool_client.surfaces.text_events import TextEvents
from modelpool_client.surfaces.translation import Told

_STRING: Schema = {"type": "string"}
_CHUNK = "chat.completion.chunk"
# Mistral's names of what OpenAI's API calls otherwise, and those that are the same.
_TOLD: Mapping[str, str] = {
    "suffix": "suffix",
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_tokens",
    "stop": "stop",
    "random_seed": "seed",
}
BODY: Schema = {
    "type": "object",
    "required": ["prompt"],
    "properties": {
        "prompt": _STRING,
        "model": nullable(_STRING),
        "stream": nullable({"type": "boolean"}),
        "suffix": nullable(_STRING),
        "temperature": nullable({"type": "number", "minimum": 0, "maximum": 2}),
        "top_p": nullable({"type": "number", "minimum": 0, "maximum": 1}),
        "max_tokens": nullable({"type": "integer", "minimum": 0}),
        "min_tokens": nullable({"type": "integer", "minimum": 0}),
        "stop": nullable({"anyOf": [_STRING, {"type": "array", "items": _STRING}]}),
        "random_seed": nullable({"type": "integer", "minimum": 0}),
        "metadata": nullable({"type": "object"}),
    },
}
RULES: Mapping[str, Rule] = {
    "prompt": own("what stands before"),
    "model": own("says which model"),
    "stream": own("in pieces, as they are computed"),
    **{name: told(theirs, at=TEXT_PATH) for name, theirs in _TOLD.items()},
    "min_tokens": ignored("an answer ends where the model ends it", 0),
    "metadata": ignored("means something at Mistral's own service only", {}),
    **dict.fromkeys(sorted(LOAD_OPTIONS), LOAD_OPTION),
}
_REASON = nullable(constant("stop", "length"))
_MESSAGE = holds(role=constant("assistant"), content=TEXT)
DESCRIPTION = Description(
    holds(error=holds(message=TEXT)),
    {
        FIM_PATH: Contract(
            holds(
                id=TEXT,
                object=constant("chat.completion"),
                created=COUNT,
                model=TEXT,
                choices=listed(holds(index=COUNT, message=_MESSAGE, finish_reason=_REASON)),
            ),
            BODY,
            stream_type=EVENT_STREAM,
            summary="Write what stands between two texts, as Mistral's API does",
            rules=RULES,
        )
    },
)
_CHECK = checks({FIM_PATH: BODY})[FIM_PATH]


def translate(data: Mapping[str, Any], clock: Callable[[], float]) -> InBetween:
    """
    Args:
        clock: unix seconds.

    Raises:
        InvalidRequest: with ``param``.
    """
    _CHECK(data)
    given = {name: value for name, value in data.items() if value is not None}
    body = {theirs: given[name] for name, theirs in _TOLD.items() if name in given}
    if not body.get("suffix"):
        body.pop("suffix", None)
    unknown = {name for name in given if name not in BODY["properties"]}
    no_use = {name for name in ("min_tokens", "metadata") if given.get(name)} | unknown
    return InBetween(
        Told(
            TEXT_PATH,
            {"prompt": given["prompt"], **body},
            stream=given.get("stream", False),
            ignored=tuple(sorted(no_use)),
        ),
        str(given.get("model") or ""),
        int(clock()),
    )


class InBetween:
    """The translation of one request; see ``Translation``."""

    stream_type = EVENT_STREAM.encode()

    def __init__(self, told: Told, model: str, created: int) -> None:
        self.told = told
        # What an engine does not say of each chunk, and clients want to be told.
        self._head = {"id": f"cmpl-{uuid.uuid4().hex}", "created": created, "model": model}
        self._texts: TextEvents | None = None
        self._last: dict[str, Any] = {}  # the end of the text, which the usage is told with

    def whole(self, answer: dict[str, Any]) -> dict[str, Any]:
        """See ``Translation``."""
        return _as_chat({**self._head, **answer}, "chat.completion", "message")

    def begin(self) -> bytes:
        """See ``Translation``."""
        return b""

    def chunk(self, chunk: dict[str, Any]) -> bytes:
        """See ``Translation``."""
        self._head |= {name: chunk[name] for name in self._head if chunk.get(name)}
        said = _as_chat({**self._head, **chunk}, _CHUNK, "delta")
        if self._last:
            self._last |= {"usage": chunk["usage"]} if chunk.get("usage") else {}
            return b""
        if any(choice["finish_reason"] for choice in said["choices"]):
            self._last = said
            return b""
        self._texts = None  # its head may be another
        return sse.event(said)

    def text(self, text: str) -> bytes:
        """See ``TellsTexts``."""
        if self._last:
            return b""
        if self._texts is None:
            empty = _as_chat({**self._head, "choices": [{}]}, _CHUNK, "delta")
            self._texts = TextEvents(sse.event(empty).decode())
        return self._texts.of(text).encode()

    def end(self) -> bytes:
        """See ``Translation``."""
        last = sse.event(self._last) if self._last else b""
        return last + b"data: " + sse.DONE + b"\n\n"

    def failed(self, error: ModelPoolError) -> bytes:
        """See ``Translation``."""
        return sse.event(error.body())

    def ping(self) -> bytes:
        """See ``Translation``."""
        return b": ping\n\n"


def _as_chat(said: Mapping[str, Any], kind: str, name: str) -> dict[str, Any]:
    choices = [
        {
            "index": choice.get("index", 0),
            name: {"role": "assistant", "content": choice.get("text") or ""},
            "finish_reason": choice.get("finish_reason"),
        }
        for choice in said.get("choices") or ()
    ]
    return {**said, "object": kind, "choices": choices}
