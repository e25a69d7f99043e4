"""PURE. The rule of every parameter of OpenAI's API, for all engines: honoured, refused, or ignored
and named. What an engine makes of it says ``parameters.Support``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from modelpool_client.surfaces.routes import (
    CHAT_PATH,
    CLASSIFY_PATH,
    IMAGE_EDITS_PATH,
    IMAGES_PATH,
    SPEECH_PATH,
    TEXT_PATH,
    TRANSCRIPTIONS_PATH,
    TRANSLATIONS_PATH,
)


class Disposition(StrEnum):
    HONOURED = "honoured"
    REFUSED = "refused"
    IGNORED = "ignored"


@dataclass(frozen=True)
class Rule:
    """What becomes of a parameter.

    Attributes:
        how: where it is up to the engine, what becomes of it with one that does not honour it.
        why: for whoever is refused, and for the docs.
        neutral: values that ask for nothing but what happens anyway, and are never refused.
        is_up_to_engine: an engine may honour it.
        by: the worker itself does it for an engine that honours this other parameter.
        told: parameters of OpenAI's, where it is one of another API that engines are told in these
            words: what becomes of them becomes of it.
        at: the path that these are parameters of.
    """

    how: Disposition
    why: str = ""
    neutral: tuple[Any, ...] = ()
    is_up_to_engine: bool = False
    by: str = ""
    told: tuple[str, ...] = ()
    at: str = CHAT_PATH


def own(why: str) -> Rule:
    """Honoured, whatever the engine."""
    return Rule(Disposition.HONOURED, why)


def ignored(why: str, *neutral: Any) -> Rule:
    """Named in the answer."""
    return Rule(Disposition.IGNORED, why, neutral)


def refused(why: str, *neutral: Any) -> Rule:
    """Answered by an error that names it."""
    return Rule(Disposition.REFUSED, why, neutral)


def told(*names: str, at: str = CHAT_PATH) -> Rule:
    """As OpenAI's parameters of these names."""
    return Rule(Disposition.HONOURED, told=names, at=at)


def _engine(how: Disposition, why: str, *neutral: Any, by: str = "") -> Rule:
    return Rule(how, why, neutral, is_up_to_engine=True, by=by)


_HONOURED, _REFUSED, _IGNORED = Disposition.HONOURED, Disposition.REFUSED, Disposition.IGNORED
_NO_SUCH = "the engine has no such setting"
_NOT_HOSTED = "means something at OpenAI's own service only"

# Load options belong to the instance (SPEC rule 11): in a request they are dropped, and named.
LOAD_OPTIONS = frozenset(
    {
        "cache_type_k",
        "cache_type_v",
        "context_length",
        "context_size",
        "ctx_size",
        "gpu_layers",
        "keep_alive",
        "low_vram",
        "main_gpu",
        "mmap",
        "model_path",
        "n_batch",
        "n_ctx",
        "n_gpu_layers",
        "n_parallel",
        "n_threads",
        "n_ubatch",
        "num_batch",
        "num_ctx",
        "num_gpu",
        "num_thread",
        "numa",
        "parallel",
        "threads",
        "use_mlock",
        "use_mmap",
    }
)
LOAD_OPTION = ignored("a load option: set it on the model")
UNKNOWN = ignored("not known here")

