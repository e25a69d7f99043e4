"""HTTP/1.1 byte by byte, as gateway and worker speak it: what is right, what is odd, what is an
attack."""

from __future__ import annotations

import gzip
import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from support.bare_client import connected, until_closed
from support.raw_answers import Reader

from e2e.conftest import Add
from e2e.helpers import chat, fake
from e2e.support import PoolProcess

CHAT = "/v1/chat/completions"
BODY = json.dumps(chat("plain")).encode()
WAYS = ("gateway", "port", "socket")


class Server:
    """A port, and what is said to it."""

    def __init__(self, port: int, pid: int, path: str = "") -> None:
        self.port = port
        self.address = path or port
        self.process = psutil.Process(pid)

    def post(
        self, body: bytes = BODY, *lines: str, version: str = "1.1", length: int = -1
    ) -> bytes:
        """A chat request; with ``length`` 0 the lines say how long it is."""
        said = f"Content-Length: {len(body) if length < 0 else length}"
        return self.head("POST", CHAT, *lines, *([said] if length else []), version=version) + body

    def head(self, method: str, target: str, *lines: str, version: str = "1.1") -> bytes:
        fields = [f"Host: 127.0.0.1:{self.port}", "Content-Type: application/json", *lines]
        return "\r\n".join([f"{method} {target} HTTP/{version}", *fields, "", ""]).encode()

    def told(self, data: bytes) -> bytes:
        """All that is answered until the connection is closed."""
        with connected(self.address) as sock:
            sock.sendall(data)
            return until_closed(sock)


def server_of(pool: PoolProcess, view: dict[str, Any], way: str) -> Server:
    if way == "gateway":
        return Server(pool.port, pool.pid)
    port, pid = view["port"], view["worker_pid"]
    return Server(port, pid, socket_of(pid) if way == "socket" else "")


def socket_of(pid: int) -> str:
    """The path of the unix socket that a worker serves beside its port."""
    paths = [str(c.laddr) for c in psutil.Process(pid).net_connections("unix")]
    return next(path for path in paths if "/front-" in path)


def answers(told: bytes) -> list[int]:
    """The status of each."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", told)]


@pytest.fixture(params=WAYS)
def server(request: pytest.FixtureRequest, pool: PoolProcess) -> Server:
    view = pool.load("plain")
    return server_of(pool, view, request.param)


@pytest.fixture
def sock(server: Server) -> Iterator[socket.socket]:
    with connected(server.address) as made:
        yield made


# -- what is right ---------------------------------------------------------------------------------


def test_a_connection_carries_one_request_after_the_other(
    server: Server, sock: socket.socket
) -> None:
    reader = Reader(sock)
    for _ in range(3):
        sock.sendall(server.post())
        answer = reader.answer()
        assert (answer.status, answer.fields.get("connection")) == (200, None)
        assert answer.json["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("count", [2, 40])
def test_requests_in_one_breath_are_answered_in_order(
    server: Server, sock: socket.socket, count: int
) -> None:
    asked = [json.dumps(chat("plain", text=f"number {n}")).encode() for n in range(count)]
    sock.sendall(b"".join(map(server.post, asked)))
    reader = Reader(sock)
    said = [reader.answer().json["choices"][0]["message"]["content"] for _ in asked]
    assert said == [f"number {n}" for n in range(count)]


def test_a_stream_between_two_plain_ones(server: Server, sock: socket.socket) -> None:
    stream = json.dumps(chat("plain", stream=True)).encode()
    sock.sendall(server.post() + server.post(stream) + server.post())
    reader = Reader(sock)
    answers = [reader.answer() for _ in range(3)]
    assert [a.status for a in answers] == [200, 200, 200]
    assert answers[1].body.endswith(b"data: [DONE]\n\n")
    assert answers[1].fields["x-accel-buffering"] == "no"
    assert answers[1].fields["cache-control"] == "no-cache"


def test_a_compressed_body_is_read_and_a_bomb_is_not(server: Server, sock: socket.socket) -> None:
    gzipped = "Content-Encoding: gzip"
    sock.sendall(server.post(gzip.compress(BODY), gzipped))
    sock.sendall(server.post(b"whatever", "Content-Encoding: br"))
    sock.sendall(server.post(gzip.compress(bytes(80 << 20), 9), gzipped))
    reader = Reader(sock)
    plain, unknown, bomb = (reader.answer() for _ in range(3))
    assert plain.json["choices"][0]["message"]["content"]
    assert (unknown.status, unknown.fields["accept-encoding"]) == (415, "gzip, deflate, identity")
    assert bomb.status == 413


def test_what_is_no_request_is_refused_after_the_answer_before_it(server: Server) -> None:
    told = server.told(server.post() + b"NONSENSE\r\n\r\n" + server.post())
    assert answers(told) == [200, 400], "nothing is answered after it"


def test_expect_continue(server: Server, sock: socket.socket) -> None:
    sock.sendall(server.post(b"", "Expect: 100-continue", length=len(BODY)))
    reader = Reader(sock)
    assert reader.line() == b"HTTP/1.1 100 Continue"
    assert reader.line() == b""
    sock.sendall(BODY)
    assert reader.answer().status == 200


def test_who_expects_to_be_refused_is_at_once(server: Server) -> None:
    told = server.told(server.post(b"", "Expect: 100-continue", length=1 << 40))
    assert told.startswith(b"HTTP/1.1 413 ")
    assert b"payload_too_large" in told


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_body_in_chunks(server: Server, sock: socket.socket, size: int) -> None:
    parts = [BODY[i : i + size] for i in range(0, len(BODY), size)]
    coded = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(p), p) for p in parts)
    end = b"0\r\nX-Trailer: x\r\n\r\n"
    head = server.head("POST", CHAT, "Transfer-Encoding: chunked")
    sock.sendall(head + coded + end + server.post())
    reader = Reader(sock)
    assert [reader.answer().status for _ in range(2)] == [200, 200]


def test_http_1_0_gets_an_answer_and_the_end(server: Server) -> None:
    told = server.told(server.post(version="1.0"))
    head, _, body = told.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"transfer-encoding" not in head.lower()
    assert json.loads(body)["choices"]


def test_http_1_0_may_stay(server: Server, sock: socket.socket) -> None:
    reader = Reader(sock)
    for _ in range(2):
        sock.sendall(server.post(BODY, "Connection: keep-alive", version="1.0"))
        assert reader.answer().fields["connection"] == "keep-alive"


def test_http_1_0_gets_a_stream_without_chunks(server: Server) -> None:
    told = server.told(server.post(json.dumps(chat("plain", stream=True)).encode(), version="1.0"))
    head, _, body = told.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert body.startswith(b"data: ")
    assert body.endswith(b"data: [DONE]\n\n")


def test_the_last_one_of_a_connection(server: Server) -> None:
    told = server.told(server.post(BODY, "Connection: close"))
    assert answers(told) == [200]
    assert b"\r\nconnection: close\r\n" in told


@pytest.mark.parametrize("size", [1, 50, 10_000])
def test_who_would_rather_speak_http_2(server: Server, sock: socket.socket, size: int) -> None:
    """As Java's own client does, with every first request. It is answered in HTTP/1.1."""
    lines = "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAA"
    asked = server.post(BODY, *lines) + server.post()
    for at in range(0, len(asked), size):
        sock.sendall(asked[at : at + size])
    reader = Reader(sock)
    assert [reader.answer().status for _ in range(2)] == [200, 200]


