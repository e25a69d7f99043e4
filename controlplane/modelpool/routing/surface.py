"""PURE. A request's body as ``asked.read`` reads it, whatever API it came by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelpool_client.surfaces.routes import DRAWS, EMBEDS, HEARS, SPEAKS, SURFACES

from .asked import Asked, read
from .request import RouteRequest

# Where texts are gone on with.
_COMPLETES = frozenset({"/v1/completions", "/api/generate", "/completion", "/infill"})
_DOES = (
    (EMBEDS, "embeddings"),
    (frozenset({"rerank"}), "rerank"),
    (HEARS, "speech_to_text"),
    (SPEAKS, "text_to_speech"),
    (DRAWS, "image_generation"),
)


def capability_of(path: str) -> str:
    """What a model must be able to do to answer there; ``chat`` where nothing else is known."""
    surface = SURFACES.get(path)
    if surface is None or path in _COMPLETES:
        return "completion" if path in _COMPLETES else "chat"
    return next((word for needs, word in _DOES if surface.needs == needs), "chat")


def asked_of(request: RouteRequest) -> Asked:
    """What the request says."""
    return read(body_of(request.data), capability_of(request.path))


def body_of(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Bodies of the Responses, Anthropic's and Ollama's APIs with their words for what ``asked``
    reads; others as they are."""
    told = data.get("instructions") or data.get("system")
    turns = data.get("messages")
    has_turns = isinstance(turns, Sequence) and not isinstance(turns, str | bytes)
    if not has_turns:
        turns = data.get("input")
        has_turns = isinstance(turns, list) and any(isinstance(t, Mapping) for t in turns)
    more: dict[str, Any] = {}
    if has_turns and (told or "messages" not in data):
        system = [{"role": "system", "content": told}] if told else []
        more["messages"] = [*system, *(turns or ())]
    form, text = data.get("format"), data.get("text")
    if form is None and isinstance(text, Mapping):
        form = text.get("format")
    if form == "json":
        more["response_format"] = {"type": "json_object"}
    elif isinstance(form, Mapping):
        is_schema = "type" in form and form["type"] not in ("json_object", "json_schema", "text")
        more["response_format"] = (
            {"type": "json_schema", "json_schema": form} if is_schema else {**form}
        )
        if form.get("type") == "json_schema":
            more["response_format"]["json_schema"] = form.get("schema", {})
    if "text" in data and isinstance(text, Mapping):
        more["text"] = None
    return {**data, **more} if more else data
