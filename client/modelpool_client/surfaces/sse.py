"""PURE. Server-sent events, as far as OpenAI's streams use them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

DONE = b"[DONE]"

# Of whatever comes bit by bit: nobody on the way is to keep it back. The second is nginx's.
AS_IT_COMES = {"cache-control": "no-cache", "x-accel-buffering": "no"}
TYPE = b"text/event-stream"
HEADERS = (
    (b"content-type", TYPE + b"; charset=utf-8"),
    *((name.encode(), value.encode()) for name, value in AS_IT_COMES.items()),
)


class Events:
    """Cuts a byte stream, in pieces of any size, into the data of its events."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def is_between(self) -> bool:
        """What comes next begins a line."""
        return not self._rest

    def feed(self, data: bytes) -> list[bytes]:
        """The data of every event that ``data`` completes, without comments and other fields."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]


def event(data: Any) -> bytes:
    """One event with a JSON value."""
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


def is_announced(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether an answer's headers, in lower case, say that it is a stream of events."""
    return any(name == b"content-type" and value.startswith(TYPE) for name, value in headers)


def is_event_stream(start: bytes) -> bool:
    """Whether a response that begins like this can be an event stream at all."""
    return start.lstrip()[:1] in (b"", b":", b"d", b"e", b"i", b"r") and b"\x00" not in start
