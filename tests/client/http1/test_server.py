"""The server of gateway and front: bytes in any pieces, clients that stall, leave, or never end."""

from __future__ import annotations

import asyncio
import errno
import gzip
import itertools
import socket
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from modelpool_client.errors import InvalidRequest, PoolStopping
from modelpool_client.http1 import server as server_module
from modelpool_client.http1.connection import Connection, Handler
from modelpool_client.http1.exchange import BUFFER_BYTES, Exchange
from modelpool_client.http1.server import HttpServer
from modelpool_client.http1.timeouts import Timeouts
from support.raw_answers import RawAnswer, answers_in
from support.upstream import Pipe
from support.virtual_time import run_virtual

SOCKET = cast(socket.socket, None)  # nobody listens
LIMIT = 1000


async def echo(exchange: Exchange) -> None:
    body = await exchange.read_body(LIMIT)
    said = f"{exchange.request.method} {exchange.request.path} ".encode() + body
    exchange.send(200, [(b"content-type", b"text/plain")], said)


class Line:
    """A connection to a server, without a socket."""

    def __init__(self, handler: Handler = echo, **seconds: float) -> None:
        self.server = HttpServer(
            handler, SOCKET, source="pool", timeouts=Timeouts(**seconds), keep_alive_seconds=75
        )
        self.connection = Connection(self.server)
        self.came = b""
        self.pipe = Pipe(self._take)
        self.connection.connection_made(self.pipe)

    def _take(self, data: bytes) -> None:
        self.came += data

    def send(self, *parts: bytes) -> None:
        for part in parts:
            if not self.pipe.is_over:
                self.connection.data_received(part)

    async def settle(self) -> list[RawAnswer]:
        """Until nothing more happens in this moment; the answers so far."""
        for _ in range(200):
            await asyncio.sleep(0)
        return answers_in(self.came)

    async def close(self) -> None:
        self.connection.connection_lost(None)
        await self.server.close(0)


def play(scene: Callable[[], Awaitable[Any]]) -> None:
    async def main() -> None:
        await scene()
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1, asyncio.all_tasks()

    run_virtual(main())


REQUESTS = [
    b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX-T: 1\r\n\r\n",
    b"POST /d HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi",
    b"PUT http://x/e?q=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
]
SAID = [b"GET /a ", b"POST /b hello", b"POST /c hello", b"POST /d hi", b"PUT /e "]


def cut(data: bytes, at: list[int]) -> list[bytes]:
    places = sorted({min(a, len(data)) for a in at} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


@given(
    order=st.lists(st.sampled_from(range(len(REQUESTS))), min_size=1, max_size=6),
    at=st.lists(st.integers(0, 600), max_size=30),
)
def test_however_it_is_cut_it_is_the_same(order: list[int], at: list[int]) -> None:
    async def scene() -> None:
        line = Line()
        line.send(*cut(b"".join(REQUESTS[i] for i in order), at))
        assert [a.body for a in await line.settle()] == [SAID[i] for i in order]
        await line.close()

    play(scene)


@given(data=st.binary(max_size=300), at=st.lists(st.integers(0, 300), max_size=5))
def test_whatever_comes_is_answered_or_refused(data: bytes, at: list[int]) -> None:
    async def scene() -> None:
        line = Line()
        line.send(REQUESTS[0], *cut(data, at))
        answers = await line.settle()
        assert answers[0].body == SAID[0]
        assert {a.status for a in answers[1:]} <= {200, 400}
        await line.close()

    play(scene)


# -- its turn --------------------------------------------------------------------------------------


def test_who_is_next_waits_and_what_comes_after_is_not_read() -> None:
    async def scene() -> None:
        go = asyncio.Event()

        async def slow(exchange: Exchange) -> None:
            await go.wait()
            await echo(exchange)

        line = Line(slow)
        line.send(REQUESTS[0])
        assert not line.pipe.is_paused
        line.send(REQUESTS[1])
        assert await line.settle() == []
        assert line.pipe.is_paused, "or a client could fill the memory"
        go.set()
        assert len(await line.settle()) == 2
        assert not line.pipe.is_paused
        await line.close()

    play(scene)


def test_a_body_that_nobody_reads_yet_is_not_gathered() -> None:
    async def scene() -> None:
        go = asyncio.Event()

        async def later(exchange: Exchange) -> None:
            await go.wait()
            exchange.send(200, [], b"%d" % len(await exchange.read_body(1 << 20)))

        line = Line(later)
        size = BUFFER_BYTES * 2
        line.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
        line.send(b"x" * (BUFFER_BYTES + 1))
        assert line.pipe.is_paused
        go.set()
        await line.settle()
        assert not line.pipe.is_paused
        line.send(b"x" * (BUFFER_BYTES - 1))
        assert (await line.settle())[0].body == b"%d" % size
        await line.close()

    play(scene)


async def refuse(exchange: Exchange) -> None:
    raise InvalidRequest("no")


def test_a_short_rest_of_what_is_answered_already_is_thrown_away() -> None:
    """Most clients send head and body one after the other: who is refused meanwhile may stay."""

    async def scene() -> None:
        line = Line(refuse, client_body=8)
        line.send(REQUESTS[1][:-2])
        assert [a.fields.get("connection") for a in await line.settle()] == [None]
        line.send(b"lo" + REQUESTS[0])
        assert [a.status for a in await line.settle()] == [400, 400]
        line.send(REQUESTS[1][:-2])
        await asyncio.sleep(7)
        assert not line.pipe.is_over
        await asyncio.sleep(2)
        assert line.pipe.is_over, "the rest did not come in time"
        await line.close()

    play(scene)


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nContent-Length: 10000000\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["long", "perhaps none", "endless"],
)
def test_another_rest_ends_the_connection_once_it_is_read(head: bytes) -> None:
    """Until its client has read the answer; a reset would take that away."""

    async def scene() -> None:
        line = Line(refuse)
        line.send(head)
        (answer,) = await line.settle()
        assert (answer.status, answer.fields["connection"]) == (400, "close")
        line.connection.data_received(b"5\r\nhello" + REQUESTS[0])
        assert len(await line.settle()) == 1
        await line.close()

    play(scene)


