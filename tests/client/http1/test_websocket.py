"""A WebSocket without a socket, on virtual time: frames by the letter of RFC 6455, and others."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import struct
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.errors import PoolRestarting, WorkerDraining
from modelpool_client.http1.connection import Connection, Handler
from modelpool_client.http1.exchange import Exchange
from modelpool_client.http1.server import HttpServer
from modelpool_client.http1.timeouts import Timeouts
from modelpool_client.http1.upgrade import upgrade
from modelpool_client.surfaces import sse
from support.raw_answers import answers_in
from support.upstream import Pipe
from support.virtual_time import run_virtual

LIMIT = 2000
KEY = base64.b64encode(bytes(16))
OPEN = (
    b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\nX-Priority: low\r\n\r\n"
)
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
NORMAL, GOING_AWAY, PROTOCOL_ERROR, BAD_TEXT = 1000, 1001, 1002, 1007
POLICY, TOO_BIG, RESTART = 1008, 1009, 1012


def frame(
    opcode: int, data: bytes = b"", *, fin: bool = True, mask: bytes | None = b"abcd"
) -> bytes:
    """One of a client; ``mask`` None: as only servers may send."""
    size = len(data)
    short = size if size < 126 else 126 if size < 1 << 16 else 127
    head = bytes([fin << 7 | opcode, (mask is not None) << 7 | short])
    if short >= 126:
        head += struct.pack("!H" if short == 126 else "!Q", size)
    if mask is None:
        return head + data
    return head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data))


def closing(code: int) -> bytes:
    return struct.pack("!H", code)


def ask(**body: Any) -> bytes:
    return frame(TEXT, json.dumps(body).encode())


def frames_in(data: bytes) -> list[tuple[int, bytes]]:
    """Whole, unmasked ones of a server."""
    found = []
    while data:
        first, size, at = data[0], data[1], 2
        assert first & 0x80, "in pieces"
        assert not size & 0x80, "masked"
        if size == 126:
            size, at = struct.unpack("!H", data[2:4])[0], 4
        elif size == 127:
            size, at = struct.unpack("!Q", data[2:10])[0], 10
        found.append((first & 0x0F, data[at : at + size]))
        assert len(data) >= at + size, "cut off"
        data = data[at + size :]
    return found


class Line:
    """A connection that asks for ``/v1/ws`` and carries ``/chat``, whose handler is the test's."""

    def __init__(self, handler: Handler, **seconds: float) -> None:
        self.seen: list[Exchange] = []
        self._handler = handler
        self.server = HttpServer(
            self._handle, cast(Any, None), source="pool", timeouts=Timeouts(**seconds),
            keep_alive_seconds=75,
        )  # fmt: skip
        self._came = b""
        self.pipe = _Pipe(self._take)
        self.connection = Connection(self.server)
        self.pipe.set_protocol(self.connection)
        self.connection.connection_made(self.pipe)

    async def _handle(self, exchange: Exchange) -> None:
        self.seen.append(exchange)
        if exchange.request.path == "/v1/ws":
            upgrade(exchange, "/chat", lambda: LIMIT, "max_body_mb")
        else:
            await self._handler(exchange)

    def _take(self, data: bytes) -> None:
        self._came += data

    @property
    def protocol(self) -> Any:
        return self.pipe.get_protocol()

    async def open(self) -> Line:
        self.send(OPEN)
        await settle()
        head, _, self._came = self._came.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        return self

    def send(self, *parts: bytes) -> None:
        for part in parts:
            if not self.pipe.is_over or self.pipe.has_eof:
                self.protocol.data_received(part)

    async def came(self) -> list[tuple[int, bytes]]:
        """The frames since the last call, once nothing more happens in this moment."""
        await settle()
        data, self._came = self._came, b""
        return frames_in(data)

    async def texts(self) -> list[str]:
        return [data.decode() for opcode, data in await self.came() if opcode == TEXT]

    async def close(self) -> None:
        self.protocol.connection_lost(None)
        await self.server.close(0)