@pytest.mark.parametrize("scheme", ["http", "HTTP"])
def test_a_whole_url_as_the_target(server: Server, sock: socket.socket, scheme: str) -> None:
    sock.sendall(server.head("GET", f"{scheme}://127.0.0.1:{server.port}/health?x=1"))
    assert Reader(sock).answer().status == 200


def test_head_has_no_body(server: Server, sock: socket.socket) -> None:
    sock.sendall(server.head("HEAD", "/v1/models") + server.head("GET", "/v1/models"))
    reader = Reader(sock)
    assert int(reader.answer(has_body=False).fields["content-length"]) > 0
    assert reader.answer().json["object"] == "list"


# -- what is an attack, or might be ----------------------------------------------------------------

SMUGGLED = "GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
ATTACKS = {
    "two lengths": ("Content-Length: 0", f"Content-Length: {len(SMUGGLED)}"),
    "the same length twice": ("Content-Length: 0", "Content-Length: 0"),
    "a list of lengths": (f"Content-Length: 0, {len(SMUGGLED)}",),
    "a length with a sign": ("Content-Length: +0",),
    "a negative length": ("Content-Length: -1",),
    "a length in hex": ("Content-Length: 0x0",),
    "length and chunks": (f"Content-Length: {len(SMUGGLED)}", "Transfer-Encoding: chunked"),
    "chunks and length": ("Transfer-Encoding: chunked", "Content-Length: 0"),
    "an unknown coding": ("Transfer-Encoding: identity",),
    "a second coding": ("Transfer-Encoding: gzip, chunked",),
    "chunked is not the last": ("Transfer-Encoding: chunked, gzip",),
    "chunked twice": ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "a vertical tab before it": ("Transfer-Encoding: \x0bchunked",),
    "a space before the colon": ("Content-Length : 0",),
    "a tab before the colon": ("Transfer-Encoding\t: chunked",),
    "a folded line": ("X-A: b\r\n folded: 1", "Content-Length: 0"),
    "a bare line feed": ("X-A: b\nContent-Length: 0",),
    "a bare carriage return": ("X-A: b\rContent-Length: 0",),
    "a null byte": ("X-A: a\x00b", "Content-Length: 0"),
    "no name": (": x", "Content-Length: 0"),
    "no colon": ("X-A", "Content-Length: 0"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_request_that_another_might_read_otherwise(server: Server, attack: str) -> None:
    told = server.told(server.head("POST", CHAT, *ATTACKS[attack]) + SMUGGLED.encode())
    assert answers(told) == [400], "what was smuggled in is answered"
    assert b"\r\nconnection: close\r\n" in told
    assert b"invalid_request" in told


def test_chunks_in_http_1_0(server: Server) -> None:
    head = server.head("POST", CHAT, "Transfer-Encoding: chunked", version="1.0")
    assert server.told(head + b"0\r\n\r\n").startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "coded",
    [b"zz\r\n", b"5\nhello\r\n0\r\n\r\n", b"5\r\nhelloX\r\n", b"-1\r\n\r\n", b"1" * 40 + b"\r\n"],
    ids=["no number", "a bare line feed", "too much", "negative", "endless"],
)
def test_chunks_that_are_none(server: Server, coded: bytes) -> None:
    told = server.told(server.head("POST", CHAT, "Transfer-Encoding: chunked") + coded)
    assert answers(told) == [400]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"use http:// instead of https://"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b""),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", b"speak HTTP/1.1"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", b"for proxies"),
        (b"GET /\r\n\r\n", b"speak HTTP/1.1"),
        (b"GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n", b""),
        (b"SSH-2.0-OpenSSH_9.2\r\n", b""),
        (b"\x00" * 100, b""),
    ],
    ids=["tls", "h2", "2.0", "proxy", "0.9", "no ascii", "ssh", "nulls"],
)
def test_what_is_no_http_1_1(server: Server, data: bytes, text: bytes) -> None:
    told = server.told(data)
    assert told.startswith(b"HTTP/1.1 400 ")
    assert text in told


