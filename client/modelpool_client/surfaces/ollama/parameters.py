"""PURE. What becomes of every parameter of Ollama's API."""

from __future__ import annotations

from collections.abc import Mapping

from modelpool_client.surfaces.ollama.tables import CHAT, EMBED, EMBEDDINGS, GENERATE, OPTIONS
from modelpool_client.surfaces.parameter_rules import (
    LOAD_OPTION,
    LOAD_OPTIONS,
    Rule,
    ignored,
    own,
    refused,
    told,
)
from modelpool_client.surfaces.routes import TEXT_PATH

# Of options, Ollama's names of what OpenAI's API, or llama.cpp's server, calls otherwise.
RENAMED: Mapping[str, str] = {"num_keep": "n_keep", "num_predict": "max_tokens"}

_NOT_CUT = ignored("nothing is cut off a request", False)
_EVERYWHERE: Mapping[str, Rule] = {
    "model": own("says which model"),
    "keep_alive": own(
        "acts on the lease through the gateway, and is ignored on a worker's own port"
    ),
    "options": own("see its own parameters"),
    **{f"options.{name}": LOAD_OPTION for name in sorted(LOAD_OPTIONS - {"keep_alive"})},
}
_GENERATING: Mapping[str, Rule] = {
    **_EVERYWHERE,
    "stream": own("in pieces, as they are computed; true unless it is said"),
    "format": told("response_format"),
    "think": told("chat_template_kwargs", "reasoning_effort"),  # named as ignored where in vain
    "truncate": _NOT_CUT,
    "shift": ignored("a full context ends the answer", False),
    "logprobs": told("logprobs"),
    "top_logprobs": told("top_logprobs"),
    **{f"options.{name}": told(RENAMED.get(name, name)) for name in OPTIONS},
}
_NO_SAMPLING = ignored("nothing is sampled for a vector")
_EMBEDDING: Mapping[str, Rule] = {
    **_EVERYWHERE,
    **{f"options.{name}": _NO_SAMPLING for name in OPTIONS},
}
RULES: Mapping[str, Mapping[str, Rule]] = {
    CHAT: {"messages": own("what is said"), "tools": told("tools"), **_GENERATING},
    GENERATE: {
        "prompt": own("what is said"),
        "suffix": told("suffix", at=TEXT_PATH),
        "system": own("what the model is told first"),
        "template": refused("raw takes a prompt as it is", ""),
        "context": ignored("conversations go to /api/chat", []),
        "raw": own("the prompt as it is, without the chat template"),
        "images": own("where the model sees"),
        **_GENERATING,
    },
    EMBED: {
        "input": own("a text, or a list of them"),
        "truncate": _NOT_CUT,
        "dimensions": own("the first so many numbers, scaled to length 1"),
        **_EMBEDDING,
    },
    EMBEDDINGS: {"prompt": own("a text"), **_EMBEDDING},
}
