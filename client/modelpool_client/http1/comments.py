"""PURE. What of a stream keeps its reader waiting, and is no answer: comments, pings, and lines
without a text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

# They are short; what is longer is not looked into.
MOST_BYTES = 4096
_EVENT_END = re.compile(rb"(?<=\n)\r?\n")
_TEXTS = ("content", "response", "thinking", "tool_calls")


def is_comment(piece: bytes) -> bool:
    """It is made of nothing else, and whole: anything may follow."""
    if len(piece) > MOST_BYTES or not piece.endswith(b"\n"):
        return False
    if piece.startswith(b"{"):
        return all(map(is_silent_line, piece.split(b"\n")))
    if not piece.startswith((b":", b"event: ping")):
        return False
    *events, rest = _EVENT_END.split(piece)
    return not rest and all(map(is_silent_event, events))


def is_silent_event(event: bytes) -> bool:
    """Whether a server-sent event is a comment, or a ping of Anthropic's API."""
    lines = event.split(b"\n")
    is_ping = lines[0].rstrip() == b"event: ping"
    return is_ping or all(not line.rstrip() or line.startswith(b":") for line in lines)


def is_silent_line(line: bytes) -> bool:
    """Whether a line of Ollama's API is blank, or a piece of no text that others will follow."""
    if not line.strip():
        return True
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return False
    if not isinstance(said, Mapping) or said.get("done") is not False or "error" in said:
        return False
    message = said.get("message")
    parts = message if isinstance(message, Mapping) else said
    return not any(parts.get(key) for key in _TEXTS)