@pytest.mark.parametrize("handler", [refuse, echo], ids=["answered", "waited for"])
def test_a_body_that_turns_out_to_be_none(handler: Handler) -> None:
    async def scene() -> None:
        line = Line(handler)
        line.send(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        await line.settle()
        line.send(b"no chunk\r\n")
        answers = await line.settle()
        assert [(a.status, a.fields["connection"]) for a in answers] == [(400, "close")]
        await line.close()

    play(scene)


# -- the client leaves, or is sent home ------------------------------------------------------------


@pytest.mark.parametrize("how", ["connection_lost", "eof_received"])
def test_who_leaves_ends_the_work_at_once(how: str) -> None:
    async def scene() -> None:
        ended: list[str] = []

        async def work(exchange: Exchange) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("work")

        line = Line(work)
        line.send(REQUESTS[0])
        await line.settle()
        if how == "eof_received":
            line.connection.eof_received()
        else:
            line.connection.connection_lost(None)
        await asyncio.sleep(0)
        assert ended == ["work"]
        assert line.came == b""
        await line.close()

    play(scene)


@pytest.mark.parametrize("settled", [False, True], ids=["not begun", "begun"])
def test_who_is_stopped_is_told_why(settled: bool) -> None:
    async def work(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    async def scene() -> None:
        line = Line(work)
        line.send(REQUESTS[0])
        if settled:
            await line.settle()
        assert line.server.cut(PoolStopping("the pool stops")) == 1
        (answer,) = await line.settle()
        assert (answer.status, answer.json["error"]["message"]) == (503, "the pool stops")
        await line.close()

    play(scene)


@pytest.mark.parametrize("begun", ["events", "other", "not"])
def test_a_bug_is_told_as_far_as_it_can_be(begun: str) -> None:
    kinds = {"events": b"text/event-stream", "other": b"text/plain"}

    async def fail(exchange: Exchange) -> None:
        if begun in kinds:
            exchange.begin(200, [(b"content-type", kinds[begun])])
            exchange.write(b"data: 1\n\n")
        raise ZeroDivisionError

    async def scene() -> None:
        line = Line(fail)
        line.send(REQUESTS[0])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (b"a bug in the pool, see its log" in line.came) is (begun != "other")
        assert line.came.endswith(b"0\r\n\r\n") is (begun == "events")
        assert line.pipe.is_over is (begun == "other"), "cut off, for its end would be a lie"
        await line.close()

    play(scene)


def test_what_ends_without_an_answer_is_cut_off() -> None:
    async def nothing(exchange: Exchange) -> None: ...

    async def scene() -> None:
        line = Line(nothing)
        line.send(REQUESTS[0])
        await line.settle()
        assert (line.came, line.pipe.is_over) == (b"", True)
        await line.close()

    play(scene)


# -- time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "status", "seconds"),
    [
        (b"", 408, 8),
        (b"GET / HT", 408, 8),
        (REQUESTS[0] + b"GET / HT", 408, 8),
        (REQUESTS[1][:-2], 408, 4),
        (REQUESTS[0], None, 75),
    ],
    ids=["nothing", "half a head", "half a second one", "half a body", "nothing more"],
)
def test_nobody_is_waited_for_longer_than_it_says(
    sent: bytes, status: int | None, seconds: float
) -> None:
    async def scene() -> None:
        line = Line(client_header=8, client_body=4, send=16)
        line.send(sent)
        before = len(await line.settle())
        await asyncio.sleep(seconds - 0.1)
        assert (len(await line.settle()), line.pipe.is_over) == (before, False)
        await asyncio.sleep(1.1)
        answers = await line.settle()
        assert line.pipe.is_over
        assert [a.status for a in answers[before:]] == ([status] if status else [])
        await line.close()

    play(scene)


def test_who_trickles_its_head_gets_no_more_time() -> None:
    async def scene() -> None:
        line = Line(client_header=8)
        for byte in b"GET / HTTP/1.1":
            line.send(bytes([byte]))
            await asyncio.sleep(1)
        (answer,) = await line.settle()
        assert answer.status == 408
        await line.close()

    play(scene)


def test_an_idle_server_has_no_timer() -> None:
    async def scene() -> None:
        line = Line()
        assert line.server._timer is not None
        line.connection.connection_lost(None)
        await asyncio.sleep(10)
        assert line.server._timer is None

    play(scene)


def test_comments_stand_between_events_only() -> None:
    async def work(exchange: Exchange) -> None:
        exchange.wait_reason = lambda: "at\nwork"
        await asyncio.sleep(10)
        exchange.begin(200, [(b"content-type", b"text/event-stream")]) if not exchange.status else 0
        exchange.write(b"data: half of ")
        await asyncio.sleep(20)
        exchange.write(b"an event\n\n")
        await asyncio.sleep(9)
        exchange.end()

    async def scene() -> None:
        line = Line(work, stream_ping=4)
        line.send(REQUESTS[0])
        await asyncio.sleep(60)
        (answer,) = await line.settle()
        parts = [p for p in answer.body.split(b"\n\n") if p]
        assert parts == [b": at work"] * 2 + [b"data: half of an event"] + [b": at work"] * 2
        assert answer.fields["x-accel-buffering"] == "no"
        await line.close()

    play(scene)


# -- real sockets ----------------------------------------------------------------------------------


Scene = Callable[[HttpServer, int], Awaitable[None]]


def serve(handler: Handler, scene: Scene, **seconds: float) -> None:
    async def main() -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            server = HttpServer(
                handler, sock, source="pool", timeouts=Timeouts(**seconds), keep_alive_seconds=75
            )
            await server.start()
            await scene(server, sock.getsockname()[1])
            await server.close(0)

    asyncio.run(main())


async def pour(exchange: Exchange) -> None:
    exchange.begin(200, [])
    while not exchange.has_ended:
        exchange.write(b"x" * 65536)
        await exchange.drain()


@pytest.mark.parametrize("reads", [True, False], ids=["slowly", "not at all"])
def test_a_client_that_reads(reads: bool) -> None:
    """Slowly is right, however slowly; not at all is given up."""
    size = 4096

    async def scene(server: HttpServer, port: int) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", port))
            await loop.sock_sendall(sock, REQUESTS[0])
            end = loop.time() + 3
            while loop.time() < end:
                await asyncio.sleep(0.05)
                if reads:
                    assert await loop.sock_recv(sock, size)
            assert len(server.connections) == reads

    serve(pour, scene, send=1)


def test_the_end_of_a_server() -> None:
    """Who is being answered is waited for, who was accepted is answered, who is idle is closed."""

    async def slow(exchange: Exchange) -> None:
        await asyncio.sleep(0.2)
        await echo(exchange)

    async def scene(server: HttpServer, port: int) -> None:
        idle = await asyncio.open_connection("127.0.0.1", port)
        idle[1].write(REQUESTS[0])
        await idle[0].readuntil(b"GET /a ")
        busy = await asyncio.open_connection("127.0.0.1", port)
        busy[1].write(REQUESTS[1])
        await asyncio.sleep(0.05)
        server.stop_accepting()
        queued = await asyncio.open_connection("127.0.0.1", port)
        queued[1].write(REQUESTS[0])
        await asyncio.sleep(0.05)
        await server.take_queued()
        await server.close(5)
        assert await idle[0].read() == b""
        for reader, said in ((busy[0], SAID[1]), (queued[0], SAID[0])):
            answer = await reader.read()
            assert answer.endswith(said)
            assert b"connection: close" in answer or reader is busy[0]
        for _, writer in (idle, busy, queued):
            writer.close()

    serve(slow, scene)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_all_who_wait_are_accepted_before_the_first_are_served_again(loop: str) -> None:
    """Else of many that come at once the last ones starve."""
    clients, order = 200, list[int]()
    factory = asyncio.SelectorEventLoop
    if loop == "uvloop":
        factory = uvloop.new_event_loop

    async def answer(exchange: Exchange) -> None:
        order.append(int(exchange.request.path[1:]))
        exchange.send(200, [], b"")

    async def main() -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen(clients)
            port = sock.getsockname()[1]
            waiting = [socket.create_connection(("127.0.0.1", port)) for _ in range(clients)]
            for number, client in enumerate(waiting):
                client.sendall(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number * 20)
            server = HttpServer(
                answer, sock, source="pool", timeouts=Timeouts(), keep_alive_seconds=75
            )
            await server.start()
            while len(order) < clients * 20:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            server.stop_accepting()
            for client in waiting:
                client.close()
            await server.close(5)
        last_begun = max(order.index(number) for number in range(clients))
        assert last_begun < len(order) // 2, "one connection at a time"

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(asyncio.wait_for(main(), 60))


def test_without_descriptors_it_waits_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Socket(socket.socket):
        short = 1

        def accept(self) -> Any:
            if Socket.short:
                Socket.short -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    monkeypatch.setattr(server_module, "RETRY_SECONDS", 0.05)

    async def main() -> None:
        with Socket() as sock:
            sock.bind(("127.0.0.1", 0))
            server = HttpServer(
                echo, sock, source="pool", timeouts=Timeouts(), keep_alive_seconds=75
            )
            await server.start()
            reader, writer = await asyncio.open_connection(*sock.getsockname())
            writer.write(REQUESTS[0])
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            writer.close()
            await server.close(1)

    asyncio.run(main())
    assert "no connection can be accepted for a second" in caplog.text


def compressed(body: bytes, coding: str) -> bytes:
    lines = f"POST /z HTTP/1.1\r\nHost: x\r\nContent-Encoding: {coding}\r\n"
    return f"{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_a_compressed_body_is_read_plain_and_says_no_more_that_it_was() -> None:
    seen: list[bytes] = []

    async def look(exchange: Exchange) -> None:
        body = await exchange.read_body(LIMIT)
        seen.append(body)
        assert b"content-encoding" not in dict(exchange.request.headers)
        assert b"content-encoding" not in exchange.request.fields
        exchange.send(200, [], b"")

    async def scene() -> None:
        line = Line(look)
        line.send(compressed(gzip.compress(b"a" * 900, mtime=0), "gzip"))
        assert [a.status for a in await line.settle()] == [200]
        await line.close()

    play(scene)
    assert seen == [b"a" * 900]


@pytest.mark.parametrize(
    ("body", "coding", "status"),
    [
        (gzip.compress(b"a" * 900, mtime=0)[:-1], "gzip", 400),
        (gzip.compress(b"a" * (LIMIT + 1), mtime=0), "gzip", 413),
        (b"whatever", "br", 415),
    ],
)
def test_a_compressed_body_that_cannot_be_read(body: bytes, coding: str, status: int) -> None:
    async def handler(exchange: Exchange) -> None:
        with exchange:
            await echo(exchange)

    async def scene() -> None:
        line = Line(handler)
        line.send(compressed(body, coding))
        assert [a.status for a in await line.settle()] == [status]
        await line.close()

    play(scene)
