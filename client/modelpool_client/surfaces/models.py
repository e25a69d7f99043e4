"""PURE. ``/v1/models`` as OpenAI's clients read it: an entry for every name that can be asked for.

An alias has an entry of its own: clients offer the ids of this list to people, and some refuse a
name that is not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def entries(model_id: str, aliases: Sequence[str], **facts: Any) -> list[dict[str, Any]]:
    """One for the id, one for each alias; ``facts`` are what else is known, ``created`` of it."""
    return [entry(name, model_id, aliases, **facts) for name in (model_id, *aliases)]


def entry(name: str, model_id: str, aliases: Sequence[str], **facts: Any) -> dict[str, Any]:
    """The model under one of its names; under its id where it is asked for by another spelling.

    ``root`` is the model's id, as vLLM calls what an entry stands for.
    """
    return {
        "id": name if name in aliases else model_id,
        "object": "model",
        "owned_by": "modelpool",
        "root": model_id,
        "aliases": list(aliases),
        **facts,
    }


def listing(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The body that holds them."""
    return {"object": "list", "data": list(found)}
