"""PURE. The messages of Ollama's chats as OpenAI's.

Ollama's tool calls need no ids, and their results name the tool; OpenAI's results name the id of a
call. Ids are made where there are none: nine letters and digits, which is what Mistral's templates
insist on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelpool_client.surfaces.normalize import call_arguments
from modelpool_client.surfaces.ollama.media import media_part


def openai_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of messages that were checked.

    Raises:
        InvalidRequest: an image is none; ``param`` says which.
    """
    calls = _Calls({id for m in messages for id in _ids(m)})
    return [_message(m, calls, f"messages[{i}]") for i, m in enumerate(messages)]


def user_content(text: str, images: Sequence[str], where: str) -> str | list[dict[str, Any]]:
    """Text, or parts if there are images; ``where`` names those in errors.

    Raises:
        InvalidRequest: an image is none.
    """
    if not images:
        return text
    parts = [{"type": "text", "text": text}] if text else []
    return [*parts, *(media_part(image, f"{where}[{i}]") for i, image in enumerate(images))]


class _Calls:
    """The ids of calls: those that are made, and those whose results are still to come."""

    def __init__(self, given: set[str]) -> None:
        self._given = given
        self._count = 0
        self._open: list[tuple[str, str]] = []  # ids and names

    def made_by(self, calls: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The calls of a message, which close all earlier ones."""
        self._open = [(c.get("id") or self._new_id(), c["function"]["name"]) for c in calls]
        return [
            {"id": id, "type": "function", "function": {"name": name, "arguments": said}}
            for (id, name), said in zip(self._open, map(_arguments, calls), strict=True)
        ]

    def id_of_result(self, id: str | None, name: str | None) -> str:
        """The call that a result answers: by id, by name, or the first that has none."""
        found = next(
            (c for c in self._open if id in (None, c[0]) and name in (None, c[1])),
            None if id or not self._open else self._open[0],
        )
        if found is not None:
            self._open.remove(found)
        return id or (found[0] if found else self._new_id())

    def _new_id(self) -> str:
        while True:
            self._count += 1
            id = f"call{self._count:05d}"
            if id not in self._given:
                return id


def _message(message: Mapping[str, Any], calls: _Calls, where: str) -> dict[str, Any]:
    role = message["role"]
    images = message.get("images") or ()
    content = user_content(message.get("content") or "", images, f"{where}.images")
    said: dict[str, Any] = {"role": role, "content": content}
    if thinking := message.get("thinking"):
        said["reasoning_content"] = thinking
    if role == "assistant" and message.get("tool_calls"):
        said["tool_calls"] = calls.made_by(message["tool_calls"])
    if role == "tool":
        name = message.get("tool_name") or None
        said["tool_call_id"] = calls.id_of_result(message.get("tool_call_id") or None, name)
        if name:
            said["name"] = name
    return said


def _ids(message: Mapping[str, Any]) -> list[str]:
    ids = [call.get("id") for call in message.get("tool_calls") or ()]
    return [id for id in (*ids, message.get("tool_call_id")) if id]


def _arguments(call: Mapping[str, Any]) -> str:
    return call_arguments(call["function"].get("arguments"))
