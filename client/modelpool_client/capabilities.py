"""PURE. The words for what a model can do: the one vocabulary of catalog, routes, engines, clients.

Other words may be declared; they say nothing to anybody here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

# Word -> what a model does that has it; in the order in which they are told.
CAPABILITIES: Mapping[str, str] = {
    "chat": "answers a conversation",
    "completion": "goes on with a text",
    "infill": "fills the gap between two texts",
    "tools": "calls the tools that a request offers",
    "vision": "reads pictures beside text",
    "audio": "hears sounds beside text",
    "thinking": "reasons in a part of its own before it answers",
    "streaming": "answers piece by piece",
    "json_mode": "answers with JSON where asked to",
    "json_schema": "answers with JSON of a given schema",
    "logprobs": "tells the probabilities of what it wrote",
    "embeddings": "makes vectors of texts",
    "rerank": "tells how well documents answer a query",
    "classification": "tells to which classes a text belongs",
    "moderation": "tells whether a text is harmful",
    "speech_to_text": "writes down speech",
    "text_to_speech": "speaks a text",
    "image_generation": "draws pictures",
    "image_classification": "tells what a picture shows",
    "tensor_inference": "takes tensors and gives tensors",
}

# What others call them.
SPELLINGS: Mapping[str, str] = {
    "text_generation": "completion",
    "chat_completion": "chat",
    "function_calling": "tools",
    "embedding": "embeddings",
}

# Any of these says that a model writes text, whatever else it does. One without a chat template is
# taken for chat, too: engines have one of their own for it.
WRITES_TEXT = frozenset(
    {"chat", "completion", "infill", "json_mode", "json_schema", "logprobs", "tools"}
)
# These, without one of those, say that it does not. Other words say nothing of it.
WRITES_NONE = frozenset(
    {
        "embeddings",
        "image_classification",
        "image_generation",
        "moderation",
        "rerank",
        "speech_to_text",
        "tensor_inference",
        "text_to_speech",
    }
)


def word_of(text: str) -> str:
    """The word that somebody means who writes it in another way: ``json mode``, ``embedding``."""
    word = text.casefold().replace(" ", "_").replace("-", "_")
    return SPELLINGS.get(word, word)


def in_order(words: Collection[str]) -> tuple[str, ...]:
    """Ours as they are told, then those that nobody here knows."""
    ours = [word for word in CAPABILITIES if word in words]
    return (*ours, *(word for word in dict.fromkeys(words) if word not in CAPABILITIES))
