"""PURE. Text completions in the shape that OpenAI gave them before there were chats: the prompt
before its answer (``echo``), and log probabilities in lists side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Chunk = dict[str, Any]


class LegacyText:
    """Chunks of an engine that tells log probabilities as chats do, and never its prompt."""

    is_complete = False

    def __init__(self, body: Mapping[str, Any]) -> None:
        prompt = body["prompt"]
        prompts = [prompt] if isinstance(prompt, str) else prompt
        self._prompts: Sequence[Any] = prompts if body.get("echo") else ()
        self._n = body.get("n", 1)
        self._alternatives: int | None = body.get("logprobs")
        self._lengths: dict[int, int] = {}

    @staticmethod
    def question(body: Mapping[str, Any]) -> Chunk:
        """The same without what is done here. No engine tells of a token without alternatives."""
        asked = {k: v for k, v in body.items() if k != "echo"}
        return {**asked, "logprobs": max(1, asked["logprobs"])} if "logprobs" in asked else asked

    def chunk(self, chunk: Chunk) -> list[Chunk]:
        """The same, of its choices' texts and log probabilities what the client wants."""
        for choice in chunk.get("choices") or ():
            index = choice.get("index", 0)
            if self._prompts and index not in self._lengths:
                choice["text"] = self._prompts[index // self._n] + (choice.get("text") or "")
                self._lengths[index] = 0
            said = (choice.get("logprobs") or {}).get("content")
            if said is not None:
                choice["logprobs"] = self._logprobs(index, said)
        return [chunk]

    def end(self) -> list[Chunk]:
        """Nothing."""
        return []

    def _logprobs(self, index: int, said: Sequence[Mapping[str, Any]]) -> Chunk:
        at, offsets = self._lengths.get(index, 0), []
        for token in said:
            offsets.append(at)
            at += len(token["token"])
        self._lengths[index] = at
        return {
            "tokens": [_shown(token) for token in said],
            "token_logprobs": [token["logprob"] for token in said],
            "top_logprobs": [self._top(token) for token in said] if self._alternatives else None,
            "text_offset": offsets,
        }

    def _top(self, token: Mapping[str, Any]) -> dict[str, float]:
        """The likeliest, and the one that was said, which may be one more."""
        top = token.get("top_logprobs") or ()
        shown = {_shown(other): other["logprob"] for other in top[: self._alternatives]}
        return {**shown, _shown(token): token["logprob"]}


def _shown(token: Mapping[str, Any]) -> str:
    """OpenAI's way to write a token that is a part of a character."""
    text, data = token["token"], bytes(token.get("bytes") or ())
    if (text and "\ufffd" not in text) or not data:
        return str(text)
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
