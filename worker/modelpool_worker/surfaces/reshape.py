"""PURE. What an engine is asked in place of what its client asked, and how its answer is told then.

Most requests go through as they came. Those that no engine here answers in OpenAI's words are asked
in others, and each chunk of their answers is made anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from modelpool_client.http1.exchange import JSON_TYPE
from modelpool_client.http1.message import Headers
from modelpool_client.surfaces.openai import Completion
from modelpool_client.surfaces.parameters import Support, is_forced
from modelpool_client.surfaces.routes import CHAT_PATH, TEXT_PATH

from .forced_call import ForcedCall
from .infill import INFILL_PATH, Infill
from .legacy_text import LegacyText

Chunk = dict[str, Any]
_JSON: Headers = [JSON_TYPE]
ANTHROPIC_HEADERS = frozenset({b"anthropic-version", b"anthropic-beta"})


class Reshape(Protocol):
    """The chunks of one answer, made anew."""

    @property
    def is_complete(self) -> bool:
        """All that there is has come, whether or not the engine says so with a last event."""
        ...

    def chunk(self, chunk: Chunk) -> list[Chunk]:
        """What the client is told of one of the engine's."""
        ...

    def end(self) -> list[Chunk]:
        """What it is told after the last."""
        ...


@dataclass(slots=True)  # as a ``Completion``
class EngineRequest:
    """What the engine is asked: ``completion`` at ``path``, described by ``headers``. ``reshape``
    None: its answer is what the client wants."""

    path: str
    completion: Completion
    reshape: Reshape | None = None
    headers: Headers = field(default_factory=lambda: _JSON)


def engine_request(
    path: str, completion: Completion, support: Support, head: Callable[[], Chunk]
) -> EngineRequest:
    """How an engine is asked. ``head`` gives id, time and model of an answer that has none."""
    if not support.is_known or support.takes_all(path):
        # It answers in OpenAI's words, whatever it is asked.
        return EngineRequest(path, completion, None, _JSON)
    if path == CHAT_PATH:
        return _chat(completion, support)
    if path == TEXT_PATH:
        return _text(path, completion, head)
    return EngineRequest(path, completion)


def with_versions(request: EngineRequest, headers: Headers) -> EngineRequest:
    """PURE. With the version of Anthropic's API that a client speaks, which is a matter between it
    and who answers."""
    versions = [pair for pair in headers if pair[0] in ANTHROPIC_HEADERS]
    return replace(request, headers=[*request.headers, *versions]) if versions else request


def _chat(completion: Completion, support: Support) -> EngineRequest:
    body = completion.body
    if is_forced(body) and not support.engine_honours(CHAT_PATH, "tool_choice"):
        shows_tools = support.engine_honours(CHAT_PATH, "tools")
        asked = ForcedCall.question(body, shows_tools=shows_tools)
        return EngineRequest(CHAT_PATH, _of(completion, asked), ForcedCall())
    if body.get("logprobs") and not body.get("top_logprobs"):
        # llama.cpp gives none at all for 0, and twenty for none given.
        asked = {**body, "top_logprobs": 1}
        return EngineRequest(CHAT_PATH, _of(completion, asked), _WithoutAlternatives())
    return EngineRequest(CHAT_PATH, completion)


def _text(path: str, completion: Completion, head: Callable[[], Chunk]) -> EngineRequest:
    body = completion.body
    if body.get("suffix"):
        told = Infill(body, head())
        asked = Infill.question(body)
        return EngineRequest(INFILL_PATH, _of(completion, asked), told)
    if body.get("echo") or "logprobs" in body:
        asked = LegacyText.question(body)
        return EngineRequest(path, _of(completion, asked), LegacyText(body))
    return EngineRequest(path, completion)


def _of(completion: Completion, body: Chunk) -> Completion:
    return replace(completion, body=body, raw=None)


class _WithoutAlternatives:
    """The log probabilities of what was said, and of nothing else."""

    is_complete = False

    def chunk(self, chunk: Chunk) -> list[Chunk]:
        for choice in chunk.get("choices") or ():
            for token in (choice.get("logprobs") or {}).get("content") or ():
                token["top_logprobs"] = []
        return [chunk]

    def end(self) -> list[Chunk]:
        return []
