"""PURE. Chats as OpenAI's reference has them, from servers that say some of it otherwise: what puts
them in the words of other APIs reads no more than that."""

from __future__ import annotations

from typing import Any

from modelpool_worker.tokens import generated

Json = dict[str, Any]


def plain(answer: Json) -> Json:
    """The same chunk or answer, changed in place: content in parts (Mistral's) becomes a text and
    what was thought; usage counts thoughts among what was generated, and what was cached."""
    for choice in answer.get("choices") or ():
        said = choice.get("delta") or choice.get("message") if isinstance(choice, dict) else None
        if isinstance(said, dict) and isinstance(said.get("content"), list):
            parts = [part for part in said["content"] if isinstance(part, dict)]
            said["content"] = "".join(_text(part) for part in parts)
            thoughts = "".join(_thought(part) for part in parts)
            if thoughts and not said.get("reasoning_content"):
                said["reasoning_content"] = thoughts
    if isinstance(usage := answer.get("usage"), dict):
        _count(usage)
    return answer


def _text(part: Json) -> str:
    text = part.get("text")
    return text if isinstance(text, str) else ""


def _thought(part: Json) -> str:
    thought = part.get("thinking")
    if isinstance(thought, list):
        return "".join(_text(piece) for piece in thought if isinstance(piece, dict))
    return thought if isinstance(thought, str) else ""


def _count(usage: Json) -> None:
    completion, prompt = usage.get("completion_tokens"), usage.get("prompt_tokens")
    if type(completion) is int and type(prompt) is int:
        usage["completion_tokens"] = generated(completion, prompt, usage.get("total_tokens"))
    if type(hit := usage.get("prompt_cache_hit_tokens")) is int:
        usage.setdefault("prompt_tokens_details", {"cached_tokens": hit})