class _Pipe(Pipe):
    """It changes hands; ``write_eof`` ends one direction only."""

    has_eof = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def write_eof(self) -> None:
        self.has_eof = True


async def settle() -> None:
    for _ in range(1000):
        await asyncio.sleep(0)


def play(scene: Callable[[], Awaitable[Any]]) -> None:
    async def main() -> None:
        await scene()
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1, asyncio.all_tasks()

    run_virtual(main())


async def echo(exchange: Exchange) -> None:
    """A chat: two events and [DONE], or one answer; with what HTTP says in headers."""
    body = await exchange.read_body(LIMIT)
    data = json.loads(body)
    exchange.headers.append((b"x-modelpool-ignored", b"foo"))
    if data["stream"] is not True:
        exchange.send(200, [], b'{"said":%d}' % data["n"])
        return
    exchange.begin(200, [*sse.HEADERS])
    parts = sse.event({"said": data["n"]}) + sse.event({"more": "ä"}) + b"data: [DONE]\n\n"
    for at in range(0, len(parts), 7):
        exchange.write(parts[at : at + 7])
    exchange.end()


FIRST = '{"headers":{"x-modelpool-ignored":"foo"},"said":%d}'
REST = ['{"more":"\\u00e4"}', "[DONE]"]


def answer(n: int) -> list[str]:
    return [FIRST % n, *REST]


# -- messages --------------------------------------------------------------------------------------


def test_a_message_is_a_request_with_the_headers_of_the_handshake() -> None:
    async def scene() -> None:
        line = await Line(echo).open()
        line.send(ask(n=1))
        assert await line.texts() == answer(1)
        request = line.seen[-1].request
        assert (request.method, request.path, request.query) == ("POST", "/chat", b"")
        assert dict(request.headers) == {
            b"host": b"x",
            b"x-priority": b"low",
            b"content-type": b"application/json",
        }
        line.send(ask(n=2, stream=False))
        assert await line.texts() == [FIRST % 2]
        await line.close()

    play(scene)


@given(
    cuts=st.lists(st.integers(0, 60), max_size=8),
    pieces=st.lists(st.integers(0, 200), max_size=12),
    control=st.booleans(),
)
def test_however_it_is_cut_it_is_the_same(
    cuts: list[int], pieces: list[int], control: bool
) -> None:
    """A message into frames, with control frames between them; the bytes into pieces."""
    message = json.dumps({"n": 7, "stream": False, "text": "ä€𝄞"}, ensure_ascii=False).encode()
    at = sorted({0, len(message), *(c for c in cuts if c < len(message))})
    parts = [message[a:b] for a, b in itertools.pairwise(at)]
    data = b""
    for i, part in enumerate(parts):
        data += frame(TEXT if i == 0 else 0, part, fin=i == len(parts) - 1, mask=os.urandom(4))
        if control and i < len(parts) - 1:
            data += frame(PING, b"hey") + frame(PONG)
    places = sorted({0, len(data), *(p for p in pieces if p < len(data))})

    async def scene() -> None:
        line = await Line(echo).open()
        line.send(*(data[a:b] for a, b in itertools.pairwise(places)))
        came = await line.came()
        assert [d for o, d in came if o == TEXT] == [(FIRST % 7).encode()]
        assert [d for o, d in came if o == PONG] == [b"hey"] * (control * (len(parts) - 1))
        await line.close()

    play(scene)


def test_json_in_a_binary_message_will_do() -> None:
    async def scene() -> None:
        line = await Line(echo).open()
        line.send(frame(BINARY, b'{"n": 3}'))
        assert await line.texts() == answer(3)
        await line.close()

    play(scene)


def test_messages_are_answered_in_their_order() -> None:
    async def scene() -> None:
        line = await Line(echo).open()
        line.send(b"".join(ask(n=n) for n in range(200)))
        assert await line.texts() == [text for n in range(200) for text in answer(n)]
        assert not line.pipe.is_paused
        await line.close()

    play(scene)


