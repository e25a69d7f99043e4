"""PURE. Heads that came before. A client sends the same one with every request, a server with every
answer, but for the length of the body; what follows from it is found out once.

Only messages are known whose bodies have a length, over a connection that goes on afterwards.
Everything else is for the parser to read, and so is what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Generic, NamedTuple, TypeVar

import httptools

from .message import Headers, Request, split_target
from .request_ids import REQUEST_ID, is_sound, with_id

# How many heads of one kind are remembered, and of what size: a head may be unlike all others.
REMEMBERED = 256
LONGEST = 2048
_MOST_DIGITS = 9
_LENGTH, _LENGTH_IN_LOWER_CASE = b"\r\nContent-Length: ", b"\r\ncontent-length: "
# What asks for more than to be passed on.
_UNUSUAL = frozenset({b"transfer-encoding", b"content-encoding", b"expect", b"upgrade", REQUEST_ID})
# Of any usual spelling; only heads that have this are looked at closely. A single letter is found
# several times as quickly.
_HAS_ID, _ID = b"equest-", b"\r\nx-request-id: "

Known = TypeVar("Known")


class Cut(NamedTuple):
    """A message in its parts.

    Attributes:
        head: to the empty line, with 0 for the length and without the request's id.
        length: of the body, as the head says it.
        body: what follows the head, which may be less than that, or more.
        request_id: empty where it has none.
    """

    head: bytes
    length: int
    body: bytes
    request_id: bytes = b""


# As ``Cut(…)``, which is a function in Python: there is one for every message.
_made: Callable[[tuple[bytes, int, bytes, bytes]], Cut] = partial(tuple.__new__, Cut)


def cut(data: bytes) -> Cut | None:
    """Of a message's begin, if its head is there and may be known. Heads that are alike are so but
    for the digits of their length and the ids of their requests."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not end or len(head) > LONGEST:
        return None
    before, name, rest = head.partition(_LENGTH)
    if not name:
        before, name, rest = head.partition(_LENGTH_IN_LOWER_CASE)
    digits, line_end, after = rest.partition(b"\r\n")
    if not digits.isdigit() or len(digits) > _MOST_DIGITS:
        return None
    length = int(digits)
    head = b"%b%b0%b%b\r\n\r\n" % (before, name, line_end, after)
    if b"q" in head and _HAS_ID in head and (place := head.lower().find(_ID)) >= 0:
        rest_at = head.find(b"\r\n", place + len(_ID))
        request_id = head[place + len(_ID) : rest_at]
        if not is_sound(request_id):
            return None
        return _made((head[:place] + head[rest_at:], length, body, request_id))
    return _made((head, length, body, b""))


class KnownHeads(Generic[Known]):
    """What ``read`` makes of a head, found out once while ``edition`` is the same object; None of
    heads that are nothing to it."""

    def __init__(
        self, read: Callable[[bytes], Known | None], edition: Callable[[], object]
    ) -> None:
        self._read = read
        self._edition = edition
        self._edition_read: object = None
        self._known: Callable[[bytes], Known | None] = read

    def __call__(self, head: bytes) -> Known | None:
        edition = self._edition()
        if edition is not self._edition_read:
            self._edition_read = edition
            self._known = lru_cache(REMEMBERED)(self._read)
        return self._known(head)


def read_request(head: bytes) -> Request | None:
    """What ``cut`` gave of a request over a connection that goes on; None where it is for the
    parser."""
    message = _Message()
    parser = message.parser = httptools.HttpRequestParser(message)
    if not message.is_usual(head):
        return None
    method = parser.get_method().decode("ascii")
    return Request(method, *split_target(message.url), message.headers)


def read_answer(head: bytes) -> Headers | None:
    """The same of an answer with a status of 200."""
    message = _Message()
    parser = message.parser = httptools.HttpResponseParser(message)
    return message.headers if message.is_usual(head) and parser.get_status_code() == 200 else None


def with_length(request: Request, length: int, request_id: bytes = b"") -> Request:
    """The request that has a head that was read, a body of that length, and that id."""
    own = (b"content-length", b"%d" % length)
    headers = [own if name == b"content-length" else (name, v) for name, v in request.headers]
    headers = with_id(headers, request_id)
    return Request(request.method, request.raw_path, request.query, headers)


class _Message:
    """For its ``parser``: one whole message without a body."""

    parser: httptools.HttpRequestParser | httptools.HttpResponseParser

    def __init__(self) -> None:
        self.url = b""
        self.headers: Headers = []
        self._kept_alive: list[bool] = []  # of each message

    def is_usual(self, head: bytes) -> bool:
        """It is, and asks for nothing but to be passed on."""
        try:
            self.parser.feed_data(head)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return False
        names = [name for name, _ in self.headers]
        is_plain = names.count(b"content-length") == 1 and _UNUSUAL.isdisjoint(names)
        is_1_1 = self.parser.get_http_version() == "1.1"
        return is_plain and is_1_1 and self._kept_alive == [True]

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_message_complete(self) -> None:
        # Asked for later, a parser of answers has forgotten their lengths.
        self._kept_alive.append(self.parser.should_keep_alive())
