"""PURE. Server-sent events, as far as OpenAI's streams use them."""

from __future__ import annotations

import json
from typing import Any

DONE = b"[DONE]"

# Of whatever comes bit by bit: nobody on the way is to keep it back. The second is nginx's.
AS_IT_COMES = {"cache-control": "no-cache", "x-accel-buffering": "no"}
HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    *((name.encode(), value.encode()) for name, value in AS_IT_COMES.items()),
)


class Events:
    """Cuts a byte stream, in pieces of any size, into the data of its events."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The data of every event that ``data`` completes, without comments and other fields."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]


def event(data: Any) -> bytes:
    """One event with a JSON value."""
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


def is_event_stream(start: bytes) -> bool:
    """Whether a response that begins like this can be an event stream at all."""
    return start.lstrip()[:1] in (b"", b":", b"d", b"e", b"i", b"r") and b"\x00" not in start