def test_what_waits_is_bounded() -> None:
    async def scene() -> None:
        go = asyncio.Event()

        async def slow(exchange: Exchange) -> None:
            await go.wait()
            await echo(exchange)

        line = await Line(slow).open()
        for n in range(1, 3):
            line.send(ask(n=n, text="x" * 900))
        assert not line.pipe.is_paused, "or its client's leaving would not be noticed"
        line.send(ask(n=3, text="x" * 900), ask(n=4, text="x" * 900))
        assert line.pipe.is_paused
        go.set()
        assert len(await line.texts()) == 12
        assert not line.pipe.is_paused
        await line.close()

    play(scene)


async def fail(exchange: Exchange) -> None:
    data = json.loads(await exchange.read_body(LIMIT))
    if data.get("late"):
        exchange.begin(200, [*sse.HEADERS])
        exchange.write(sse.event({"said": 1}))
    raise PoolRestarting("later", retry_after=7)


def test_errors_leave_it_open() -> None:
    async def scene() -> None:
        line = await Line(fail).open()
        for _ in range(2):
            line.send(ask(n=1))
            [text] = await line.texts()
            told = json.loads(text)
            assert (told["status"], told["headers"]) == (503, {"retry-after": "7"})
            assert told["error"]["code"] == "pool_restarting"
        line.send(ask(late=True))
        said, error = map(json.loads, await line.texts())
        assert said == {"said": 1}
        assert error["error"]["code"] == "pool_restarting"
        await line.close()

    play(scene)


@pytest.mark.parametrize("message", [b"", b"{", b"[1]", b"\xff", b"null", b'"cancel"'])
def test_what_is_no_request_is_for_the_handler_to_refuse(message: bytes) -> None:
    async def read(exchange: Exchange) -> None:
        exchange.send_json(400, {"error": list(await exchange.read_body(LIMIT))})

    async def scene() -> None:
        line = await Line(read).open()
        line.send(frame(BINARY, message))
        [text] = await line.texts()
        assert json.loads(text) == {"status": 400, "error": list(message)}
        await line.close()

    play(scene)


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (b"{}", b'{"stream":true}'),
        (b' { "a": 1}', b'{"stream":true, "a": 1}'),
        (b'{"stream": null}', b'{"stream": null}'),
        (b'{"stream": false}', b'{"stream": false}'),
    ],
)
def test_it_streams_unless_the_message_says_something_of_that(said: bytes, read: bytes) -> None:
    async def scene() -> None:
        bodies = []

        async def keep(exchange: Exchange) -> None:
            bodies.append(await exchange.read_body(LIMIT))
            exchange.send(200, [], b"{}")

        line = await Line(keep).open()
        line.send(frame(TEXT, said))
        assert await line.texts() == ["{}"]
        assert bodies == [read]
        await line.close()

    play(scene)


# -- cancelling ------------------------------------------------------------------------------------


async def endless(exchange: Exchange) -> None:
    await exchange.read_body(LIMIT)
    exchange.begin(200, [*sse.HEADERS])
    exchange.write(sse.event({"said": 0}))
    await asyncio.Event().wait()


def test_cancel_ends_what_was_asked_for_and_nothing_else() -> None:
    async def scene() -> None:
        line = await Line(endless).open()
        line.send(ask(n=1), ask(n=2))
        assert await line.texts() == ['{"said":0}']
        line.send(ask(type="cancel"), ask(n=3))
        first, second, third = map(json.loads, await line.texts())
        assert first["error"]["code"] == second["error"]["code"] == "cancelled"
        assert third == {"said": 0}
        line.send(ask(type="cancel"))
        assert len(await line.texts()) == 1
        line.send(ask(type="cancel"))
        assert await line.texts() == [], "there is nothing to cancel"
        await line.close()

    play(scene)


def test_cancel_in_the_same_moment_as_its_request() -> None:
    async def scene() -> None:
        line = await Line(endless).open()
        line.send(ask(n=1) + ask(type="cancel"))
        *_, told = map(json.loads, await line.texts())
        assert told["error"]["code"] == "cancelled"
        await line.close()

    play(scene)