_COMMON: Mapping[str, Rule] = {
    "model": own("says which model"),
    "stream": own("in pieces, as they are computed"),
    "stream_options": own("see its own parameters"),
    "stream_options.include_usage": own("a last chunk with the tokens that were used"),
    "stream_options.include_obfuscation": ignored("nothing is padded here", False),
    "user": own("requests of one user go to the same copy of a model"),
    "priority": own("high, normal or low, in the pool's queue"),
    "temperature": _engine(_IGNORED, _NO_SUCH),
    "top_p": _engine(_IGNORED, _NO_SUCH, 1),
    "n": _engine(_REFUSED, "the engine gives one answer a request", 1),
    "max_tokens": _engine(_IGNORED, _NO_SUCH),
    "stop": _engine(_IGNORED, _NO_SUCH),
    "seed": _engine(_IGNORED, _NO_SUCH),
    "presence_penalty": _engine(_IGNORED, _NO_SUCH, 0),
    "frequency_penalty": _engine(_IGNORED, _NO_SUCH, 0),
    "logit_bias": _engine(_IGNORED, _NO_SUCH, {}),
}
_TRANSCRIPT: Mapping[str, Rule] = {
    "prompt": _engine(_IGNORED, _NO_SUCH),
    "response_format": _engine(_REFUSED, "the engine answers with the text alone", "json"),
    "temperature": _engine(_IGNORED, _NO_SUCH, 0),
}
_PICTURE: Mapping[str, Rule] = {
    "model": own("says which model"),
    "n": _engine(_REFUSED, "the engine makes one picture a request", 1),
    "size": _engine(_IGNORED, "the engine has one size", "auto"),
    "quality": _engine(_IGNORED, _NO_SUCH, "auto"),
    "style": _engine(_IGNORED, _NO_SUCH),
    "background": _engine(_IGNORED, _NO_SUCH, "auto"),
    "output_format": _engine(_REFUSED, "the engine has one format; leave it out"),
    "output_compression": _engine(_IGNORED, _NO_SUCH, 100),
    "response_format": _engine(_REFUSED, "the engine answers with the picture", "b64_json"),
    "partial_images": _engine(_IGNORED, _NO_SUCH, 0),
    "stream": _engine(_REFUSED, "the engine answers in one piece", False),
    "moderation": ignored(_NOT_HOSTED, "auto"),
    "safety_identifier": ignored(_NOT_HOSTED),
    "user": own("requests of one user go to the same copy of a model"),
}
BASE: Mapping[str, Mapping[str, Rule]] = {
    CHAT_PATH: {
        "messages": own("what is said"),
        **_COMMON,
        "max_completion_tokens": _engine(_IGNORED, _NO_SUCH),
        "logprobs": _engine(_REFUSED, "the engine tells no log probabilities", False),
        "top_logprobs": _engine(_REFUSED, "the engine tells no log probabilities", 0),
        "response_format": _engine(
            _REFUSED, "the engine cannot be held to a format", {"type": "text"}
        ),
        "tools": _engine(_IGNORED, "the model is not told of them", []),
        "tool_choice": _engine(
            _REFUSED,
            "the engine cannot be made to call a tool; 'auto' and 'none' can be asked",
            "none",
            "auto",
            by="response_format",
        ),
        "parallel_tool_calls": _engine(_IGNORED, _NO_SUCH, True),
        "functions": refused("is OpenAI's former form of tools: send tools", []),
        "function_call": refused(
            "is OpenAI's former form of tool_choice: send tool_choice", "none", "auto"
        ),
        "reasoning_effort": _engine(_IGNORED, "the model has no such setting"),
        "verbosity": _engine(_IGNORED, _NO_SUCH, "medium"),
        "prediction": _engine(_IGNORED, "it would save time only"),
        "modalities": _engine(_REFUSED, "the engine answers in text only", ["text"]),
        "audio": _engine(_REFUSED, "the engine answers in text only"),
        "web_search_options": refused("nothing here searches the web"),
        "moderation": refused("nothing here moderates"),
        "prompt_cache_key": own("requests of one key go to the same copy of a model"),
        "prompt_cache_options": ignored("prompts are cached as the pool is configured"),
        "prompt_cache_retention": ignored("prompts are cached as the pool is configured"),
        "metadata": ignored("answers are not stored"),
        "store": ignored("answers are not stored", False),
        "service_tier": ignored(_NOT_HOSTED, "auto", "default"),
        "safety_identifier": ignored(_NOT_HOSTED),
    },
    TEXT_PATH: {
        "prompt": own("a text, a list of texts, tokens, or a list of lists of tokens"),
        **_COMMON,
        "echo": own("with a prompt that is text, and without logprobs"),
        "logprobs": _engine(_REFUSED, "the engine tells no log probabilities"),
        "suffix": _engine(_REFUSED, "the engine cannot fill in", ""),
        "best_of": _engine(
            _REFUSED, "the engine does not choose among its answers; ask for them with n", 1
        ),
    },
    TRANSCRIPTIONS_PATH: {
        "file": own("the recording"),
        "model": own("says which model"),
        **_TRANSCRIPT,
        "stream": _engine(_REFUSED, "the engine answers in one piece", False),
        "language": _engine(_IGNORED, "the engine finds it out"),
        "languages": _engine(_IGNORED, "the engine finds it out"),
        "timestamp_granularities": _engine(_REFUSED, "the engine tells no times of them", []),
        "include": _engine(_REFUSED, "the engine tells nothing more", []),
        "chunking_strategy": _engine(_IGNORED, _NO_SUCH, "auto"),
        "keywords": _engine(_IGNORED, _NO_SUCH, []),
        "known_speaker_names": _engine(_REFUSED, "the engine does not tell speakers apart", []),
        "known_speaker_references": _engine(_IGNORED, _NO_SUCH, []),
    },
    TRANSLATIONS_PATH: {
        "file": own("the recording"),
        "model": own("says which model"),
        **_TRANSCRIPT,
    },
    SPEECH_PATH: {
        "input": own("what is to be said"),
        "model": own("says which model"),
        "voice": _engine(_IGNORED, "the engine has one voice"),
        "response_format": _engine(_REFUSED, "the engine has one format; leave it out"),
        "speed": _engine(_IGNORED, _NO_SUCH, 1),
        "instructions": _engine(_IGNORED, _NO_SUCH),
        "stream_format": _engine(_REFUSED, "the engine answers with the sound alone", "audio"),
    },
    IMAGES_PATH: {"prompt": own("what is to be seen"), **_PICTURE},
    IMAGE_EDITS_PATH: {
        "image": own("one picture, or several"),
        "prompt": own("what is to be seen"),
        "mask": _engine(_REFUSED, "the engine changes whole pictures only"),
        "input_fidelity": _engine(_IGNORED, _NO_SUCH),
        **_PICTURE,
    },
    CLASSIFY_PATH: {
        "model": own("says which model"),
        "input": own("a text, or a list of texts"),
        "user": own("requests of one user go to the same copy of a model"),
    },
}
