"""A head that is known means what the parser makes of the whole message, or is not known."""

from __future__ import annotations

from typing import Any

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from modelpool_client.http1.known_heads import (
    LONGEST,
    REMEMBERED,
    KnownHeads,
    cut,
    read_answer,
    read_request,
    with_length,
)
from modelpool_client.http1.message import Headers

BODY = b"abc"
ASKED = [
    *[b"POST /v1/c?q=1 HTTP/1.1\r\n"] * 4,
    b"POST http://elsewhere/v1/c?q=1 HTTP/1.1\r\n",
    b"POST /v1/c?q=1 HTTP/1.0\r\n",
    b"POST /v1/c?q=1 HTTP/1.1\n",
    b"\r\nPOST /v1/c?q=1 HTTP/1.1\r\n",
    b"POST /v1/c?q=1 ICE/1.0\r\n",
    b"POST /v1/c?q=1\r\n",
]
ANSWERED = [
    *[b"HTTP/1.1 200 OK\r\n"] * 4,
    b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n",
    b"HTTP/1.1 204 No\r\n",
    b"HTTP/1.1 304 No\r\n",
    b"HTTP/1.1 200\r\n",
]
LINES = [
    b"Host: x\r\n",
    b"Content-Length: 3\r\n",
    b"content-length: 3\r\n",
    b"Content-Length: 5\r\n",
    b"CONTENT-LENGTH: 3\r\n",
    b"Content-Length:  3\r\n",
    b"Content-Length: +3\r\n",
    b"Content-Length: 3 \r\n",
    b"Content-Length: 0003\r\n",
    b"Content-Length: 3,3\r\n",
    b"Content-Length: 3\r\n 4\r\n",
    b"Content-Length: \r\n 3\r\n",
    b"Content-Length: 3\n",
    b" Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Connection: close\r\n",
    b"Connection:\r\n close\r\n",
    b"Connection: keep-alive, close\r\n",
    b"Connection: upgrade\r\n",
    b"Upgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"X: a\r\n b\r\n",
    b"X: a\nContent-Length: 3\r\n",
    b"X: \x00\r\n",
    b"X: \xff\r\n",
    b"X : a\r\n",
    b"X: a\rb\r\n",
    b"X\r\n",
    b"\n\n",
    b"\r\n",
]


class Parsed:
    """A whole message as the parser reads it."""

    def __init__(self, kind: Any, data: bytes) -> None:
        self.url = self.body = b""
        self.headers: Headers = []
        self.kept_alive: list[bool] = []
        self._parser = kind(self)
        self._parser.feed_data(data)
        self.version = self._parser.get_http_version()

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.kept_alive.append(self._parser.should_keep_alive())


def without_length(headers: Headers) -> Headers:
    return [pair if pair[0] != b"content-length" else (pair[0], b"") for pair in headers]


def messages(first: list[bytes]) -> st.SearchStrategy[bytes]:
    lines = st.lists(st.sampled_from(LINES), max_size=4)
    length = st.sampled_from(LINES[1:3])
    return st.builds(
        lambda a, b, c, d: b"".join([a, *b, c, *d, b"\r\n", BODY]),
        *(st.sampled_from(first), lines, length, lines),
    )


@given(messages(ASKED))
@example(b"POST /v1/c?q=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
def test_a_request_that_is_known_is_what_the_parser_reads(data: bytes) -> None:
    parts = cut(data)
    request = None if parts is None else read_request(parts.head)
    if parts is None or request is None or len(parts.body) != parts.length:
        return
    parsed = Parsed(httptools.HttpRequestParser, data)
    assert (parsed.kept_alive, parsed.version, parsed.body) == ([True], "1.1", BODY)
    assert (request.raw_path, request.query) == (b"/v1/c", b"q=1")
    told = with_length(request, parts.length).headers
    assert without_length(told) == without_length(parsed.headers)
    assert [value for name, value in told if name == b"content-length"] == [b"3"]


@given(messages(ANSWERED))
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
def test_an_answer_that_is_known_is_what_the_parser_reads(data: bytes) -> None:
    parts = cut(data)
    headers = None if parts is None else read_answer(parts.head)
    if parts is None or headers is None or len(parts.body) != parts.length:
        return
    parsed = Parsed(httptools.HttpResponseParser, data)
    assert (parsed.kept_alive, parsed.version, parsed.body) == ([True], "1.1", BODY)
    assert without_length(headers) == without_length(parsed.headers)


@pytest.mark.parametrize("first", [ASKED[0], ANSWERED[0]])
def test_what_is_usual_is_known(first: bytes) -> None:
    parts = cut(first + b"Host: x\r\nContent-Length: 3\r\n\r\nabc")
    assert parts is not None
    known: object = read_request(parts.head) if first in ASKED else read_answer(parts.head)
    assert known is not None


def test_a_long_head_is_not_kept() -> None:
    assert cut(ASKED[0] + b"X: %b\r\nContent-Length: 0\r\n\r\n" % (b"x" * LONGEST)) is None


def test_heads_are_read_once_in_an_edition_and_not_too_many_are_kept() -> None:
    read: list[bytes] = []
    edition: object = "first"

    def note(head: bytes) -> int:
        read.append(head)
        return len(read)

    heads = KnownHeads(note, lambda: edition)
    assert [heads(b"a"), heads(b"b"), heads(b"a")] == [1, 2, 1]
    edition = "second"
    assert [heads(b"a"), heads(b"a")] == [3, 3]
    for i in range(REMEMBERED):
        heads(b"%d" % i)
    assert heads(b"a") == len(read) == REMEMBERED + 4