def by_frame(line: Line) -> None:
    line.send(frame(CLOSE, closing(NORMAL)))


def by_eof(line: Line) -> None:
    line.protocol.eof_received()


def by_loss(line: Line) -> None:
    line.protocol.connection_lost(ConnectionResetError())


def by_garbage(line: Line) -> None:
    line.send(b"\xff\xff\xff")


@pytest.mark.parametrize("leave", [by_frame, by_eof, by_loss, by_garbage])
def test_who_leaves_ends_the_work(leave: Callable[[Line], None]) -> None:
    async def scene() -> None:
        line = await Line(endless).open()
        line.send(ask(n=1), ask(n=2))
        await settle()
        task = line.seen[-1].task
        assert task is not None
        leave(line)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert task.cancelled()
        assert line.seen[-1].has_left
        assert len(line.seen) == 2, "what waited was begun"
        await line.close()

    play(scene)


# -- the end ---------------------------------------------------------------------------------------


def test_its_client_closes() -> None:
    async def scene() -> None:
        line = await Line(echo).open()
        line.send(frame(CLOSE, closing(3001) + b"bye"))
        assert await line.came() == [(CLOSE, closing(3001) + b"bye")]
        assert line.pipe.is_over
        await line.close()

    play(scene)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (frame(TEXT, b"{}", mask=None), PROTOCOL_ERROR),
        (b"\xff\xff\xff", PROTOCOL_ERROR),
        (frame(3, b"?"), PROTOCOL_ERROR),
        (frame(0, b"goes on"), PROTOCOL_ERROR),
        (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), PROTOCOL_ERROR),
        (frame(PING, b"x" * 126), PROTOCOL_ERROR),
        (frame(PING, fin=False), PROTOCOL_ERROR),
        (frame(CLOSE, b"x"), PROTOCOL_ERROR),
        (frame(TEXT, b"\xc3\x28"), BAD_TEXT),
        (frame(TEXT, b"x" * (LIMIT + 1)), TOO_BIG),
        (frame(TEXT, b"x" * LIMIT, fin=False) + frame(0, b"x"), TOO_BIG),
        (frame(TEXT, b"x" * (1 << 20))[: LIMIT + 100], TOO_BIG),
    ],
    ids=lambda value: value[:8].hex() if isinstance(value, bytes) else str(value),
)
def test_what_is_not_understood_or_too_much_closes_it(bad: bytes, code: int) -> None:
    async def scene() -> None:
        line = await Line(echo).open()
        line.send(ask(n=1))
        assert await line.texts() == answer(1)
        line.send(bad)
        [(opcode, data)] = await line.came()
        assert (opcode, data[:2]) == (CLOSE, closing(code))
        assert (b"2,000 bytes (max_body_mb)" in data) == (code == TOO_BIG)
        assert line.pipe.has_eof
        line.send(b"x" * 10_000, ask(n=2))
        assert await line.came() == []
        assert len(line.seen) == 2, "nothing after it is heard"
        await asyncio.sleep(40)
        assert line.pipe.is_over, "its client did not close"
        await line.close()

    play(scene)


@given(data=st.binary(max_size=200))
def test_whatever_comes_there_is_no_bug(data: bytes) -> None:
    async def scene() -> None:
        line = await Line(fail).open()
        line.send(data, ask(n=1))
        for opcode, said in await line.came():
            assert opcode in (TEXT, CLOSE, PONG)
            if opcode == TEXT:
                assert json.loads(said)["error"]["code"] in ("pool_restarting", "internal_error")
        await line.close()

    play(scene)


