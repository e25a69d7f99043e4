"""PURE. What an engine still computes for a client that has left."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, TypeAlias

from modelpool_client.surfaces.routes import (
    CHAT_PATH,
    CHAT_TOKENS_PATH,
    IMAGE_EDITS_PATH,
    IMAGES_PATH,
    TEXT_PATH,
    VOICES_PATH,
)

# ``step``: a token, or the part of a prompt that is read at a time; ``call``: the batch of texts or
# arrays, the sentence or the piece of a recording that is under way; ``answer``: all of it, for it
# cannot be cancelled; ``server``: its connection is closed, and what a server that is not ours
# makes of that is its own affair.
Leaving: TypeAlias = Literal["step", "call", "answer", "server"]

_BY_STEPS = (CHAT_PATH, TEXT_PATH)
_DRAWN = (IMAGES_PATH, IMAGE_EDITS_PATH)
# Answered without the model, or without a step of it.
_AT_ONCE = (
    CHAT_TOKENS_PATH,
    VOICES_PATH,
    "/apply-template",
    "/detokenize",
    "/lora-adapters",
    "/props",
    "/slots",
    "/tokenize",
)


def leaving(surfaces: Collection[str], otherwise: Leaving = "call") -> Mapping[str, Leaving]:
    """For an engine that the kit hosts, or one like it: what writes goes on for a step, a picture
    is drawn to its end.

    Args:
        surfaces: paths of ``surfaces.routes``.
        otherwise: of what neither writes nor draws.
    """
    drawn = dict.fromkeys(_DRAWN, "answer")
    written = dict.fromkeys(_BY_STEPS, "step")
    known: Mapping[str, Leaving] = {**drawn, **written}  # type: ignore[dict-item]
    return {p: known.get(p, otherwise) for p in sorted(surfaces) if p not in _AT_ONCE}
