"""PURE. The same question in the words of each API that clients speak to models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bench import names as n
from bench.messages import CHAT, MESSAGES, Ask

_TEXT = MESSAGES[0]["content"]
_RESPONSE: Mapping[str, Any] = {"input": _TEXT, "max_output_tokens": n.PUT_TOGETHER}
_WHOLE = {"stream": False}
_LENGTH = {"max_tokens": n.PUT_TOGETHER}
_PREDICT = {"options": {"num_predict": n.PUT_TOGETHER}}

# Path, and what is said there beside the model.
_ASKED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    n.CHAT_API: (CHAT, {"messages": MESSAGES, **_LENGTH}),
    n.TEXT_API: ("/v1/completions", {"prompt": _TEXT, **_LENGTH}),
    n.MESSAGES_API: ("/v1/messages", {"messages": MESSAGES, **_LENGTH}),
    n.COUNT_API: ("/v1/messages/count_tokens", {"messages": MESSAGES}),
    n.RESPONSES_API: ("/v1/responses", {**_RESPONSE, "store": False}),
    n.KEPT_API: ("/v1/responses", _RESPONSE),
    n.OLLAMA_CHAT_API: ("/api/chat", {"messages": MESSAGES, **_WHOLE, **_PREDICT}),
    n.OLLAMA_GENERATE_API: ("/api/generate", {"prompt": _TEXT, **_WHOLE, **_PREDICT}),
    n.FIM_API: ("/v1/fim/completions", {"prompt": _TEXT, **_LENGTH}),
    n.OIP_API: ("/v2/models/{model}/generate", {"text_input": _TEXT, "parameters": _LENGTH}),
    n.EMBEDDINGS_API: ("/v1/embeddings", {"input": _TEXT}),
    n.OLLAMA_EMBED_API: ("/api/embed", {"input": _TEXT}),
    n.TEI_API: ("/embed", {"inputs": _TEXT}),
    n.COHERE_API: (
        "/v2/embed",
        {"texts": [_TEXT], "input_type": "search_query", "embedding_types": ["float"]},
    ),
    n.RERANK_API: ("/v1/rerank", {"query": _TEXT, "documents": ["rain", "sun"]}),
    n.SCORE_API: ("/score", {"text_1": _TEXT, "text_2": ["rain", "sun"]}),
    n.NATIVE_API: ("/completion", {"prompt": _TEXT, "n_predict": n.PUT_TOGETHER}),
    n.INFILL_API: ("/infill", {"input_prefix": _TEXT, "input_suffix": "sun"}),
    n.TOKENIZE_API: ("/tokenize", {"content": _TEXT}),
}


def whole(api: str, model: str) -> Ask:
    """A request for an answer in one piece."""
    return _ask(api, model)


def stream(api: str, model: str, tokens: int, **more: Any) -> Ask:
    """A request for a stream of so many tokens; ``more`` is said of how they are drawn."""
    if api == n.OIP_API:
        return _ask(api, model, "_stream", parameters={"max_tokens": tokens, **more})
    said = _ASKED[api][1]
    if "options" in said:
        return _ask(api, model, stream=True, options={"num_predict": tokens, **more})
    length = "max_output_tokens" if "max_output_tokens" in said else "max_tokens"
    return _ask(api, model, **{length: tokens, "stream": True, **more})


def _ask(api: str, model: str, suffix: str = "", **more: Any) -> Ask:
    path, said = _ASKED[api]
    named = {} if "{model}" in path else {"model": model}
    body = json.dumps({**named, **said, **more}).encode()
    return Ask(body, path.replace("{model}", model) + suffix)