@pytest.mark.parametrize(("is_restarting", "code"), [(False, GOING_AWAY), (True, RESTART)])
def test_the_server_closes_an_idle_one_and_waits_for_its_client(
    is_restarting: bool, code: int
) -> None:
    """Though its client answers pings: those are no use of it."""

    async def scene() -> None:
        line = await Line(echo).open()
        await asyncio.sleep(1)
        line.send(frame(PONG))
        line.server.stop_accepting()
        closed = asyncio.ensure_future(line.server.close(30, is_restarting=is_restarting))
        await asyncio.sleep(0.3)
        [(opcode, data)] = await line.came()
        assert (opcode, data[:2]) == (CLOSE, closing(code))
        assert not line.pipe.is_over
        line.send(frame(CLOSE, data))
        assert line.pipe.is_over
        line.protocol.connection_lost(None)
        await closed

    play(scene)


def test_the_server_waits_for_no_client_that_does_not_answer_its_close() -> None:
    async def scene() -> None:
        line = await Line(echo).open()
        await asyncio.sleep(1)
        line.server.stop_accepting()
        closed = asyncio.ensure_future(line.server.close(30, is_restarting=True))
        await asyncio.sleep(3)
        assert line.pipe.is_over
        line.protocol.connection_lost(None)
        await closed

    play(scene)


def test_the_server_lets_an_answer_end_and_cuts_it_readably() -> None:
    async def scene() -> None:
        line = await Line(endless).open()
        line.send(ask(n=1), ask(n=2))
        assert await line.texts() == ['{"said":0}']
        closed = asyncio.ensure_future(line.server.close(30))
        await asyncio.sleep(1)
        assert await line.came() == []
        assert line.server.cut(PoolRestarting("now")) == 1
        (_, told), (opcode, data) = await line.came()
        assert json.loads(told)["error"]["code"] == "pool_restarting"
        assert (opcode, data[:2]) == (CLOSE, closing(GOING_AWAY))
        assert len(line.seen) == 2, "what waited was begun"
        await asyncio.sleep(6)
        assert line.pipe.is_over, "its client did not answer"
        line.protocol.connection_lost(None)
        await closed

    play(scene)


def test_a_worker_that_drains_says_so_and_closes() -> None:
    async def drain(exchange: Exchange) -> None:
        exchange.is_kept_alive = False
        raise WorkerDraining("unloaded", retry_after=1)

    async def scene() -> None:
        line = await Line(drain).open()
        line.send(ask(n=1))
        (_, told), (opcode, data) = await line.came()
        assert json.loads(told)["error"]["code"] == "worker_draining"
        assert (opcode, data[:2]) == (CLOSE, closing(GOING_AWAY))
        await line.close()

    play(scene)


# -- time and pressure -----------------------------------------------------------------------------


def test_comments_are_pings_that_say_what_is_waited_for() -> None:
    async def wait(exchange: Exchange) -> None:
        await exchange.read_body(LIMIT)
        exchange.wait_reason = lambda: "the load, " + "ä" * 100
        await asyncio.sleep(12)
        exchange.write(sse.event({"said": 1}))
        exchange.end()

    async def scene() -> None:
        line = await Line(wait, stream_ping=5).open()
        line.send(ask(n=1))
        await asyncio.sleep(11)
        came = await line.came()
        assert [opcode for opcode, _ in came] == [PING, PING]
        assert came[0][1].decode("utf-8").startswith("the load, ä")
        assert len(came[0][1]) <= 125
        line.send(frame(PONG))
        await asyncio.sleep(2)
        assert await line.texts() == ['{"said":1}']
        await line.close()

    play(scene)


def test_who_answers_pings_stays_and_who_does_not_is_gone() -> None:
    async def scene() -> None:
        line = await Line(echo, stream_ping=5, send=20).open()
        for _ in range(20):
            await asyncio.sleep(6)
            assert [opcode for opcode, _ in await line.came()] == [PING]
            line.send(frame(PONG))
        assert not line.pipe.is_over
        await asyncio.sleep(19)
        assert not line.pipe.is_over
        await asyncio.sleep(10)
        assert line.pipe.is_over
        await line.close()

    play(scene)


