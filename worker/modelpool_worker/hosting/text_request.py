"""PURE. What the body of a chat or a text completion asks of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelpool_client.errors import InvalidRequest

from modelpool_worker.batching.queue import Priority, priority_of

from .contract import Sampling

_SEEDS = 1 << 31


@dataclass(frozen=True)
class TextBody:
    """Of a request that the front has checked.

    Attributes:
        n: choices for each prompt.
        alternatives: as ``TextRequest`` has it.
        schema: which the answers have to follow; None for any text.
    """

    stream: bool
    include_usage: bool
    n: int
    max_tokens: int | None
    stops: tuple[str, ...]
    sampling: Sampling
    alternatives: int | None
    schema: Any
    priority: Priority


def read_text_body(body: Mapping[str, Any], *, is_chat: bool) -> TextBody:
    """What it says, whatever its prompt is.

    Raises:
        InvalidRequest: with ``param``.
    """
    stops = body.get("stop") or ()
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    return TextBody(
        stream=body.get("stream") is True,
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        n=body.get("n") or 1,
        max_tokens=limit,
        stops=(stops,) if isinstance(stops, str) else tuple(stops),
        sampling=_sampling(body),
        alternatives=_alternatives(body, is_chat=is_chat),
        schema=_schema(body.get("response_format") or {}),
        priority=priority_of(body.get("priority")),
    )


def seeded(sampling: Sampling, index: int) -> Sampling:
    """For one of several choices."""
    if not index or sampling.seed is None:
        return sampling
    return Sampling(**{**vars(sampling), "seed": (sampling.seed + index) % _SEEDS})


def chat_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """As templates want them: parts that are all text as one, arguments of calls as objects."""
    return [_message(message) for message in messages]


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    told = {k: v for k, v in message.items() if v is not None}
    content = told.get("content")
    if isinstance(content, list) and all("text" in part for part in content):
        told["content"] = "\n".join(part["text"] for part in content)
    if told.get("tool_calls"):
        told["tool_calls"] = [_call(call) for call in told["tool_calls"]]
    told.setdefault("content", "")
    return told


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = dict(call["function"])
    if isinstance(function.get("arguments"), str):
        try:
            function["arguments"] = json.loads(function["arguments"])
        except ValueError:
            text = "the arguments of a call of a tool are no JSON"
            raise InvalidRequest(text, param="messages", source="engine") from None
    return {**call, "function": function}


def prompts_of(prompt: Any) -> list[str | list[int]]:
    """A text, tokens, or a list of either, as a list of them."""
    if isinstance(prompt, str):
        return [prompt]
    return [list(prompt)] if isinstance(prompt[0], int) else list(prompt)


def check_tokens(tokens: Sequence[int], size: int | None, param: str) -> None:
    """Of a client: one that the model has not would fail the step, and with it everybody who is in
    it. ``size``: see ``contract``; None: it is not known.

    Raises:
        InvalidRequest: there is none of that id.
    """
    if (
        size is not None
        and (wrong := next((t for t in tokens if not 0 <= t < size), None)) is not None
    ):
        text = f"{param} has the token {wrong}; those of this model are 0 to {size - 1}"
        raise InvalidRequest(text, param=param, source="engine")


def _sampling(body: Mapping[str, Any]) -> Sampling:
    given = {k: body[k] for k in _NUMBERS if body.get(k) is not None}
    bias = body.get("logit_bias") or {}
    try:
        biases = {int(token): float(value) for token, value in bias.items()}
    except ValueError:
        text = "logit_bias: its keys are ids of tokens"
        raise InvalidRequest(text, param="logit_bias", source="engine") from None
    seed = body.get("seed")
    return Sampling(**given, logit_bias=biases, seed=None if seed is None else seed % _SEEDS)


_NUMBERS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
)


def _alternatives(body: Mapping[str, Any], *, is_chat: bool) -> int | None:
    wanted = body.get("logprobs")
    if is_chat:
        return int(body.get("top_logprobs") or 0) if wanted else None
    return None if wanted is None or wanted is False else int(wanted)


def _schema(wanted: Mapping[str, Any]) -> Any:
    if wanted.get("type") == "json_schema":
        return wanted["json_schema"]["schema"]
    return {"type": "object"} if wanted.get("type") == "json_object" else None
