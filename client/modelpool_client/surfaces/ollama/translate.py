"""PURE. From a request of Ollama's API to what the engine is asked, and who tells its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.ollama.answers import Embedding, Generation, Shape
from modelpool_client.surfaces.ollama.ignored import tidy, unknown
from modelpool_client.surfaces.ollama.loading import ASKS, is_load_only
from modelpool_client.surfaces.ollama.messages import openai_messages, user_content
from modelpool_client.surfaces.ollama.parameters import RENAMED
from modelpool_client.surfaces.ollama.tables import (
    CHAT,
    EMBED,
    EMBEDDINGS,
    GENERATE,
    OPTIONS,
)
from modelpool_client.surfaces.routes import CHAT_PATH, EMBEDDINGS_PATH, TEXT_PATH
from modelpool_client.surfaces.translation import Told, Translation

# A capability of models.
THINKING = "thinking"


def translate(
    path: str,
    data: Mapping[str, Any],
    clock: Callable[[], int],
    capabilities: Sequence[str] = (),
) -> Translation:
    """Of one that ``is_load_only`` is not true of.

    Args:
        path: a key of ``BODIES``.
        clock: nanoseconds since 1970; answers carry times and durations by it.
        capabilities: of the model; none: not known.

    Raises:
        InvalidRequest: with ``param``.
    """
    if is_load_only(path, data):
        asks = ASKS[path]
        raise InvalidRequest(f"{asks} is required, and not to be empty", param=asks)
    given = {name: value for name, value in data.items() if value is not None}
    model = given.get("model") or None
    if path in (EMBED, EMBEDDINGS):
        return Embedding(_tell_embedding(path, given), path, model, given.get("dimensions"), clock)
    told = _tell_chat(given) if path == CHAT else _tell_generate(given)
    if given.get("think") and capabilities and THINKING not in capabilities:
        told = replace(told, ignored=tidy([*told.ignored, "think"]))
    top = given.get("top_logprobs", 0)
    return Generation(told, Shape.CHAT if path == CHAT else Shape.GENERATE, model, int(top), clock)


def _tell_chat(given: Mapping[str, Any]) -> Told:
    body = {"messages": openai_messages(given["messages"])}
    if tools := given.get("tools"):
        body["tools"] = [{**tool, "type": "function"} for tool in tools]
    return _told(CHAT, CHAT_PATH, given, body | _chat_parameters(given), [])


def _tell_generate(given: Mapping[str, Any]) -> Told:
    ignored = ["context"] if given.get("context") else []
    raw, suffix = given.get("raw"), given.get("suffix")
    if raw:
        _refuse_with_raw(given, ("system", "context"))
    if raw or suffix:
        _refuse_media(given, "raw" if raw else "suffix")
        ignored += [name for name in ("system", "think") if given.get(name)]
        return _told(GENERATE, TEXT_PATH, given, _text_body(given), ignored)
    content = user_content(given["prompt"], given.get("images", ()), "images")
    system = given.get("system")
    messages = [{"role": "system", "content": system}] if system else []
    body = {"messages": [*messages, {"role": "user", "content": content}]}
    return _told(GENERATE, CHAT_PATH, given, body | _chat_parameters(given), ignored)


def _tell_embedding(path: str, given: Mapping[str, Any]) -> Told:
    texts = given.get("input" if path == EMBED else "prompt")
    body: dict[str, Any] = {
        "input": [texts] if isinstance(texts, str) else texts,
        "encoding_format": "float",
    }
    if dimensions := given.get("dimensions"):
        body["dimensions"] = int(dimensions)
    ignored = unknown(path, given, options=False)
    ignored += ["truncate"] if given.get("truncate") else []
    return Told(EMBEDDINGS_PATH, body, stream=False, ignored=tidy(ignored))


def _told(
    path: str, to: str, given: Mapping[str, Any], body: dict[str, Any], ignored: list[str]
) -> Told:
    ignored = [*ignored, *unknown(path, given, options=True)]
    ignored += [name for name in ("truncate", "shift") if given.get(name)]
    if "top_logprobs" in given and not given.get("logprobs"):
        ignored.append("top_logprobs")
    body |= _sampling(given.get("options") or {})
    return Told(to, body, stream=given.get("stream", True), ignored=tidy(ignored))


def _chat_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Format, thinking and log probabilities, in chat's words."""
    body: dict[str, Any] = {}
    if form := given.get("format"):
        body["response_format"] = (
            {"type": "json_object"}
            if form == "json"
            else {"type": "json_schema", "json_schema": {"name": "answer", "schema": form}}
        )
    if (think := given.get("think")) is not None:
        body |= _thinking(think)
    if given.get("logprobs"):
        # To llama.cpp 0 means none at all, not even that of the token itself.
        body |= {"logprobs": True, "top_logprobs": max(1, int(given.get("top_logprobs", 0)))}
    return body


def _thinking(think: bool | str) -> dict[str, Any]:
    """Templates know ``enable_thinking`` or ``reasoning_effort``; other APIs know only the latter,
    and no ``max``."""
    if isinstance(think, bool):
        return {"chat_template_kwargs": {"enable_thinking": think}}
    effort = "high" if think == "max" else think
    keywords = {"enable_thinking": True, "reasoning_effort": think}
    return {"chat_template_kwargs": keywords, "reasoning_effort": effort}


def _text_body(given: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {"prompt": given["prompt"]}
    if suffix := given.get("suffix"):
        body["suffix"] = suffix
    if form := given.get("format"):
        # OpenAI's text completions have no format; this is what llama.cpp calls it.
        body["json_schema"] = {"type": "object"} if form == "json" else form
    if given.get("logprobs"):
        body["logprobs"] = max(1, int(given.get("top_logprobs", 0)))
    return body


def _sampling(options: Mapping[str, Any]) -> dict[str, Any]:
    """What acts on a request, in the words of llama.cpp's server."""
    found: dict[str, Any] = {}
    for name, schema in OPTIONS.items():
        value = options.get(name)
        if value is None:
            continue
        found[RENAMED.get(name, name)] = int(value) if schema.get("type") == "integer" else value
    if found.get("max_tokens", 1) <= 0:
        del found["max_tokens"]
    if found.get("seed", 0) < 0:
        del found["seed"]
    if "stop" in found:
        stop = found.pop("stop")
        found |= _stop([stop] if isinstance(stop, str) else stop)
    return found


def _stop(words: list[str]) -> dict[str, Any]:
    kept = [word for word in words if word]
    return {"stop": kept} if kept else {}


def _refuse_with_raw(given: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if given.get(name):
            raise InvalidRequest(f"{name} and raw are given; leave one out", param=name)


def _refuse_media(given: Mapping[str, Any], other: str) -> None:
    if given.get("images"):
        text = f"images cannot be given with {other}; send them to /api/chat"
        raise InvalidRequest(text, param="images")
