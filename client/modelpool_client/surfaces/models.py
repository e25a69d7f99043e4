"""PURE. ``/v1/models`` in a shape that the packages of OpenAI and Anthropic both read: an entry for
every name that can be asked for.

An alias has an entry of its own: clients offer the ids of this list to people, and some refuse a
name that is not in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from modelpool_client.capabilities import WRITES_TEXT

PATH = "/v1/models"
# What Anthropic asks of every model, by the word of ours that says it; None: nothing here does.
_ANTHROPICS: Mapping[str, str | None] = {
    "batch": None,
    "citations": None,
    "code_execution": None,
    "context_management": None,
    "effort": None,
    "image_input": "vision",
    "pdf_input": None,
    "server_tools": None,
    "structured_outputs": "json_schema",
    "thinking": "thinking",
}
# What llama.cpp says of a model, by those of our words any of which says it.
_LLAMA_CPPS: Mapping[str, frozenset[str]] = {
    "completion": WRITES_TEXT,
    "multimodal": frozenset({"vision", "audio"}),
    "embedding": frozenset({"embeddings"}),
}


@dataclass(frozen=True)
class Listed:
    """A model as clients are told of it.

    Attributes:
        created: unix seconds.
        capabilities: words; none: not known.
        context_length: in tokens; None: not known.
        facts: what else is said of it.
    """

    model_id: str
    aliases: Sequence[str]
    created: float
    display_name: str = ""
    capabilities: Sequence[str] = ()
    context_length: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def entries(self) -> list[dict[str, Any]]:
        """One for the id, one for each alias."""
        return [self.entry(name) for name in (self.model_id, *self.aliases)]

    def entry(self, name: str) -> dict[str, Any]:
        """The model under one of its names; under its id where it is asked for by another spelling.

        ``root`` is the model's id, and ``max_model_len`` its context, as vLLM calls them;
        ``max_input_tokens`` and ``max_tokens`` are Anthropic's, and one here: question and answer
        share the context.
        """
        shown = name if name in self.aliases else self.model_id
        return {
            "id": shown,
            "object": "model",
            "type": "model",
            "created": int(self.created),
            "created_at": datetime.fromtimestamp(int(self.created), UTC).isoformat(),
            "owned_by": "modelpool",
            "display_name": self.display_name or shown,
            "lifecycle": "active",
            "root": self.model_id,
            "aliases": list(self.aliases),
            "capabilities": _supported(self.capabilities),
            "context_length": self.context_length,
            "max_model_len": self.context_length,
            "max_input_tokens": self.context_length,
            "max_tokens": self.context_length,
            **self.facts,
        }


def listing(models: Sequence[Listed]) -> dict[str, Any]:
    """The body that holds them all, whatever page was asked for."""
    return _envelope(models) | {"data": [entry for model in models for entry in model.entries()]}


def as_llama_cpp(models: Sequence[Listed]) -> dict[str, Any]:
    """What the list of llama.cpp's server has besides: each model once, what it can in the words
    of that server."""
    return {
        "models": [
            {
                "name": model.model_id,
                "model": model.model_id,
                "type": "model",
                "aliases": list(model.aliases),
                "capabilities": [
                    word for word, ours in _LLAMA_CPPS.items() if ours & set(model.capabilities)
                ],
            }
            for model in models
        ]
    }


def encoded_listing(models: Sequence[Listed], entries: Sequence[bytes]) -> bytes:
    """``listing`` as JSON, for whoever keeps the JSON of each model's entries; of ``models`` only
    the first and the last are looked at."""
    head = json.dumps(_envelope(models)).encode()
    return b'%b, "data": [%b]}' % (head[:-1], b", ".join(entries))


def _envelope(models: Sequence[Listed]) -> dict[str, Any]:
    return {
        "object": "list",
        "has_more": False,
        "first_id": models[0].model_id if models else None,
        "last_id": (models[-1].model_id, *models[-1].aliases)[-1] if models else None,
    }


def _supported(capabilities: Sequence[str]) -> dict[str, Any] | None:
    """Ours, which all are supported, and those of Anthropic, in its form of them."""
    if not capabilities:
        return None
    theirs = {name: word in capabilities for name, word in _ANTHROPICS.items()}
    ours = dict.fromkeys(capabilities, True)
    return {name: {"supported": is_so} for name, is_so in {**theirs, **ours}.items()}
