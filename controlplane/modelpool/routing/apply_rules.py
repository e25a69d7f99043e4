"""PURE. A request with the gaps filled, bounds applied and parameters left out that somebody has
said; and what was changed, for the header that tells the client."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import quote

from modelpool_client.surfaces.families import FAMILIES
from modelpool_client.surfaces.routes import (
    CHAT_PATH,
    CHAT_TOKENS_PATH,
    FIM_PATH,
    RESPONSE_TOKENS_PATH,
    RESPONSES_PATH,
    SURFACES,
    TEXT_PATH,
    Surface,
)

from modelpool.catalog.request_rules import Rules

MAX_TOKENS = "max_tokens"
# Said of a request that makes text, and of no other.
SAMPLING = frozenset(
    {"temperature", "top_p", "top_k", "min_p", "typical_p", "seed", "stop", MAX_TOKENS}
    | {"presence_penalty", "frequency_penalty", "repeat_penalty", "repetition_penalty"}
    | {"repeat_last_n", "mirostat", "mirostat_tau", "mirostat_eta", "n_keep"}
    | {"logprobs", "top_logprobs", "logit_bias", "n", "response_format", "reasoning_effort"}
    | {"tools", "tool_choice", "parallel_tool_calls", "verbosity", "chat_template_kwargs"}
)
SHOWN_CHARACTERS, MOST_SHOWN = 40, 32


@dataclass(frozen=True)
class Form:
    """How an API says what rules are about.

    Attributes:
        makes_text: parameters of sampling mean something there.
        inside: the key of the object in which parameters stand; empty: they stand beside the rest.
        names: of parameters that are called otherwise than in OpenAI's API, all that are read; the
            first is written.
        system: where the system prompt stands: ``messages``, or the name of a key.
    """

    makes_text: bool = True
    inside: str = ""
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    system: str = ""


_OPENAI = {MAX_TOKENS: ("max_completion_tokens", MAX_TOKENS)}
_RESPONSES = {MAX_TOKENS: ("max_output_tokens",)}
_ANTHROPIC = {"stop": ("stop_sequences",)}
_OLLAMA = {MAX_TOKENS: ("num_predict",), "n_keep": ("num_keep",)}
_LLAMA = {MAX_TOKENS: ("n_predict", MAX_TOKENS)}
_MISTRAL = {"seed": ("random_seed",)}
_NONE = Form(makes_text=False)
FORMS: Mapping[str, Form] = {
    CHAT_PATH: Form(names=_OPENAI, system="messages"),
    TEXT_PATH: Form(),
    CHAT_TOKENS_PATH: Form(makes_text=False, system="messages"),
    RESPONSES_PATH: Form(names=_RESPONSES, system="instructions"),
    RESPONSE_TOKENS_PATH: Form(makes_text=False, system="instructions"),
    "/v1/messages": Form(names=_ANTHROPIC, system="system"),
    "/v1/messages/count_tokens": Form(makes_text=False, system="system"),
    "/api/chat": Form(inside="options", names=_OLLAMA, system="messages"),
    "/api/generate": Form(inside="options", names=_OLLAMA, system="system"),
    FIM_PATH: Form(names=_MISTRAL),
    "/completion": Form(names=_LLAMA),
    "/infill": Form(names=_LLAMA),
}


def applied(rules: Rules, path: str, data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The body of a request to a route after the rules, and what they changed of it, each as a
    phrase: ``temperature=0.2 (default)``.

    Where a request has several spellings of a parameter all of them are bounded. Counting tokens
    takes the system prompt into account and nothing else. What an API has no parameter for is not
    set, which is said, too: ``stop (default, not set: not a parameter of /v1/responses)``. Bodies
    that are no JSON, or an engine's own business, are left as they are: that is said of all rules.
    """
    surface = SURFACES.get(path)
    if surface is None:
        return dict(data), []
    if not is_changed(surface):
        return dict(data), list(_left_out(rules, surface))
    body = _Body(path, dict(data))
    for name in rules.strip:
        body.strip(name)
    for name, value in rules.overrides.items():
        body.override(name, value)
    for name, value in rules.defaults.items():
        body.fill(name, value, "default")
    for name, limit in rules.limits.items():
        for spelling, given in body.numbers(name):
            if limit.bound(given) != given:
                body.set(
                    spelling, _as_given(limit.bound(given), given), f"limit, was {_shown(given)}"
                )
        if name == MAX_TOKENS and limit.high < float("inf"):
            body.fill(name, _as_given(limit.high, 0), "limit")
    if rules.system_prompt:
        body.tell_system(rules.system_prompt)
    return body.data, body.changes


def is_changed(surface: Surface) -> bool:
    """Do rules change what is asked there?"""
    return surface.codec == "json" and not surface.has_names


