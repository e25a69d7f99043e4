"""PURE. Ollama's requests that ask for nothing but that a model is loaded, or unloaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from modelpool_client.surfaces.ollama.keep_alive import keep_alive_seconds
from modelpool_client.surfaces.ollama.tables import BODIES, CHAT, EMBED, EMBEDDINGS, GENERATE
from modelpool_client.surfaces.ollama.times import rfc3339
from modelpool_client.surfaces.schema_checks import checks

# Without this a request asks for no answer.
ASKS: Mapping[str, str] = {
    CHAT: "messages",
    GENERATE: "prompt",
    EMBED: "input",
    EMBEDDINGS: "prompt",
}
_CHECKS = checks(BODIES)


def is_load_only(path: str, data: Mapping[str, Any]) -> bool:
    """Whether the model is to be loaded; with a ``keep_alive`` of 0, to be unloaded.

    Raises:
        InvalidRequest: ``data`` is no request for ``path``.
    """
    _CHECKS[path](data)
    keep_alive_seconds(data.get("keep_alive"))
    return not data.get(ASKS[path])


def load_answer(
    path: str, model: str, done_reason: Literal["load", "unload"], now_ns: int
) -> dict[str, Any]:
    """The body for it, which is no stream whatever ``stream`` says; ``now_ns`` since 1970."""
    if path == EMBED:
        return {"model": model, "embeddings": []}
    if path == EMBEDDINGS:
        return {"embedding": []}
    said: dict[str, Any] = {"response": ""}
    if path == CHAT:
        said = {"message": {"role": "assistant", "content": ""}}
    head = {"model": model, "created_at": rfc3339(now_ns)}
    return {**head, **said, "done": True, "done_reason": done_reason}
