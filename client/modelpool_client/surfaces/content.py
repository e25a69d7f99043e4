"""PURE. What a model has to be able to do for what a request holds: pictures, tools, a schema.

Bodies are looked at before they are checked: whatever is not as it should be asks for nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.normalize import schema_beside
from modelpool_client.surfaces.routes import (
    CHAT_PATH,
    CHAT_TOKENS_PATH,
    RESPONSE_TOKENS_PATH,
    RESPONSES_PATH,
    TEXT_PATH,
)

Json: TypeAlias = Mapping[str, Any]
# A capability, and the parameter that asks for it.
Need: TypeAlias = tuple[str, str]
_Look: TypeAlias = Callable[[Json], Iterator[Need]]

# Of the types of parts and blocks of content, in all APIs.
_BY_TYPE: Mapping[str, str] = {
    "image_url": "vision",
    "input_image": "vision",
    "image": "vision",
    "input_audio": "audio",
}
_LOGPROBS = "message.output_text.logprobs"


def needs_of(path: str, data: Json) -> Iterator[Need]:
    """All that a request to a surface's path asks for, the first parameter of each sort first."""
    for _, look in _LOOKS.get(path, ()):
        yield from look(data)


def denied_need(path: str, data: Json, denied: Collection[str]) -> Need | None:
    """What a request asks for of what its model is known not to do, the first that there is."""
    for look in _looks_for(path, tuple(denied)):
        for need in look(data):
            if need[0] in denied:
                return need
    return None


@lru_cache(maxsize=256)
def _looks_for(path: str, denied: tuple[str, ...]) -> tuple[_Look, ...]:
    return tuple(look for could, look in _LOOKS.get(path, ()) if not could.isdisjoint(denied))


def refusal(model_id: str, need: Need, capabilities: Sequence[str]) -> InvalidRequest:
    """What is said of a ``denied_need`` of a model that can do something else."""
    word, param = need
    can = f"; it can do: {', '.join(capabilities)}" if capabilities else ""
    return InvalidRequest(
        f"{model_id} cannot do {word}, which {param} asks for{can}",
        param=param,
        code="missing_capability",
    )


# What llama.cpp says of a model without a projector for them.
_UNSEEN = {"image input is not supported": "vision", "audio input is not supported": "audio"}


def named_refusal(path: str, data: Json, error: InvalidRequest) -> InvalidRequest | None:
    """An engine's refusal of a picture or a sound with the parameter that holds the first of them,
    if it is one and does not say so itself."""
    word = next((word for said, word in _UNSEEN.items() if error.message.startswith(said)), None)
    if word is None or error.param is not None:
        return None
    param = next((param for need, param in needs_of(path, data) if need == word), None)
    return InvalidRequest(
        error.message, param=param, code="missing_capability", source=error.source
    )


# -- parts of messages -----------------------------------------------------------------------------


def _parts(content: list[Any], where: str, i: int, name: str) -> Iterator[Need]:
    for j, part in enumerate(content):
        kind = _kind(part)
        if kind == "text" or not isinstance(kind, str):
            continue
        if kind in _BY_TYPE:
            yield _BY_TYPE[kind], f"{where}[{i}].{name}[{j}]"
        elif isinstance(inner := part.get("content"), list):  # the result of a tool
            yield from _parts(inner, f"{where}[{i}].{name}", j, "content")


def _messages(data: Json) -> Iterator[Need]:
    for i, message in enumerate(_list(data, "messages")):
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            for part in content:  # of a long conversation all: no further step for mere texts
                if not isinstance(part, dict) or part.get("type") != "text":
                    yield from _parts(content, "messages", i, "content")
                    break


def _input(data: Json) -> Iterator[Need]:
    for i, item in enumerate(_list(data, "input")):
        for name in ("content", "output"):
            if isinstance(item, dict) and isinstance(content := item.get(name), list):
                yield from _parts(content, "input", i, name)


def _list(data: Json, name: str) -> list[Any]:
    items = data.get(name)
    return items if isinstance(items, list) else []


def _images(holder: Json, where: str) -> Iterator[Need]:
    for i, text in enumerate(_list(holder, "images")):
        if isinstance(text, str):
            from modelpool_client.surfaces.ollama.media import is_sound

            yield "audio" if is_sound(text) else "vision", f"{where}images[{i}]"


