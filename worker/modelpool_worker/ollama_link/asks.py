"""PURE. What Ollama is asked in place of what clients ask in OpenAI's words, or in its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.routes import CHAT_PATH, EMBEDDINGS_PATH, TEXT_PATH

CHAT, GENERATE, EMBED, OLD_EMBED = "/api/chat", "/api/generate", "/api/embed", "/api/embeddings"
INFILL_PATH = "/infill"
# A model stays until the pool unloads it; then it goes at once.
FOR_EVER, AT_ONCE = -1, 0
# Options of requests, by Ollama's names, which are llama.cpp's.
_SAMPLING = (
    "frequency_penalty",
    "min_p",
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
    "presence_penalty",
    "repeat_last_n",
    "repeat_penalty",
    "seed",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
)
_COMMON = (*_SAMPLING, "logprobs", "max_tokens", "stop")
HONOURS: Mapping[str, Sequence[str]] = {
    CHAT_PATH: (
        *_COMMON,
        "max_completion_tokens",
        "reasoning_effort",
        "response_format",
        "think",
        "tools",
        "top_logprobs",
    ),
    TEXT_PATH: (*_COMMON, "suffix"),
}
# Ollama's own options of a load, by ours.
LOAD_OPTIONS: Mapping[str, str] = {
    "context_length": "num_ctx",
    "batch_size": "num_batch",
    "gpu_layers": "num_gpu",
    "main_gpu": "main_gpu",
    "threads": "num_thread",
    "mmap": "use_mmap",
}
# Of a request they would load the model anew: they belong to the instance.
_OF_THE_LOAD = frozenset({*LOAD_OPTIONS.values(), "use_mlock", "numa", "low_vram", "vocab_only"})
# The default was 1.1 until 0.32.10, and is 1.0 since.
_REPEAT_PENALTY = 1.0
_EFFORTS: Mapping[str, str | bool] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
}


@dataclass(frozen=True)
class Target:
    """A model as it is asked for on every server, so that none loads it anew.

    Attributes:
        name: there.
        options: of the load, by Ollama's names; ``num_ctx`` is always among them.
        has_levels: the version knows levels of thinking, not only whether to.
        own_penalty: the Modelfile says what ``repeat_penalty`` is.
    """

    name: str
    options: Mapping[str, Any]
    has_levels: bool = True
    own_penalty: bool = False


def load_options(options: Mapping[str, Any], context_length: int) -> dict[str, Any]:
    """Of a model's options those of a load, by Ollama's names."""
    found = {LOAD_OPTIONS[k]: v for k, v in options.items() if k in LOAD_OPTIONS}
    return {**found, "num_ctx": context_length}


def load_body(target: Target, *, embeds: bool) -> tuple[str, dict[str, Any]]:
    """Path and body of what loads the model, and has it compute nothing."""
    body = {"model": target.name, "options": dict(target.options), "keep_alive": FOR_EVER}
    if embeds:
        return EMBED, {**body, "input": []}
    return GENERATE, {**body, "prompt": "", "stream": False}


def unload_body(name: str) -> dict[str, Any]:
    """Body for ``/api/generate`` that marks the model to be unloaded."""
    return {"model": name, "keep_alive": AT_ONCE, "stream": False}


def asked(target: Target, path: str, body: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Path and body that Ollama is asked with for a request at one of OpenAI's paths, or its own.

    Raises:
        InvalidRequest: Ollama has no words for it.
    """
    if path == CHAT_PATH:
        return CHAT, _chat(target, body)
    if path == TEXT_PATH:
        return GENERATE, _text(target, body)
    if path == INFILL_PATH:
        return GENERATE, _infill(target, body)
    if path == EMBEDDINGS_PATH:
        return EMBED, _embed(target, body)
    return path, _own(target, path, body)


