"""PURE. What a GGUF model is for: text, embeddings or reranking, by how it pools its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Purpose = Literal["text", "embeddings", "rerank"]

OPTION = "pooling_type"
# llama.cpp's numbers in ``{architecture}.pooling_type``.
POOLINGS: Mapping[str, int] = {"none": 0, "mean": 1, "cls": 2, "last": 3, "rank": 4}
_NAMES = {number: name for name, number in POOLINGS.items()}
# Architectures of llama.cpp that read a text as a whole and write none.
ENCODERS = frozenset(
    {
        "bert",
        "eurobert",
        "gemma-embedding",
        "jina-bert-v2",
        "jina-bert-v3",
        "llama-embed",
        "modern-bert",
        "neo-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "t5encoder",
    }
)


def pooling_of(architecture: str, in_file: int | None, options: Mapping[str, Any]) -> str:
    """How the tokens of a text become one vector: the option, else what the file says, else
    ``mean`` for an encoder and ``none`` for whatever writes text."""
    asked = options.get(OPTION)
    if asked in POOLINGS:
        return str(asked)
    if in_file in _NAMES:
        return _NAMES[in_file]
    return "mean" if architecture in ENCODERS else "none"


def purposes_of(
    architecture: str, in_file: int | None, options: Mapping[str, Any]
) -> tuple[Purpose, ...]:
    """What the model is asked for. One that was made for embeddings writes no text, and gives a
    vector a token if it is told to pool nothing; one that was not, and is told to pool, does both.
    """
    pooling = pooling_of(architecture, in_file, options)
    writes = architecture not in ENCODERS and not in_file
    text: tuple[Purpose, ...] = ("text",) if writes else ()
    if pooling == "rank":
        return (*text, "rerank")
    return text if writes and pooling == "none" else (*text, "embeddings")


def is_read_whole(architecture: str, pooling: str) -> bool:
    """A text must be computed in one step, so that the batch bounds its length: llama.cpp splits
    it only where tokens do not look ahead, and the last one's vector is all that is wanted."""
    return architecture in ENCODERS or pooling in ("mean", "cls", "rank")