def _left_out(rules: Rules, surface: Surface) -> Iterator[str]:
    makes_text = CHAT_PATH in surface.asks or TEXT_PATH in surface.asks
    said = [
        *((name, "stripped") for name in rules.strip),
        *((name, "override") for name in rules.overrides),
        *((name, "default") for name in rules.defaults),
        *((name, "limit") for name in rules.limits),
    ]
    for name, why in said:
        if makes_text or name not in SAMPLING:
            yield f"{name} ({why}, not set: no rules at {surface.path})"
    if rules.system_prompt and makes_text:
        yield f"system prompt (default, not set: no rules at {surface.path})"


def header_value(changes: Sequence[str]) -> bytes:
    """What was changed, as the value of a header."""
    shown = [quote(c, safe=" =(),:;.[]{}\"'*/@+-_#!?<>|") for c in changes[:MOST_SHOWN]]
    left = len(changes) - len(shown)
    return ", ".join([*shown, *([f"and {left} more"] if left else [])]).encode()


class _Body:
    """The body of a request while it is changed, and what was changed so far."""

    def __init__(self, path: str, data: dict[str, Any]) -> None:
        self.form = FORMS.get(path, _NONE)
        self._path = path
        self.data = data
        self.changes: list[str] = []

    @property
    def _parameters(self) -> Mapping[str, Any]:
        inside = self.data.get(self.form.inside) if self.form.inside else self.data
        return inside if isinstance(inside, Mapping) else {}

    def _spellings(self, name: str) -> tuple[str, ...]:
        return self.form.names.get(name, (name,))

    def _is_meant(self, name: str) -> bool:
        """It says something about such a request."""
        return self.form.makes_text or (self.form == _NONE and name not in SAMPLING)

    def _put(self, name: str, value: Any) -> None:
        if self.form.inside:
            self.data[self.form.inside] = {**self._parameters, name: value}
        else:
            self.data[name] = value

    def _takes(self, spelling: str) -> bool:
        known = _parameters_of(self._path)
        inside = f"{self.form.inside}." if self.form.inside else ""
        return known is None or inside + spelling in known

    def add(self, spelling: str, value: Any, why: str) -> None:
        """What it does not say."""
        if self._takes(spelling):
            self.set(spelling, value, why)
        else:
            text = f"not set: not a parameter of {self._path}"
            self.changes.append(f"{spelling} ({why}, {text})")

    def set(self, spelling: str, value: Any, why: str) -> None:
        self._put(spelling, value)
        self.changes.append(f"{spelling}={_shown(value)} ({why})")

    def fill(self, name: str, value: Any, why: str) -> None:
        names = self._spellings(name)
        if self._is_meant(name) and all(self._parameters.get(n) is None for n in names):
            # What most engines know where several spellings are read.
            self.add(name if name in names else names[0], value, why)

    def override(self, name: str, value: Any) -> None:
        if not self._is_meant(name):
            return
        names = self._spellings(name)
        given = [n for n in names if self._parameters.get(n) is not None]
        if not given:
            self.add(name if name in names else names[0], value, "override")
        for spelling in given:
            before = self._parameters[spelling]
            if before != value:
                self.set(spelling, value, f"override, was {_shown(before)}")

    def strip(self, name: str) -> None:
        for spelling in self._spellings(name):
            if spelling in self._parameters:
                kept = {k: v for k, v in self._parameters.items() if k != spelling}
                if self.form.inside:
                    self.data[self.form.inside] = kept
                else:
                    self.data = kept
                self.changes.append(f"{spelling} (stripped)")

    def numbers(self, name: str) -> Iterator[tuple[str, float]]:
        for spelling in self._spellings(name):
            given = self._parameters.get(spelling)
            if isinstance(given, (int, float)) and not isinstance(given, bool):
                yield spelling, given

    def tell_system(self, prompt: str) -> None:
        where = self.form.system
        if where == "messages":
            messages = self.data.get("messages")
            if not isinstance(messages, list) or any(map(_is_system, messages)):
                return
            self.data["messages"] = [{"role": "system", "content": prompt}, *messages]
        elif where and not self.data.get(where):
            self.data[where] = prompt
        else:
            return
        self.changes.append("system prompt (default)")


@cache
def _parameters_of(path: str) -> frozenset[str] | None:
    """What an API knows at a route; None where engines may know more."""
    family = FAMILIES[SURFACES[path].family]
    if family.translate is None:
        return None
    return frozenset(family.describe().routes[path].rules or ())


def _is_system(message: Any) -> bool:
    return isinstance(message, Mapping) and message.get("role") in ("system", "developer")


def _as_given(value: float, like: float) -> float:
    """Whole where the other is."""
    return int(value) if isinstance(like, int) and float(value).is_integer() else value


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