def _ollama_messages(data: Json) -> Iterator[Need]:
    for i, message in enumerate(_list(data, "messages")):
        if isinstance(message, dict) and "images" in message:
            yield from _images(message, f"messages[{i}].")


def _ollama_images(data: Json) -> Iterator[Need]:
    yield from _images(data, "")


# -- parameters ------------------------------------------------------------------------------------


def _tools(data: Json) -> Iterator[Need]:
    choice = data.get("tool_choice")
    if _list(data, "tools") and choice != "none" and _kind(choice) != "none":
        yield "tools", "tools"


def _kind(value: Any) -> Any:
    return value.get("type") if isinstance(value, dict) else None


_FORMATS = {"json_object": "json_mode", "json": "json_mode", "json_schema": "json_schema"}


def _format(value: Any, param: str) -> Iterator[Need]:
    kind = _kind(value)
    if isinstance(kind, str) and kind in _FORMATS:
        yield _FORMATS[kind], param


def _response_format(data: Json) -> Iterator[Need]:
    wanted = data.get("response_format")
    if isinstance(wanted, dict) and schema_beside(wanted) is not None:
        yield "json_schema", "response_format"
    else:
        yield from _format(wanted, "response_format")


def _text_format(data: Json) -> Iterator[Need]:
    text = data.get("text")
    if isinstance(text, dict):
        yield from _format(text.get("format"), "text.format")


def _output_format(data: Json) -> Iterator[Need]:
    config = data.get("output_config")
    if isinstance(config, dict):
        yield from _format(config.get("format"), "output_config.format")


def _ollama_format(data: Json) -> Iterator[Need]:
    wanted = data.get("format")
    if wanted:
        yield "json_mode" if wanted == "json" else "json_schema", "format"


def _logprobs(data: Json) -> Iterator[Need]:
    if data.get("logprobs") is True:
        yield "logprobs", "logprobs"


def _text_logprobs(data: Json) -> Iterator[Need]:
    wanted = data.get("logprobs")  # 0 asks for those of what is written
    if wanted is not None and wanted is not False:
        yield "logprobs", "logprobs"


def _response_logprobs(data: Json) -> Iterator[Need]:
    included = data.get("include")
    if data.get("top_logprobs"):
        yield "logprobs", "top_logprobs"
    elif isinstance(included, list) and _LOGPROBS in included:
        yield "logprobs", "include"


def _suffix(data: Json) -> Iterator[Need]:
    if data.get("suffix"):
        yield "infill", "suffix"


def _prefix(data: Json) -> Iterator[Need]:
    yield "infill", "input_prefix"


_Looks: TypeAlias = tuple[tuple[frozenset[str], _Look], ...]
_MEDIA, _JSON = frozenset({"vision", "audio"}), frozenset({"json_mode", "json_schema"})
_WITH_TOOLS = (frozenset({"tools"}), _tools)
_PROBABLE, _FILLED = frozenset({"logprobs"}), frozenset({"infill"})
_CHAT: _Looks = (
    (_MEDIA, _messages),
    _WITH_TOOLS,
    (_JSON, _response_format),
    (_PROBABLE, _logprobs),
)
_RESPONSES: _Looks = (
    (_MEDIA, _input),
    _WITH_TOOLS,
    (_JSON, _text_format),
    (_PROBABLE, _response_logprobs),
)
_ANTHROPIC: _Looks = ((_MEDIA, _messages), _WITH_TOOLS, (_JSON, _output_format))
_OLLAMA: _Looks = ((_JSON, _ollama_format), (_PROBABLE, _logprobs))
# By path: the capabilities that a look may find, and the look.
_LOOKS: Mapping[str, _Looks] = {
    CHAT_PATH: _CHAT,
    CHAT_TOKENS_PATH: _CHAT,
    TEXT_PATH: ((_FILLED, _suffix), (_PROBABLE, _text_logprobs)),
    RESPONSES_PATH: _RESPONSES,
    RESPONSE_TOKENS_PATH: _RESPONSES,
    "/v1/messages": _ANTHROPIC,
    "/v1/messages/count_tokens": _ANTHROPIC,
    "/api/chat": ((_MEDIA, _ollama_messages), _WITH_TOOLS, *_OLLAMA),
    "/api/generate": ((_MEDIA, _ollama_images), (_FILLED, _suffix), *_OLLAMA),
    "/infill": ((_FILLED, _prefix),),
}
