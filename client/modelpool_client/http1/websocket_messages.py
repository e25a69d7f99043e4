"""PURE. What the text messages of a WebSocket say: requests, and the answers to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from modelpool_client.errors import CODE_HEADER, SOURCE_HEADER, InvalidRequest
from modelpool_client.surfaces.body import parse_object

from .message import Headers, Request

CANCEL = "cancel"
# Of an answer's headers, those that are about the request; who failed and how is in the error.
_TOLD = (b"x-modelpool-", b"retry-after", b"x-should-retry")
_TOLD_ANYWAY = (CODE_HEADER.encode(), SOURCE_HEADER.encode())


@dataclass(frozen=True)
class Carried:
    """The requests that the messages of a WebSocket are.

    Attributes:
        path: what all of them ask for.
        headers: all of them have.
        max_bytes: of a message, as it is now.
        limit_key: names the setting of that, for whoever sends more; may be empty.
    """

    path: bytes
    headers: Headers
    max_bytes: Callable[[], int]
    limit_key: str = ""

    def request(self) -> Request:
        """The head of the next."""
        return Request("POST", self.path, b"", list(self.headers))


def body_of(message: bytes) -> bytes | None:
    """The body of the request that a client's message is: the message, and that it wants a stream
    unless it says something of that. None: it is ``{"type": "cancel"}``.

    What is no JSON object is passed on, for whoever answers to refuse.
    """
    try:
        data = parse_object(message)
    except InvalidRequest:
        return message
    if data.get("type") == CANCEL:
        return None
    return message if "stream" in data else _with(b'"stream":true', message)


class Part(NamedTuple):
    """Of an answer: a message, or a comment, which says what is waited for."""

    text: str
    is_comment: bool = False


class AnswerParts:
    """Cuts answers, one after the other, into messages: of a stream the data of every event, of
    any other answer all of it.

    The first message of an answer gets a member ``headers``, with those headers that are about the
    request, and with ``status`` if that is an error's.
    """

    def __init__(self) -> None:
        self._members = self._rest = b""
        self._pieces: list[bytes] = []
        self._is_stream = False

    def begin(self, status: int, headers: Headers, *, is_stream: bool) -> None:
        """The head of the next answer."""
        self._is_stream = is_stream
        self._members = _members(status, headers)
        self._rest = b""
        self._pieces.clear()

    def feed(self, data: bytes) -> list[Part]:
        """What ``data``, the next piece of the body, completes."""
        if not self._is_stream:
            self._pieces.append(data)
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [part for line in lines if (part := self._part(line)) is not None]

    def end(self) -> list[Part]:
        """What is left once the body is complete."""
        whole = b"".join(self._pieces)
        self._pieces.clear()
        return [self._message(whole)] if whole else []

    def _part(self, line: bytes) -> Part | None:
        if line.startswith(b"data:"):
            return self._message(line[5:].strip())
        if line.startswith(b":"):
            return Part(_text(line[1:].strip()), is_comment=True)
        return None

    def _message(self, data: bytes) -> Part:
        if self._members and data.startswith(b"{"):
            data, self._members = _with(self._members, data), b""
        return Part(_text(data))


def _members(status: int, headers: Headers) -> bytes:
    told = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in headers
        if name.startswith(_TOLD) and name not in _TOLD_ANYWAY
    }
    members = ({"status": status} if status >= 400 else {}) | ({"headers": told} if told else {})
    return json.dumps(members, separators=(",", ":")).encode()[1:-1]


def _with(members: bytes, json_object: bytes) -> bytes:
    """With ``members`` at its begin; not parsed, for that would cost more than all the rest."""
    rest = json_object.lstrip()[1:]
    is_empty = rest.lstrip().startswith(b"}")
    return b"{" + members + (b"" if is_empty else b",") + rest


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
