"""PURE. What a provider answers in place of an answer, as an error of ours: who failed, in whose
words, and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from modelpool_client.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    ModelNotFound,
    ModelPoolError,
    PayloadTooLarge,
    RateLimited,
    Unavailable,
    UpstreamFailed,
    UpstreamTimeout,
)
from modelpool_client.http1.message import Headers

LONGEST_WORDS = 500
# 429 that waiting does not end.
_SPENT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_error"})
# Beside 503 and 529: Groq's for a tier without room.
_OVERLOADED = frozenset({498, 503, 529})
# How a choice ends whose model has failed: OpenRouter's word, and DeepSeek's.
_FAILED_ENDS = frozenset({"error", "insufficient_system_resource"})
# What an event of a stream holds at least where it tells a failure.
FAILURE_WORDS = (b'"error"', b"insufficient_system_resource")
_TOO_LONG = ("context_length_exceeded", "string_above_max_length")
_LONG_WORDS = (
    "prompt is too long",
    "maximum context length",
    "exceeds the maximum number of tokens",
)


@dataclass(frozen=True)
class Provider:
    """Who is asked, as errors name it.

    Attributes:
        name: with its host: ``openai (api.openai.com)``.
        key_place: where the key comes from.
        has_key: there is one.
        mask: takes the key out of a text.
    """

    name: str
    key_place: str
    has_key: bool
    mask: Callable[[str], str]

    def failed(self, text: str, code: str | None = None) -> UpstreamFailed:
        """It did; ``text`` goes on from its name."""
        return UpstreamFailed(self.mask(f"{self.name} {text}"), code=code, source="upstream")

    def timed_out(self, text: str) -> UpstreamTimeout:
        """It gave nothing in time; ``text`` goes on from its name."""
        return UpstreamTimeout(self.mask(f"{self.name} {text}"), source="upstream")

    def limited(self, model: str, seconds: float) -> RateLimited:
        """It has said when it will take more; nothing was sent."""
        text = f"{self.name} takes no more requests for {model} for {seconds:.0f} s, as it has said"
        return RateLimited(
            self.mask(f"{text}; nothing was sent"), source="upstream", retry_after=seconds
        )


@dataclass(frozen=True)
class Words:
    """What an error body says: its message, and whatever names the error."""

    message: str
    names: tuple[str, ...] = ()
    param: str | None = None


def error_of(
    provider: Provider, status: int, headers: Headers, body: bytes, pause: float | None, model: str
) -> ModelPoolError:
    """The error for an answer that is none.

    Args:
        pause: seconds until it may be asked again, where it was asked too much.
        model: its name there.
    """
    said = read(body)
    words = provider.mask(said.message)
    says = f"{provider.name} says: {words}"
    if 300 <= status < 400:
        return provider.failed(_redirect(headers), "upstream_redirect")
    if status in (401, 403):
        return _refused_key(provider, status, words)
    if status == 402 or (status == 429 and _SPENT.intersection(said.names)):
        text = f"{says}; its account has nothing left, which waiting does not mend"
        return RateLimited(text, code="insufficient_quota", source="upstream")
    if status == 429:
        return RateLimited(says, source="upstream", retry_after=pause)
    if status == 404:
        return _missing(provider, said, words, model)
    if status == 413:
        return PayloadTooLarge(says, source="upstream")
    if status in (408, 504):
        return UpstreamTimeout(says, source="upstream")
    if status in _OVERLOADED:
        text = f"{provider.name} is overloaded: {words}"
        return Unavailable(text, code="upstream_overloaded", source="upstream", retry_after=pause)
    if 400 <= status < 500:
        return _refused(said, says)
    return provider.failed(f"answered {status}: {words}")


def stream_error(provider: Provider, data: Any) -> ModelPoolError | None:
    """The error that an event of a stream, or a body with status 200, is; None where it is none.

    Its code is never ``upstream_overloaded``, after which a request is sent again: what was begun
    may be billed.
    """
    if not isinstance(data, dict):
        return None
    if data.get("type") != "error" and not data.get("error"):
        return _failed_choice(provider, data.get("choices"))
    said = _words(data)
    words = f"{provider.name} broke off its answer: {said.message}"
    if "overloaded_error" in said.names:
        return Unavailable(
            provider.mask(words), code="upstream_failed", source="upstream", retry_after=1
        )
    if "rate_limit_error" in said.names or "429" in said.names:
        return RateLimited(provider.mask(words), source="upstream", retry_after=1)
    return UpstreamFailed(provider.mask(words), source="upstream")


def _failed_choice(provider: Provider, choices: Any) -> ModelPoolError | None:
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and choice.get("finish_reason") in _FAILED_ENDS:
            reason = choice["finish_reason"]
            said = _words({"error": choice["error"]}).message if choice.get("error") else reason
            return provider.failed(f"broke off its answer: {said}")
    return None


def read(body: bytes) -> Words:
    """What an error body says, in any of the providers' shapes, or in none."""
    try:
        return _words(json.loads(body))
    except (ValueError, RecursionError):
        text = body[:LONGEST_WORDS].decode(errors="replace").strip()
    if text.startswith("<"):
        return Words("a page for people, in HTML: is base_url right?")
    return Words(text or "nothing")