def _own(target: Target, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """A request in Ollama's words: null is not given, which not each of its versions knows."""
    said = {k: v for k, v in body.items() if v is not None}
    given = said.get("options") or {}
    mine = {k: v for k, v in given.items() if k not in _OF_THE_LOAD and v is not None}
    said |= {"model": target.name, "keep_alive": FOR_EVER, "options": {**mine, **target.options}}
    if path in (CHAT, GENERATE):
        said = {"truncate": False, "shift": False} | said
    elif path == EMBED:
        said = {"truncate": False} | said
    return said


def _chat(target: Target, body: Mapping[str, Any]) -> dict[str, Any]:
    said = {**_generating(target, body), "messages": list(_messages(body["messages"]))}
    if body.get("tools") and body.get("tool_choice") != "none":
        said["tools"] = body["tools"]
    if (form := _format(body.get("response_format"))) is not None:
        said["format"] = form
    think = body.get("think")
    if think is None and (effort := body.get("reasoning_effort")) is not None:
        think = _EFFORTS.get(effort, effort)
    if think is not None:
        said["think"] = think if isinstance(think, bool) or target.has_levels else True
    if body.get("logprobs"):
        said |= {"logprobs": True, "top_logprobs": body.get("top_logprobs") or 0}
    return said


def _text(target: Target, body: Mapping[str, Any]) -> dict[str, Any]:
    prompt = body["prompt"]
    if isinstance(prompt, list) and len(prompt) == 1:
        (prompt,) = prompt
    if not isinstance(prompt, str):
        text = "must be one text: Ollama takes neither tokens nor several prompts in a request"
        raise InvalidRequest(f"prompt {text}", param="prompt", source="engine")
    said = {**_generating(target, body), "prompt": prompt, "raw": True}
    if count := body.get("logprobs"):
        said |= {"logprobs": True, "top_logprobs": count}
    return said


def _infill(target: Target, body: Mapping[str, Any]) -> dict[str, Any]:
    said = _generating(target, body)
    if (count := body.get("n_predict")) is not None:
        said["options"]["num_predict"] = count
    if count := body.get("n_probs"):
        said |= {"logprobs": True, "top_logprobs": count}
    return {**said, "prompt": body["input_prefix"], "suffix": body["input_suffix"]}


def _embed(target: Target, body: Mapping[str, Any]) -> dict[str, Any]:
    given = body["input"]
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        text = "must be a text or a list of texts: Ollama takes no tokens"
        raise InvalidRequest(f"input {text}", param="input", source="engine")
    return {
        "model": target.name,
        "input": texts,
        "truncate": False,
        "options": dict(target.options),
        "keep_alive": FOR_EVER,
    }


def _generating(target: Target, body: Mapping[str, Any]) -> dict[str, Any]:
    options = {k: body[k] for k in _SAMPLING if body.get(k) is not None}
    if not target.own_penalty:
        options.setdefault("repeat_penalty", _REPEAT_PENALTY)
    limits = (body.get("max_completion_tokens"), body.get("max_tokens"))
    if (limit := next((n for n in limits if n is not None), None)) is not None:
        options["num_predict"] = limit
    if stop := body.get("stop"):
        options["stop"] = [stop] if isinstance(stop, str) else stop
    return {
        "model": target.name,
        "stream": True,
        "options": {**options, **target.options},
        "keep_alive": FOR_EVER,
        "truncate": False,
        "shift": False,
    }


def _format(asked: Mapping[str, Any] | None) -> Any:
    kind = (asked or {}).get("type")
    if kind == "json_object":
        return (asked or {}).get("schema") or "json"
    if kind == "json_schema":
        return (asked or {}).get("json_schema", {}).get("schema") or "json"
    return None


def _messages(messages: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    names: dict[str, str] = {}  # of tools, by the ids of their calls
    for i, message in enumerate(messages):
        role = message["role"]
        said: dict[str, Any] = {"role": "system" if role == "developer" else role}
        said |= _content(message.get("content"), f"messages[{i}].content")
        if thinking := message.get("reasoning_content") or message.get("reasoning"):
            said["thinking"] = thinking
        if calls := message.get("tool_calls"):
            names |= {call["id"]: call["function"]["name"] for call in calls if call.get("id")}
            said["tool_calls"] = [_call(c, n, f"messages[{i}]") for n, c in enumerate(calls)]
        if role == "tool":
            identity = message.get("tool_call_id") or ""
            said["tool_name"] = message.get("name") or names.get(identity, "")
            said["tool_call_id"] = identity
        yield said


def _call(call: Mapping[str, Any], index: int, where: str) -> dict[str, Any]:
    function = call["function"]
    text = function.get("arguments") or "{}"
    try:
        arguments = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        param = f"{where}.tool_calls[{index}].function.arguments"
        raise InvalidRequest(f"{param} must be a JSON object", param=param, source="engine")
    own = {"id": call["id"]} if call.get("id") else {}
    return {**own, "function": {"index": index, "name": function["name"], "arguments": arguments}}


def _content(content: Any, where: str) -> dict[str, Any]:
    if content is None or isinstance(content, str):
        return {"content": content or ""}
    texts, images = [], []
    for i, part in enumerate(content):
        kind = part.get("type")
        if kind in ("text", "refusal"):
            texts.append(part.get(kind) or "")
        elif kind == "image_url":
            images.append(_picture(part["image_url"], f"{where}[{i}].image_url"))
        elif kind == "input_audio":
            images.append(part["input_audio"]["data"])  # Ollama takes sound as an image, too
        else:
            raise InvalidRequest(
                f"{where}[{i}]: Ollama takes texts, images and sounds, no {kind!r}",
                param=f"{where}[{i}]",
                source="engine",
            )
    return {"content": "\n".join(texts), **({"images": images} if images else {})}


def _picture(image: Any, where: str) -> str:
    url = image.get("url") if isinstance(image, Mapping) else image
    head, mark, data = str(url).partition(";base64,")
    if not (mark and head.startswith("data:")):
        text = "must be a data URL with base64: Ollama fetches nothing"
        raise InvalidRequest(f"{where} {text}", param=where, source="engine")
    return data
