"""PURE. How many tokens a request took, as its answer says it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

# A token of a text, on average, where nobody counts them.
BYTES_PER_TOKEN = 4
# Where a usage may begin after its name and a colon, and how long those are that are read.
_USAGE_AT = 3
_USAGE_BYTES = 1024
_read_json = json.JSONDecoder().raw_decode


class Tokens(NamedTuple):
    """Tokens of one request.

    Attributes:
        completion: generated.
        prompt: read, the cached ones included.
        cached: of the prompt, those that were known already.
        is_estimated: some of it was counted by pieces and bytes, for nobody has told it.
    """

    completion: int = 0
    prompt: int = 0
    cached: int = 0
    is_estimated: bool = False


# As ``Tokens(…)``, which is a function in Python: each request takes one.
_made: Callable[[tuple[int, int, int, bool]], Tokens] = partial(tuple.__new__, Tokens)
NO_TOKENS = Tokens()
_OTHER_COMPLETIONS = frozenset({b"predicted_n", b"eval_count", b"output_tokens"})


_TOLD = re.compile(
    rb'"(completion_tokens|predicted_n|eval_count|output_tokens|prompt_tokens|prompt_eval_count'
    rb"|cached_tokens|cache_read_input_tokens|cache_creation_input_tokens|cache_n|input_tokens"
    rb'|prompt_cache_hit_tokens|prompt_n|total_tokens)": ?(\d+)'
)


def count_tokens(tail: bytes) -> Tokens:
    """Of a stream's or an answer's last kilobytes: usage in OpenAI's words or Anthropic's,
    llama.cpp's timings, or Ollama's counts."""
    told = _TOLD.findall(tail)
    if not told:
        return NO_TOKENS
    last = {name: int(number) for name, number in told}
    completion = last.get(b"completion_tokens")
    if completion is not None and len(last) < len(told):
        # llama.cpp's text completions have one for each choice.
        completion = sum(int(number) for name, number in told if name == b"completion_tokens")
    cached = last.get(b"cached_tokens") or last.get(b"prompt_cache_hit_tokens", 0)  # DeepSeek's
    prompt = last.get(b"prompt_tokens") or last.get(b"prompt_eval_count", 0)
    if completion is not None and prompt:
        completion = generated(completion, prompt, last.get(b"total_tokens"))
        return Tokens(completion, prompt, min(cached, prompt))
    if not prompt and (fresh := last.get(b"input_tokens") or last.get(b"prompt_n", 0)):
        # Anthropic and llama.cpp count what was cached beside the rest.
        cached = cached or last.get(b"cache_read_input_tokens") or last.get(b"cache_n", 0)
        prompt = fresh + cached + last.get(b"cache_creation_input_tokens", 0)
    if completion is None:
        others = [int(number) for name, number in told if name in _OTHER_COMPLETIONS]
        completion = others[-1] if others else 0
    return Tokens(completion, prompt, min(cached, prompt))


def generated(completion: int, prompt: int, total: object) -> int:
    """Tokens that were paid for as generated: Google counts its models' thoughts in the total of
    OpenAI's usage alone."""
    return max(completion, total - prompt) if type(total) is int else completion


def of_usage(usage: object) -> Tokens:
    """The same of what an answer tells as OpenAI's usage, once it was read."""
    if not usage or not isinstance(usage, dict):
        return NO_TOKENS
    told = _in_openais_words(usage)
    return count_tokens(json.dumps(usage).encode()) if told is None else told


def usage_after(name: bytes, said: bytes) -> Tokens | None:
    """The same of what an answer says last by that name: to read it takes half the time of a
    search. None: it says no counts there, or not in OpenAI's words."""
    at = said.rfind(name)
    if at < 0:
        return None
    at += len(name)
    text = said[at : at + _USAGE_BYTES].decode("latin-1")
    try:
        usage, _ = _read_json(text, text.index("{", 0, _USAGE_AT))
    except (ValueError, RecursionError):
        return None
    return _in_openais_words(usage)


def _in_openais_words(usage: Mapping[str, Any]) -> Tokens | None:
    told = usage.get
    completion, prompt = told("completion_tokens"), told("prompt_tokens")
    if type(completion) is not int or type(prompt) is not int or completion <= 0 or prompt <= 0:
        return None
    details = told("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    if cached is None:
        cached = told("prompt_cache_hit_tokens", 0)
    if type(cached) is not int:
        cached = 0
    if (total := told("total_tokens")) != completion + prompt:
        completion = generated(completion, prompt, total)
    return _made((completion, prompt, cached if cached < prompt else prompt, False))


def estimated(told: Tokens, asked_bytes: int, pieces: int) -> Tokens:
    """With what nobody has told of a text: the answer by the pieces of its stream, the prompt by
    the bytes of the request."""
    completion = told.completion or pieces
    prompt = told.prompt or -(-asked_bytes // BYTES_PER_TOKEN)
    if (completion, prompt) == told[:2]:
        return told
    return Tokens(completion, prompt, min(told.cached, prompt), is_estimated=True)
