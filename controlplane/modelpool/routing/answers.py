"""PURE. What answers of models say, of whatever API: text, calls of tools, tokens, how sure they
are. Which API it is the answer's own shape tells."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.routes import CHAT_PATH, RESPONSES_PATH, TEXT_PATH
from modelpool_client.surfaces.schema import check

# Whose answers are texts, or calls of tools, that are understood here.
TEXT_ROUTES = (
    CHAT_PATH,
    TEXT_PATH,
    RESPONSES_PATH,
    "/v1/messages",
    "/api/chat",
    "/api/generate",
)
# An answer that begins so declines, where its API has no field that says it.
_REFUSAL = re.compile(
    r"((i'm|i am|im) (very |so |really )?(sorry|afraid)|sorry|unfortunately|i apologi[sz]e)"
    r"\b[^.!]{0,40}\b(can't|cannot|can not|unable|won't)"
    r"|i (can't|cannot|can not|won't|am unable to|am not able to) "
    r"(help|assist|answer|do that|provide|comply|fulfil)"
    r"|as an ai\b"
    r"|(es tut mir leid|leider kann ich)\b",
    re.IGNORECASE,
)
_FENCE = re.compile(r"\A```[a-z]*\n(.*)\n```\Z", re.DOTALL)


@dataclass(frozen=True)
class Tokens:
    """What an answer has cost."""

    prompt: int = 0
    completion: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)

    def as_json(self) -> dict[str, int]:
        """As OpenAI's ``usage``."""
        total = self.prompt + self.completion
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": total,
        }


@dataclass(frozen=True)
class Call:
    """Of a tool; ``arguments`` is None where they are no JSON."""

    name: str
    arguments: Any


def text_of(said: Mapping[str, Any]) -> str:
    """The text of an answer's first choice; empty where it has none."""
    choice = _first_choice(said)
    if choice is not None:
        message = choice.get("message")
        if isinstance(message, Mapping):
            return _text(message.get("content"))
        return _text(choice.get("text"))
    if isinstance(said.get("output"), list):  # Responses
        items = [i for i in said["output"] if isinstance(i, Mapping) and i.get("type") == "message"]
        return "".join(_text(item.get("content")) for item in items)
    if isinstance(said.get("message"), Mapping):  # Ollama's chat
        return _text(said["message"].get("content"))
    return _text(said.get("content", said.get("response")))


def calls_of(said: Mapping[str, Any]) -> tuple[Call, ...]:
    """The tools that an answer calls."""
    choice = _first_choice(said)
    message = choice.get("message") if choice is not None else said.get("message")
    found: list[Call] = []
    if isinstance(message, Mapping):
        for call in _objects(message.get("tool_calls")):
            function = call.get("function")
            if isinstance(function, Mapping):
                found.append(_call(function.get("name"), function.get("arguments")))
    uses = [p for p in _objects(said.get("content")) if p.get("type") == "tool_use"]
    items = [i for i in _objects(said.get("output")) if i.get("type") == "function_call"]
    found += [_call(part.get("name"), part.get("input")) for part in uses]
    found += [_call(item.get("name"), item.get("arguments")) for item in items]
    return tuple(found)


def tokens_of(said: Mapping[str, Any]) -> Tokens:
    """What an answer says that it has cost; nothing where it does not say."""
    usage = said.get("usage")
    if not isinstance(usage, Mapping):
        usage = said
    prompt = _count(usage, "prompt_tokens", "input_tokens", "prompt_eval_count")
    completion = _count(usage, "completion_tokens", "output_tokens", "eval_count")
    return Tokens(prompt, completion)


def confidence_of(said: Mapping[str, Any]) -> float | None:
    """How likely the model found its own words: the geometric mean of its tokens' probabilities,
    0 to 1. None where the answer does not tell them."""
    choice = _first_choice(said)
    told = choice.get("logprobs") if choice is not None else said.get("logprobs")
    values: list[Any] = []
    if isinstance(told, Mapping):
        values = [each.get("logprob") for each in _objects(told.get("content"))]
        values = values or list(told.get("token_logprobs") or ())
    elif isinstance(told, list):
        values = [each.get("logprob") for each in _objects(told)]
    numbers = [float(v) for v in values if isinstance(v, (int, float)) and math.isfinite(v)]
    return math.exp(min(0.0, math.fsum(numbers) / len(numbers))) if numbers else None


