"""PURE. Requests from a template, and answers by a path: how any API is described in a few words.

A template is JSON. A text in it that is one placeholder becomes that value as it is, a list or a
number too, and leaves with its key where the request says nothing of it; placeholders within a
longer text become text. So nothing that a client says can change what the template means.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from modelpool_client.errors import LoadFailed

PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
# Of a request; each is also what it is called in OpenAI's API, but for the first three.
OWN = ("prompt", "system", "last_message")
GIVEN = (
    *("messages", "model", "max_tokens", "temperature", "top_p", "top_k", "stop", "seed"),
    *("presence_penalty", "frequency_penalty", "stream", "user", "tools", "response_format"),
)
KNOWN = frozenset({*OWN, *GIVEN})
_ROLES = {"system": "System", "developer": "System", "user": "User", "assistant": "Assistant"}
_NOTHING = object()


def parse(text: str) -> Any:
    """A template from its JSON.

    Raises:
        LoadFailed: it is none, or names what is not known (``bad_config``).
    """
    try:
        template = json.loads(text)
    except ValueError as e:
        raise _wrong(f"body is no JSON: {e}") from None
    unknown = sorted(names_in(template) - KNOWN)
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in sorted(KNOWN))
        raise _wrong(f"body: {{{unknown[0]}}} is no placeholder; there are {known}")
    return template


def names_in(template: Any) -> set[str]:
    """The placeholders that it holds."""
    return set(_names(template))


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from PLACEHOLDER.findall(value)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _names(each)
    elif isinstance(value, list):
        for each in value:
            yield from _names(each)


def fill(template: Any, values: Mapping[str, Any]) -> Any:
    """The template with the values of a request."""
    if isinstance(template, str):
        whole = PLACEHOLDER.fullmatch(template)
        if whole:
            value = values.get(whole[1])
            return _NOTHING if value is None else value
        return PLACEHOLDER.sub(lambda found: _as_text(values.get(found[1])), template)
    if isinstance(template, Mapping):
        filled = {key: fill(value, values) for key, value in template.items()}
        return {key: value for key, value in filled.items() if value is not _NOTHING}
    if isinstance(template, list):
        return [v for v in (fill(value, values) for value in template) if v is not _NOTHING]
    return template


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def values_of(said: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The values of a request for chat or for text."""
    values = {name: said.get(name) for name in GIVEN}
    values["max_tokens"] = said.get("max_completion_tokens") or said.get("max_tokens")
    messages = said.get("messages")
    values |= {"model": model, "stream": said.get("stream") is True}
    if messages is None:
        text = said.get("prompt")
        only = {"role": "user", "content": text}
        return values | {"prompt": text, "last_message": text, "messages": [only]}
    system = [_text(m) for m in messages if m["role"] in ("system", "developer")]
    return values | {
        "prompt": _transcript(messages),
        "system": "\n\n".join(system) or None,
        "last_message": _text(messages[-1]),
    }


def _transcript(messages: list[Mapping[str, Any]]) -> str:
    """One message is what it says; several are told apart by who says them."""
    if len(messages) == 1:
        return _text(messages[0])
    said = [f"{_ROLES.get(m['role'], 'Tool')}: {_text(m)}" for m in messages]
    return "\n\n".join([*said, "Assistant:"])


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str) or content is None:
        return content or ""
    return "".join(part.get("text", "") for part in content)


def at(value: Any, path: str) -> Any:
    """What stands there, ``data.0.text``; None where nothing does."""
    for step in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.lstrip("-").isdecimal():
            place = int(step)
            value = value[place] if -len(value) <= place < len(value) else None
        else:
            return None
    return value


def _wrong(text: str) -> LoadFailed:
    return LoadFailed(text, code="bad_config", param="body", source="engine")
