"""PURE. What becomes of every parameter of a completion request: honoured, refused, or ignored and
named. Nothing is dropped without a word.

One table, ``BASE``, for all engines; an engine says which of those that are up to it it honours,
and which of its own, for each path (``Engine.honours`` in the worker), and a load which of them
this model cannot have.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.routes import CHAT_PATH, TEXT_PATH


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
    """

    how: Disposition
    why: str = ""
    neutral: tuple[Any, ...] = ()
    is_up_to_engine: bool = False
    by: str = ""


def _own(why: str) -> Rule:
    return Rule(Disposition.HONOURED, why)


def _never(how: Disposition, why: str, *neutral: Any) -> Rule:
    return Rule(how, why, neutral)


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
LOAD_OPTION = _never(_IGNORED, "a load option: set it on the model")
UNKNOWN = _never(_IGNORED, "not known here")

_COMMON: Mapping[str, Rule] = {
    "model": _own("says which model"),
    "stream": _own("in pieces, as they are computed"),
    "stream_options": _own("see its own parameters"),
    "stream_options.include_usage": _own("a last chunk with the tokens that were used"),
    "stream_options.include_obfuscation": _never(_IGNORED, "nothing is padded here", False),
    "user": _own("requests of one user go to the same copy of a model"),
    "priority": _own("high, normal or low, in the pool's queue"),
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
BASE: Mapping[str, Mapping[str, Rule]] = {
    CHAT_PATH: {
        "messages": _own("what is said"),
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
        "functions": _never(_REFUSED, "is OpenAI's former form of tools: send tools", []),
        "function_call": _never(
            _REFUSED, "is OpenAI's former form of tool_choice: send tool_choice", "none", "auto"
        ),
        "reasoning_effort": _engine(_IGNORED, "the model has no such setting"),
        "verbosity": _engine(_IGNORED, _NO_SUCH, "medium"),
        "prediction": _engine(_IGNORED, "it would save time only"),
        "modalities": _engine(_REFUSED, "the engine answers in text only", ["text"]),
        "audio": _engine(_REFUSED, "the engine answers in text only"),
        "web_search_options": _never(_REFUSED, "nothing here searches the web"),
        "moderation": _never(_REFUSED, "nothing here moderates"),
        "prompt_cache_key": _own("requests of one key go to the same copy of a model"),
        "prompt_cache_options": _never(_IGNORED, "prompts are cached as the pool is configured"),
        "prompt_cache_retention": _never(_IGNORED, "prompts are cached as the pool is configured"),
        "metadata": _never(_IGNORED, "answers are not stored"),
        "store": _never(_IGNORED, "answers are not stored", False),
        "service_tier": _never(_IGNORED, _NOT_HOSTED, "auto", "default"),
        "safety_identifier": _never(_IGNORED, _NOT_HOSTED),
    },
    TEXT_PATH: {
        "prompt": _own("a text, a list of texts, tokens, or a list of lists of tokens"),
        **_COMMON,
        "echo": _own("with a prompt that is text, and without logprobs"),
        "logprobs": _engine(_REFUSED, "the engine tells no log probabilities"),
        "suffix": _engine(_REFUSED, "the engine cannot fill in", ""),
        "best_of": _engine(
            _REFUSED, "the engine does not choose among its answers; ask for them with n", 1
        ),
    },
}


class Support:
    """What becomes of parameters with one engine and the model that it has loaded."""

    def __init__(
        self,
        honours: Mapping[str, Collection[str]],
        unable: Mapping[str, str] | None = None,
        *,
        unknown: Rule = UNKNOWN,
    ) -> None:
        """
        Args:
            honours: for each path what the engine honours, beyond what nobody need ask it.
            unable: of these what this model cannot have, and why.
            unknown: what becomes of whatever has no rule.
        """
        self._unknown = unknown
        self._unable = unable or {}
        self._honours = {path: frozenset(honours.get(path, ())) - {*self._unable} for path in BASE}
        self._rules = {path: dict(self._merged(path)) for path in BASE}

    def rule(self, path: str, name: str) -> Rule:
        """What becomes of one parameter."""
        return self._rules[path].get(name, self._unknown)

    def names(self, path: str) -> list[str]:
        """Every parameter that has a rule of its own."""
        return list(self._rules[path])

    def engine_honours(self, path: str, name: str) -> bool:
        """Whether the engine takes it itself."""
        return name in self._honours[path]

    def sort(self, path: str, given: Mapping[str, Any]) -> tuple[str, ...]:
        """The names of those that are ignored.

        Raises:
            InvalidRequest: one is refused.
        """
        rules, unknown, ignored = self._rules[path], self._unknown, []
        for name, value in _each(given):
            rule = rules.get(name, unknown)
            if rule.how is _HONOURED or value in rule.neutral or _is_used(name, given):
                continue
            if rule.how is _REFUSED:
                raise InvalidRequest(f"{name} is not supported here: {rule.why}", param=name)
            ignored.append(name)
        return tuple(sorted(ignored))

    def _merged(self, path: str) -> Iterator[tuple[str, Rule]]:
        honours = self._honours[path]
        for name, rule in BASE[path].items():
            if rule.is_up_to_engine and (name in honours or rule.by in honours):
                yield name, Rule(_HONOURED)
            elif name in self._unable:
                yield name, Rule(rule.how, self._unable[name], rule.neutral)
            else:
                yield name, rule
        for name in sorted(honours - BASE[path].keys()):
            yield name, Rule(_HONOURED, "the engine's own")
        for name in sorted(LOAD_OPTIONS):
            yield name, LOAD_OPTION


# Of an engine that is not asked: whatever may be up to it is left to it.
ANY = Support(
    {
        path: [name for name, r in rules.items() if r.is_up_to_engine]
        for path, rules in BASE.items()
    },
    unknown=Rule(Disposition.HONOURED),
)


def header_of(ignored: Collection[str]) -> bytes:
    """Their names as the value of a header: anything may be a name."""
    shown = [quote(name[:_NAME_LENGTH], safe="") for name in list(ignored)[:_SHOWN]]
    left = len(ignored) - len(shown)
    return ", ".join([*shown, *([f"and {left} more"] if left else [])]).encode()


_SHOWN, _NAME_LENGTH = 32, 64


def is_forced(given: Mapping[str, Any]) -> bool:
    """A chat whose answer has to be a call of a tool."""
    choice = given.get("tool_choice")
    return choice == "required" or isinstance(choice, dict)


def _each(given: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    options = given.get("stream_options")
    if not options:  # nearly always
        return given.items()
    inner = {f"stream_options.{k}": v for k, v in options.items() if v is not None}
    return [*given.items(), *inner.items()]


def _is_used(name: str, given: Mapping[str, Any]) -> bool:
    # A call that is forced is held to the schemas of the tools, whether or not the model sees them.
    return name == "tools" and is_forced(given)