def test_half_a_message_is_not_waited_for() -> None:
    async def scene() -> None:
        line = await Line(echo, client_body=10).open()
        line.send(frame(TEXT, b"{", fin=False))
        await asyncio.sleep(9)
        line.send(frame(0, b'"n"', fin=False))
        await asyncio.sleep(9)
        assert CLOSE not in [opcode for opcode, _ in await line.came()]
        await asyncio.sleep(3)
        [(_, data)] = [f for f in await line.came() if f[0] == CLOSE]
        assert data[:2] == closing(POLICY)
        assert b"within 10 s" in data
        await line.close()

    play(scene)


def test_who_does_not_read_stops_the_source() -> None:
    heard: list[str] = []

    class Source:
        def pause(self) -> None:
            heard.append("pause")

        def resume(self) -> None:
            heard.append("resume")

    async def slow(exchange: Exchange) -> None:
        await exchange.read_body(LIMIT)
        exchange.begin(200, [*sse.HEADERS])
        exchange.source = Source()
        await asyncio.sleep(1)
        await exchange.drain()
        exchange.write(b"data: [DONE]\n\n")
        exchange.end()

    async def scene() -> None:
        line = await Line(slow, send=5).open()
        line.send(ask(n=1))
        await settle()
        line.protocol.pause_writing()
        line.send(frame(PING))
        await asyncio.sleep(2)
        assert await line.came() == [], "a pong would be one more that nobody takes"
        line.protocol.resume_writing()
        assert await line.texts() == ["[DONE]"]
        assert heard == ["pause", "resume"]
        await line.close()

    play(scene)


# -- the handshake ---------------------------------------------------------------------------------


def without(name: bytes) -> bytes:
    return b"\r\n".join(line for line in OPEN.split(b"\r\n") if not line.startswith(name))


@pytest.mark.parametrize(
    ("head", "status", "said"),
    [
        (without(b"Upgrade"), 426, "ws://HOST/v1/ws"),
        (OPEN.replace(b"Upgrade: websocket", b"Upgrade: h2c"), 426, "ws://HOST/v1/ws"),
        (OPEN.replace(b"HTTP/1.1", b"HTTP/1.0"), 426, "ws://HOST/v1/ws"),
        (OPEN.replace(b"Version: 13", b"Version: 8"), 426, "must be 13, not '8'"),
        (without(b"Sec-WebSocket-Version"), 426, "must be 13, not ''"),
        (without(b"Sec-WebSocket-Key"), 400, "16 bytes in base64"),
        (OPEN.replace(KEY, b"a2V5"), 400, "16 bytes in base64"),
        (OPEN.replace(KEY, b"?" * 24), 400, "16 bytes in base64"),
    ],
)
def test_bad_handshakes_are_refused_in_http(head: bytes, status: int, said: str) -> None:
    async def scene() -> None:
        line = Line(echo)
        line.send(head)
        await settle()
        told, _, body = line._came.partition(b"\r\n\r\n")
        assert told.startswith(b"HTTP/1.1 %d " % status)
        assert said in json.loads(body)["error"]["message"]
        if status == 426:
            for line_of_head in (b"upgrade: websocket", b"sec-websocket-version: 13"):
                assert line_of_head in told.split(b"\r\n")
        await line.close()

    play(scene)


def test_who_does_not_wait_for_the_handshake_is_refused() -> None:
    async def scene() -> None:
        line = Line(echo)
        line.send(OPEN + ask(n=1))
        await settle()
        told = answers_in(line._came)
        assert [one.status for one in told] == [400, 400]
        assert "before the handshake was answered" in told[0].json["error"]["message"]
        await line.close()

    play(scene)


def test_the_answer_to_a_handshake() -> None:
    """The example of RFC 6455, 1.3."""

    async def scene() -> None:
        line = Line(echo)
        line.send(OPEN.replace(KEY, b"dGhlIHNhbXBsZSBub25jZQ=="))
        await settle()
        assert line._came.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in line._came
        assert line.server.connections == {line.protocol}
        await line.close()

    play(scene)
