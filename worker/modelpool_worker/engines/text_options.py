"""PURE. What engines of texts have in common: load options, capabilities, surfaces."""

from __future__ import annotations

from typing import Any

from modelpool_client.surfaces.routes import (
    CHAT_PATH,
    CHAT_TOKENS_PATH,
    CLASSIFY_PATH,
    EMBEDDINGS_PATH,
    RERANK_PATH,
    TEXT_PATH,
)
from modelpool_client.surfaces.schema import Schema

# What engines of models that write answer, and of those that judge texts.
WRITING = (CHAT_PATH, CHAT_TOKENS_PATH, TEXT_PATH)
JUDGING = (EMBEDDINGS_PATH, RERANK_PATH, CLASSIFY_PATH)
# What the former can do where the kit hosts them, with log probabilities and grammars, and the
# latter.
WRITERS = ("chat", "completion", "tools", "streaming", "json_mode", "json_schema", "logprobs")
JUDGES = ("embeddings", "rerank", "classification")


def context_length(otherwise: str) -> Schema:
    """``otherwise``: what it is by default, in words."""
    return {
        "type": "integer",
        "minimum": 16,
        "maximum": 1 << 24,
        "description": f"tokens of one request, prompt and answer; default: {otherwise}",
    }


def parallel(default: int, most: int = 256, **more: Any) -> Schema:
    """Requests at once."""
    return {
        "type": "integer",
        "minimum": 1,
        "maximum": most,
        "description": "requests that are computed together, each with its own context; more wait",
        "default": default,
        **more,
    }


def threads(**more: Any) -> Schema:
    """Of the CPU."""
    return {
        "type": "integer",
        "minimum": 1,
        "maximum": 512,
        "description": "of the CPU; default: cores",
        **more,
    }


def batch_size(default: int | str, **more: Any) -> Schema:
    """Tokens of prompts in one step; ``default`` in words where it is not one number."""
    text = "tokens of prompts in one step, between two of which a client that left is noticed"
    is_number = isinstance(default, int)
    return {
        "type": "integer",
        "minimum": 1,
        "maximum": 1 << 16,
        "description": text if is_number else f"{text}; default: {default}",
        **({"default": default} if is_number else {}),
        **more,
    }


CONTINUOUS_BATCHING = "continuous_batching"


def continuous_batching(otherwise: str) -> Schema:
    """``otherwise``: what false means."""
    return {
        "type": "boolean",
        "description": f"requests come and go between the steps of others; false: {otherwise}; "
        "default: true, where the model allows it",
    }
