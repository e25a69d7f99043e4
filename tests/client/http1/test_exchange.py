"""An answer as it is written: what of it is content, and where comments have a place."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace

import pytest
from modelpool_client.http1.comments import is_comment
from modelpool_client.http1.exchange import Exchange
from modelpool_client.http1.message import Request
from modelpool_client.surfaces import sse
from modelpool_client.surfaces.anthropic.stream import PING

HEADERS = list(sse.HEADERS)


class Channel:
    """A connection that takes everything; its clock goes on with every look."""

    framing = None

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.sent = b""
        self.now = itertools.count(1.0).__next__

    def send(self, data: bytes) -> None:
        self.sent += data

    def read_on(self) -> None: ...
    def answered(self, exchange: Exchange) -> None: ...
    def abort(self) -> None: ...


def begun() -> tuple[Exchange, Channel]:
    loop = SimpleNamespace(create_future=None)
    channel = Channel(loop)  # type: ignore[arg-type]
    request = Request("POST", b"/v1/chat/completions", b"", [])
    return Exchange(channel, request, "pool", is_kept_alive=True), channel


@pytest.mark.parametrize("comment", [b": waiting\n\n", PING, b": a\n\n" + PING])
def test_the_first_of_a_stream_is_what_is_no_comment(comment: bytes) -> None:
    exchange, _ = begun()
    exchange.pass_comments(HEADERS, comment)
    exchange.write(comment)
    exchange.comment("waiting")
    assert exchange.first_at is None
    exchange.write(b"data: 1\n\n")
    first_at = exchange.first_at
    assert first_at is not None
    exchange.write(b"data: 2\n\n")
    assert exchange.first_at == first_at


def test_comments_of_others_stand_between_parts_only() -> None:
    exchange, channel = begun()
    exchange.pass_comments(HEADERS, b": one\n\n")
    exchange.write(b"data: begun")
    exchange.pass_comments(HEADERS, b": two\n\n")
    exchange.write(b" and ended\n\n")
    exchange.pass_comments(HEADERS, b": three\n\n")
    for comment, is_there in ((b": one", True), (b": two", False), (b": three", True)):
        assert (comment in channel.sent) is is_there


@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        (b":\n\n", True),
        (b": a\n: b\r\n\r\n", True),
        (PING * 2, True),
        (b'{"response":"","done":false}\n', True),
        (b"", False),
        (b": cut", False),
        (b": cut\n", False),
        (b": a\n\ndata: 1\n\n", False),
        (PING + b"event: content_block_delta\ndata: {}\n\n", False),
        (b'{"response":"a","done":false}\n', False),
        (b'{"response":"","done":true}\n', False),
        (b'{"error":"no room","done":false}\n', False),
        (b'{"object":"chat.completion"}\n', False),
        (b"[" * 4000 + b"\n", False),
        (b":" + b"x" * 5000 + b"\n\n", False),
    ],
)
def test_comments(piece: bytes, expected: bool) -> None:
    assert is_comment(piece) is expected
