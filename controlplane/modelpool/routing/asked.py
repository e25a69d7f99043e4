"""PURE: what a request says, by whatever API it came: texts, tools, pictures, form of answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

# What a tool's definition or a picture takes of the context, where nothing else is known.
PICTURE_TOKENS = 800
SOUND_TOKENS = 1500
# Of the conversation before; older turns say nothing of the work at hand.
EARLIER = 3
DEEPEST = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, as far as routing reads it.

    Attributes:
        text: what the user said last, or the prompt.
        system: what the system's or developer's messages say.
        earlier: what the user said before, the latest last.
        turns: messages of the conversation.
        tokens: of everything that the model must read, estimated by ``tokens_of``.
        tools: how many are offered.
        pictures, sounds: parts that are none of text.
        schema_fields: of the JSON schema that the answer must follow; 0 where there is none.
        wants_json: the answer must be JSON.
        wants_logprobs: the probabilities of tokens are asked for.
        surface: the capability that answers it: ``chat``, ``completion``, ``embeddings`` …
        max_tokens: of the answer; None: not said.
    """

    text: str = ""
    system: str = ""
    earlier: tuple[str, ...] = ()
    turns: int = 1
    tokens: int = 0
    tools: int = 0
    pictures: int = 0
    sounds: int = 0
    schema_fields: int = 0
    wants_json: bool = False
    wants_logprobs: bool = False
    surface: str = "chat"
    max_tokens: int | None = None


def tokens_of(text: str) -> int:
    """About how many tokens a text is: four characters each in ASCII, and three bytes of others."""
    if text.isascii():
        return (len(text) + 3) // 4
    size = len(text.encode(errors="surrogatepass"))
    # Each character beyond ASCII has at least two bytes.
    foreign = min(len(text), size - len(text))
    return (len(text) - foreign) // 4 + foreign * 2 // 3 + 1


def read(body: Mapping[str, Any], surface: str = "chat") -> Asked:
    """What the body of a request says; what is not as it should be is passed over, for others
    check it.

    Args:
        body: as sent to ``/v1/chat/completions``, ``/v1/completions`` or ``/route``: ``messages``
            or ``prompt`` (or ``input``), ``tools``, ``response_format``, ``max_tokens`` …
    """
    messages = body.get("messages")
    turns = [m for m in messages if isinstance(m, Mapping)] if _is_list(messages) else []
    if not turns:
        turns = [{"role": "user", "content": _prompt(body)}]
    said = [(str(m.get("role", "user")), *_content(m.get("content"))) for m in turns]
    users = [text for role, text, _, _ in said if role == "user" and text]
    system = "\n".join(text for role, text, _, _ in said if role in ("system", "developer"))
    offered = body.get("tools") or body.get("functions")
    tools = [tool for tool in offered if tool] if _is_list(offered) else []
    form = body.get("response_format")
    kind = form.get("type") if isinstance(form, Mapping) else None
    schema = form.get("json_schema") if isinstance(form, Mapping) else None
    pictures = sum(p for _, _, p, _ in said)
    sounds = sum(s for _, _, _, s in said)
    tokens = sum(tokens_of(text) + 4 for _, text, _, _ in said)
    tokens += pictures * PICTURE_TOKENS + sounds * SOUND_TOKENS
    tokens += sum(tokens_of(str(tool)) for tool in tools)
    return Asked(
        text=users[-1] if users else "",
        system=system,
        earlier=tuple(users[-1 - EARLIER : -1]),
        turns=len(turns),
        tokens=tokens,
        tools=len(tools) if body.get("tool_choice") != "none" else 0,
        pictures=pictures,
        sounds=sounds,
        schema_fields=_fields(schema) if kind == "json_schema" else 0,
        wants_json=kind in ("json_object", "json_schema"),
        wants_logprobs=bool(body.get("logprobs")),
        surface=surface,
        max_tokens=_limit(body),
    )


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _prompt(body: Mapping[str, Any]) -> str:
    for key in ("prompt", "input", "text"):
        value = body.get(key)
        if isinstance(value, str):
            return value
        if _is_list(value):
            return "\n".join(text for text in value if isinstance(text, str))
    return ""


def _content(content: object) -> tuple[str, int, int]:
    """Text, pictures and sounds of a message."""
    if isinstance(content, str):
        return content, 0, 0
    if not _is_list(content):
        return "", 0, 0
    texts, pictures, sounds = [], 0, 0
    for part in content:
        if not isinstance(part, Mapping):
            continue
        kind = str(part.get("type", "text"))
        if isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif "image" in kind:
            pictures += 1
        elif "audio" in kind:
            sounds += 1
    return "\n".join(texts), pictures, sounds


def _limit(body: Mapping[str, Any]) -> int | None:
    for key in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        value = body.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _fields(schema: object, depth: int = 0) -> int:
    """Properties of a JSON schema, those within counted too."""
    if depth > DEEPEST:
        return 0
    if isinstance(schema, Mapping):
        own = schema.get("properties")
        here = len(own) if isinstance(own, Mapping) else 0
        return here + sum(_fields(value, depth + 1) for value in schema.values())
    if _is_list(schema):
        return sum(_fields(value, depth + 1) for value in schema)
    return 0
