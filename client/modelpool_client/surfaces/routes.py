"""PURE. The paths under which models answer: which are served, and what a model must be for them.

The one table for gateway and workers: what is not in it is no route, and what nobody here speaks
is known by name only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from modelpool_client.errors import InvalidRequest, MethodNotAllowed, NotFound, NotSupported

CHAT_PATH = "/v1/chat/completions"
TEXT_PATH = "/v1/completions"

# Asked with POST; what each makes of a request, for errors that people read.
SERVED: Mapping[str, str] = {CHAT_PATH: "chat", TEXT_PATH: "text completions"}
# Routes of the APIs that clients try, and that no engine here speaks yet.
NOT_SERVED = frozenset(
    {
        "/v1/audio/speech",
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
        "/v1/embeddings",
        "/v1/images/edits",
        "/v1/images/generations",
        "/v1/images/variations",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/moderations",
        "/v1/rerank",
        "/v1/responses",
    }
)

# Of a model's capabilities: any of these says that it writes text, whatever else it does. A model
# without a chat template is taken for chat, too: engines have one of their own for it.
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


def check_route(path: str, method: str) -> None:
    """Whether a request of clients is served at all: to be asked before its body is read.

    Raises:
        NotFound: there is no such route.
        NotSupported: there is one, in the APIs that clients know, and nobody here speaks it.
        MethodNotAllowed: it takes another method.
    """
    if path in NOT_SERVED:
        text = f"{path} is not supported by any engine here; {' and '.join(SERVED)} are"
        raise NotSupported(text)
    if path not in SERVED:
        raise NotFound(f"there is no route {path[:200]!r}; /openapi.json describes those there are")
    if method != "POST":
        raise MethodNotAllowed.of(path, method, ("POST",))


def check_capabilities(path: str, model_id: str, capabilities: Sequence[str]) -> None:
    """Whether a model can do what a path asks of it, as far as its capabilities tell.

    Raises:
        InvalidRequest: it cannot; the text names what it can do.
    """
    if capabilities and not _writes_text(capabilities):
        raise InvalidRequest(
            f"{model_id} cannot do {SERVED[path]} ({path}); it can do: {', '.join(capabilities)}",
            param="model",
            code="missing_capability",
        )


def _writes_text(capabilities: Collection[str]) -> bool:
    return not WRITES_TEXT.isdisjoint(capabilities) or WRITES_NONE.isdisjoint(capabilities)