def _words(data: Any) -> Words:
    """OpenAI's ``{"error": {message, type, code, param}}``; Anthropic's with a ``type`` beside it;
    Google's in a list, with a ``status``; a bare text; Mistral's ``message`` or ``detail``."""
    if isinstance(data, list) and data:
        data = data[0]
    if not isinstance(data, dict):
        return Words(_text(data))
    error = data.get("error", data)
    if not isinstance(error, dict):
        return Words(_text(error))
    message = next((error[k] for k in ("message", "detail", "error") if error.get(k)), error)
    names = tuple(str(error[k]) for k in ("type", "code", "status") if error.get(k) is not None)
    param = error.get("param")
    return Words(_text(message), names, param if isinstance(param, str) else None)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST_WORDS else f"{text[:LONGEST_WORDS]}…"


def _redirect(headers: Headers) -> str:
    place = dict(headers).get(b"location", b"").decode("latin-1")[:200]
    return (
        f"answered with a redirect to {place or 'nowhere'}, which is not followed, for the key"
        " would go along; set base_url to where its API is"
    )


def _refused_key(provider: Provider, status: int, words: str) -> ModelPoolError:
    if not provider.has_key:
        text = f"wants a key, and there is none: set {provider.key_place}; it says: {words}"
    elif status == 401:
        text = f"refused the key from {provider.key_place}: {words}"
    else:
        text = f"does not allow this with the key from {provider.key_place}: {words}"
    return provider.failed(text, "upstream_refused_key")


def _missing(provider: Provider, said: Words, words: str, model: str) -> ModelPoolError:
    if "v1/responses" in words:  # OpenAI's for models that it has at that route alone
        text = f"{provider.name} says: {words} Ask for it at /v1/responses; the option"
        text += " native_responses sends that there"
        return InvalidRequest(text, param="model", source="upstream")
    names = {"model_not_found", "not_found_error", "NOT_FOUND", "invalid_model"}
    if names.intersection(said.names) or "model" in words.lower():
        text = f"{provider.name} has no model {model!r}, or not for this key: {words}"
        return ModelNotFound(text, param="model", source="upstream")
    return provider.failed(f"has no such route, is base_url right? It says: {words}")


def _refused(said: Words, says: str) -> ModelPoolError:
    if any(name in _TOO_LONG for name in said.names) or any(w in says for w in _LONG_WORDS):
        return ContextLengthExceeded(says, param=said.param, source="upstream")
    return InvalidRequest(says, param=said.param, source="upstream")