@pytest.mark.parametrize("where", ["one field", "many fields", "target", "never ends"])
def test_a_head_that_is_too_large(server: Server, where: str) -> None:
    size = 70_000
    data = {
        "one field": server.head("GET", "/health", f"X-A: {'a' * size}"),
        "many fields": server.head("GET", "/health", *["X-A: aaaa"] * (size // 7)),
        "target": server.head("GET", f"/health?{'a' * size}"),
        "never ends": server.head("GET", "/health", f"X-A: {'a' * size}")[:-4],
    }[where]
    told = server.told(data)
    assert told.startswith(b"HTTP/1.1 431 ")
    assert b"headers_too_large" in told


def test_the_largest_head_is_taken(server: Server, sock: socket.socket) -> None:
    sock.sendall(server.head("GET", "/health", f"X-A: {'a' * 60_000}"))
    assert Reader(sock).answer().status == 200


def test_a_body_without_end_is_refused_and_not_kept(server: Server) -> None:
    """Its client goes on sending until it has read the answer, and is not reset before."""
    before = server.process.memory_info().rss
    with connected(server.address) as sock:
        sock.sendall(server.head("POST", CHAT, "Transfer-Encoding: chunked"))
        piece = b"%x\r\n%b\r\n" % (1 << 20, b" " * (1 << 20))
        for _ in range(100):
            sock.sendall(piece)
        told = until_closed(sock)
    assert told.startswith(b"HTTP/1.1 413 ")
    assert server.process.memory_info().rss - before < 90 << 20


# -- silence ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_stream_that_is_silent_for_long_gets_comments(make_pool: Any, way: str) -> None:
    """As when a long prompt is read. Comments stand between events, and nothing else changes."""
    script = {"first_token_seconds": 1.0, "tokens": 3, "tokens_per_second": 2.5}
    pool = make_pool(fake("slow", options=script), stream_ping_seconds=0.05)
    server = server_of(pool, pool.load("slow"), way)
    with connected(server.address) as sock:
        sock.sendall(server.post(json.dumps(chat("slow", stream=True)).encode()))
        answer = Reader(sock).answer()
    events = answer.body.split(b"\n\n")
    assert answer.status == 200
    assert events.count(b"data: [DONE]") == 1
    comments = [i for i, e in enumerate(events) if e.startswith(b": ")]
    assert len(comments) >= 4
    assert comments[-1] > 4, "between tokens, too"
    assert all(e.startswith((b": ", b"data: ")) or not e for e in events)


def test_a_plain_answer_gets_none(pool: PoolProcess, add: Add) -> None:
    model = add(first_token_seconds=0.5)
    pool.load(model)
    assert pool.ask(model)


@pytest.mark.parametrize("path", ["/events", "/models/plain/logs?follow=true"])
def test_streams_of_the_management_api_are_not_to_be_kept_back(
    pool: PoolProcess, path: str
) -> None:
    pool.load("plain")
    with connected(pool.port) as sock:
        sock.sendall(Server(pool.port, pool.pid).head("GET", path))
        fields = Reader(sock).head()[1]
    assert (fields["x-accel-buffering"], fields["cache-control"]) == ("no", "no-cache")
