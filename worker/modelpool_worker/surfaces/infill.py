"""PURE. A text completion with a ``suffix``, asked at llama.cpp's own route for what stands between
two texts, whose answers have a shape of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .legacy_text import LegacyText

Chunk = dict[str, Any]
INFILL_PATH = "/infill"
_REPLACED = ("prompt", "suffix", "echo", "logprobs", "max_tokens")


class Infill:
    """The chunks of ``/infill``, told as those of a text completion."""

    def __init__(self, body: Mapping[str, Any], head: Chunk) -> None:
        self._head = {**head, "object": "text_completion"}
        self._legacy = LegacyText(body)
        self._wants_usage = (body.get("stream_options") or {}).get("include_usage", False)
        self._is_whole = not body.get("stream")
        self._left: int = body.get("n", 1)
        self._prompt_tokens = self._tokens = 0

    @staticmethod
    def question(body: Mapping[str, Any]) -> Chunk:
        """What ``/infill`` is asked."""
        asked = {k: v for k, v in body.items() if k not in _REPLACED}
        asked |= {"input_prefix": body["prompt"], "input_suffix": body["suffix"]}
        if "max_tokens" in body:
            asked["n_predict"] = body["max_tokens"]
        if "logprobs" in body:
            asked["n_probs"] = max(1, body["logprobs"])
        return asked

    @property
    def is_complete(self) -> bool:
        """It has no last event that says so."""
        return self._left <= 0

    def chunk(self, chunk: Chunk) -> list[Chunk]:
        """One for each."""
        said = chunk.get("completion_probabilities")
        choice = {
            "index": chunk.get("index", 0),
            "text": chunk.get("content") or "",
            "logprobs": {"content": said} if said else None,
            "finish_reason": None,
        }
        more: Chunk = {}
        if chunk.get("stop"):
            self._left -= 1
            self._prompt_tokens = chunk.get("tokens_evaluated", 0)
            self._tokens += chunk.get("tokens_predicted", 0)
            choice["finish_reason"] = "length" if chunk.get("stop_type") == "limit" else "stop"
            more = {"timings": chunk["timings"]} if "timings" in chunk else {}
        return self._legacy.chunk({**self._head, "choices": [choice], **more})

    def end(self) -> list[Chunk]:
        """The usage, where it is wanted."""
        if not (self._wants_usage or self._is_whole):
            return []
        total = self._prompt_tokens + self._tokens
        usage = {"prompt_tokens": self._prompt_tokens, "completion_tokens": self._tokens}
        return [{**self._head, "choices": [], "usage": {**usage, "total_tokens": total}}]
