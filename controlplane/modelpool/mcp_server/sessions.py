"""PURE. Sessions, as revisions of the protocol before 2026-07-28 have them."""

from __future__ import annotations

import json

SESSION_HEADER = "mcp-session-id"


def opens_session(body: bytes) -> bool:
    """Whether a message is the first of a session."""
    if b'"initialize"' not in body:  # nearly always
        return False
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(message, dict) and message.get("method") == "initialize"
