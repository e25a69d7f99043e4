"""How many requests at once, of how many tokens, where nobody has said it. PURE.

llama.cpp's cache grows with both, and it is the larger part of many models: 8 contexts of 4096
tokens take 17 GB for 7 billion parameters without grouped attention, beside 4 GB of weights.

1. All 8, if the model then takes no more than half of the memory: another should fit beside it.
2. Else half as many, down to one; that one may have all of the memory.
3. Where not even that fits, half the context, down to 512 tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .footprint import DEFAULT_PARALLEL, context_length, estimate_memory_bytes
from .model_info import ModelInfo

SHARE = 0.5
LEAST_CONTEXT = 512


def fitted(info: ModelInfo, options: Mapping[str, Any], room: int) -> Mapping[str, Any]:
    """The options with which to start a model in ``room`` bytes, the memory for all models.

    ``parallel`` and ``context_length`` stay as they are given, and are left out where the engine's
    defaults fit.
    """
    choices = list(_choices(info, options))
    for choice in choices:
        parallel = choice.get("parallel", options.get("parallel"))
        limit = room if parallel == 1 or "parallel" in options else room * SHARE
        if estimate_memory_bytes(info, {**options, **choice}) <= limit:
            return {**options, **choice}
    return {**options, **choices[-1]}


def _choices(info: ModelInfo, options: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The best first; the first is the engine's own."""
    yield {}
    least: dict[str, Any] = {}
    if "parallel" not in options:
        parallel = DEFAULT_PARALLEL // 2
        while parallel >= 1:
            yield {"parallel": parallel}
            parallel //= 2
        least = {"parallel": 1}
    if "context_length" not in options:
        context = context_length(info, options) // 2
        while context >= LEAST_CONTEXT:
            yield {**least, "context_length": context}
            context //= 2