def is_refusal(said: Mapping[str, Any]) -> bool:
    """The model declines: by a field of its API, or by how it begins."""
    choice = _first_choice(said)
    if choice is not None and choice.get("finish_reason") == "content_filter":
        return True
    message = choice.get("message") if choice is not None else None
    if isinstance(message, Mapping) and message.get("refusal"):
        return True
    if said.get("stop_reason") == "refusal":
        return True
    for item in _objects(said.get("output")):
        if any(part.get("type") == "refusal" for part in _objects(item.get("content"))):
            return True
    return _REFUSAL.match(text_of(said)[:200].strip().replace("\u2019", "'")) is not None


def is_cut_off(said: Mapping[str, Any]) -> bool:
    """It has ended because it had no more tokens."""
    choice = _first_choice(said) or {}
    details = said.get("incomplete_details")
    return (
        choice.get("finish_reason") == "length"
        or said.get("stop_reason") == "max_tokens"
        or said.get("done_reason") == "length"
        or (isinstance(details, Mapping) and details.get("reason") == "max_output_tokens")
    )


def json_in(text: str) -> Any:
    """The JSON value that a text is, in a fence or not.

    Raises:
        ValueError: it is none.
    """
    fenced = _FENCE.match(text.strip())
    try:
        return json.loads(fenced[1] if fenced else text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def problem(said: Mapping[str, Any], schema: Mapping[str, Any] | None) -> str:
    """What keeps an answer from being JSON, that ``schema`` allows if there is one; empty where
    nothing does. An answer that calls tools need not be; their arguments must."""
    calls = calls_of(said)
    for call in calls:
        if call.arguments is None:
            return f"the arguments of {call.name} are no JSON"
    if calls:
        return ""
    try:
        value = json_in(text_of(said))
    except ValueError:
        return "it is no JSON"
    try:
        if schema is not None:
            check(schema, value)
    except InvalidRequest as e:
        return f"it is not as the schema says: {e.message}"
    except (KeyError, TypeError, AttributeError, ValueError):
        return ""  # a schema of words that nobody here knows
    return ""


def wanted_form(data: Mapping[str, Any]) -> tuple[bool, Mapping[str, Any] | None]:
    """Whether a request wants JSON, and by which schema, if any."""
    form = data.get("response_format")
    text = data.get("text")
    if isinstance(text, Mapping) and isinstance(text.get("format"), Mapping):
        form = text["format"]
    if isinstance(form, Mapping):
        inner = form.get("json_schema", form)
        schema = inner.get("schema") if isinstance(inner, Mapping) else None
        wants = form.get("type") in ("json_object", "json_schema")
        return wants, schema if isinstance(schema, Mapping) else None
    form = data.get("format")  # Ollama
    return form == "json" or isinstance(form, Mapping), form if isinstance(form, Mapping) else None


def without_logprobs(said: Mapping[str, Any]) -> dict[str, Any]:
    """An answer without what was asked beside it."""
    kept = {k: v for k, v in said.items() if k != "logprobs"}
    if isinstance(said.get("choices"), list):
        kept["choices"] = [
            {k: None if k == "logprobs" else v for k, v in c.items()} for c in said["choices"]
        ]
    return kept


def _first_choice(said: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return next(_objects(said.get("choices")), None)


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        yield from (each for each in value if isinstance(each, Mapping))


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(p["text"] for p in _objects(content) if isinstance(p.get("text"), str))


def _call(name: Any, arguments: Any) -> Call:
    if isinstance(arguments, str):
        try:
            arguments = json_in(arguments or "{}")
        except ValueError:
            arguments = None
    return Call(str(name), arguments)


def _count(usage: Mapping[str, Any], *names: str) -> int:
    values = (usage.get(name) for name in names)
    return next((v for v in values if isinstance(v, int) and not isinstance(v, bool)), 0)
