"""The gateway's client: on scripted bytes for what it understands, on real sockets for the rest."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from modelpool_client.http1.endpoint import LocalEndpoint
from modelpool_client.http1.exchange import BUFFER_BYTES
from modelpool_client.http1.message import Headers, host_header, request_head
from modelpool_client.http1.upstream import CONNECT_SECONDS, IDLE_SECONDS, Upstream
from modelpool_client.http1.upstream_connection import (
    HEAD_BYTES,
    SLICE_BYTES,
    BadReply,
    BrokenOff,
    NotReached,
    UpstreamConnection,
    UpstreamError,
)
from modelpool_client.surfaces.anthropic.stream import PING
from support.examples import examples
from support.upstream import chunk, response, stream_head
from support.virtual_time import run_virtual

HOST = "127.0.0.1"
OK = response(b"{}")
END = chunk(b"")
Run = Callable[[Coroutine[Any, Any, None]], None]
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """On the loop of the manager and on Python's own."""
    factory = asyncio.SelectorEventLoop
    if request.param == "uvloop":
        factory = uvloop.new_event_loop

    def run(scene: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.wait_for(scene, 60))

    return run


# -- bytes without a socket ------------------------------------------------------------------------


class Wire(asyncio.Transport):
    """Where the other end is the test."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_over = False
        self.is_paused = False
        self.on_write = lambda: None

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))
        self.on_write()

    def abort(self) -> None:
        self.is_over = True

    close = abort

    def is_closing(self) -> bool:
        return self.is_over

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


class Exchange:
    """A connection over a wire, and the request that was sent on it."""

    def __init__(self, body: bytes = b"") -> None:
        self.kept: list[UpstreamConnection] = []
        self.wire = Wire()
        self.connection = UpstreamConnection((HOST, 1), self.kept.append)
        self.connection.connection_made(self.wire)
        self.asking = asyncio.ensure_future(self.connection.ask(b"HEAD", body))

    async def come(self, *parts: bytes) -> None:
        await asyncio.sleep(0)
        for part in parts:
            if not self.wire.is_over:
                self.connection.data_received(part)

    def hang_up(self) -> None:
        self.connection.eof_received()
        self.connection.connection_lost(None)

    async def answer(self) -> tuple[int, Headers, bytes]:
        await self.asking
        with self.connection as reply:
            return reply.status, reply.headers, await reply.read()


def heard(*parts: bytes) -> tuple[int, Headers, bytes]:
    """What is made of an answer, after which the worker hangs up."""

    async def scene() -> tuple[int, Headers, bytes]:
        exchange = Exchange()
        await exchange.come(*parts)
        exchange.hang_up()
        return await exchange.answer()

    return asyncio.run(scene())


names = st.from_regex(rb"\A[Xx]-[A-Za-z0-9]{1,8}\Z")
values = st.binary(max_size=20).map(lambda b: bytes(33 + x % 94 for x in b))
fields = st.lists(st.tuples(names, values), max_size=4)
bodies = st.lists(st.binary(min_size=1, max_size=40), max_size=5)


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, tuple[int, Headers, bytes]]:
    """An answer as it comes, and what it says."""
    status, headers, parts = draw(st.integers(200, 599)), draw(fields), draw(bodies)
    bodiless = status in (204, 304)
    parts = [] if bodiless else parts
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"]))
    if bodiless or draw(st.booleans()):
        framing = (b"Content-Length", b"%d" % sum(map(len, parts)))
        body = b"".join(parts)
    else:
        framing = (b"Transfer-Encoding", b"chunked")
        trailer = draw(st.sampled_from([b"", b"x-trailer: late\r\n"]))
        body = b"".join(map(chunk, parts)) + b"0\r\n" + trailer + b"\r\n"
    headers = [*headers, framing]
    head = b"".join(b"%b: %b\r\n" % pair for pair in headers)
    wire = interim + b"HTTP/1.1 %d Any\r\n%b\r\n%b" % (status, head, body)
    return wire, (status, [(k.lower(), v) for k, v in headers], b"".join(parts))


@given(answers(), st.lists(st.integers(0, 400), max_size=12))
def test_wherever_it_is_cut_it_says_the_same(
    answer: tuple[bytes, tuple[int, Headers, bytes]], cuts: list[int]
) -> None:
    data, said = answer
    edges = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    parts = [data[a:b] for a, b in itertools.pairwise(edges) if a < b]
    assert heard(*parts) == said


@given(answers(), st.data())
def test_cut_short_it_is_never_complete(
    answer: tuple[bytes, tuple[int, Headers, bytes]], data: st.DataObject
) -> None:
    wire, _ = answer
    length = data.draw(st.integers(0, len(wire) - 1))
    with pytest.raises(BrokenOff):
        heard(wire[:length])


@given(st.binary(max_size=200))
@settings(max_examples=examples(200))
def test_garbage_is_an_error_of_ours(data: bytes) -> None:
    with contextlib.suppress(UpstreamError):
        heard(data)
        # Hypothesis also tries what stands in the source, and whole answers stand there.
        assert data.startswith(b"HTTP/1.1 ")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "Expected HTTP/"),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "as it should"),
        (stream_head()[:-2] + b"content-length: 2\r\n\r\n", "Content-Length"),
        (OK.replace(b"\r\n\r\n", b"\r\ncontent-length: 3\r\n\r\n"), "Content-Length"),
        (OK.replace(b"length: 2", b"length: 2x"), "Content-Length"),
        (stream_head() + b"zz\r\n", "chunk size"),
        (response(b"", x_large="a" * HEAD_BYTES), "larger than 65,536 bytes"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * HEAD_BYTES, "larger than 65,536 bytes"),
        (b"HTTP/1.1 103 Hints\r\nx: y\r\n\r\n" * 4000, "larger than 65,536 bytes"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value,
)
def test_what_cannot_be_passed_on(data: bytes, text: str) -> None:
    with pytest.raises(BadReply, match=text):
        heard(data)


def test_many_headers_just_fit() -> None:
    assert heard(response(b"body", x_large="a" * (HEAD_BYTES - 200)))[2] == b"body"


def test_what_came_before_the_break_is_passed_on() -> None:
    async def scene() -> None:
        exchange = Exchange()
        await exchange.come(stream_head(), chunk(b"data: 1\n\n"))
        exchange.hang_up()
        await exchange.asking
        with exchange.connection as reply:
            assert await reply.piece() == b"data: 1\n\n"
            for _ in range(2):
                with pytest.raises(BrokenOff, match="in the middle of its answer"):
                    await reply.piece()

    asyncio.run(scene())


def test_an_answer_that_ends_with_the_connection_may_be_cut_short() -> None:
    with pytest.raises(BrokenOff):
        heard(b"HTTP/1.1 200 OK\r\n\r\nall or not?")


@pytest.mark.parametrize("more", [OK, b"junk", b"\r\n\r\nHTTP/1.1 200 OK\r\n"])
@pytest.mark.parametrize("is_late", [False, True])
def test_a_second_answer_is_no_part_of_the_first(more: bytes, is_late: bool) -> None:
    async def scene() -> None:
        exchange = Exchange()
        await exchange.come(*([OK, more] if is_late else [OK + more]))
        assert (await exchange.answer())[2] == b"{}"
        assert exchange.kept == []
        assert exchange.wire.is_over

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("data", "is_kept"),
    [
        (OK, True),
        (stream_head() + chunk(b"x") + END, True),
        (response(b"{}", connection="close"), False),
        (OK.replace(b"HTTP/1.1", b"HTTP/1.0"), False),
    ],
)
def test_kept_where_the_worker_keeps_it(data: bytes, is_kept: bool) -> None:
    async def scene() -> None:
        exchange = Exchange()
        await exchange.come(data)
        await exchange.answer()
        assert exchange.kept == [exchange.connection] * is_kept
        assert exchange.wire.is_over is not is_kept

    asyncio.run(scene())


def test_unread_it_is_aborted() -> None:
    async def scene() -> None:
        exchange = Exchange()
        await exchange.come(OK)
        await exchange.asking
        with exchange.connection:
            pass
        assert exchange.wire.is_over
        assert not exchange.kept

    asyncio.run(scene())


@pytest.mark.parametrize("data", [b"HTTP/1.1 408 Request Timeout\r\n", b"\r\n"])
def test_data_on_an_idle_connection_ends_it(data: bytes) -> None:
    async def scene() -> None:
        exchange = Exchange()
        await exchange.come(OK)
        await exchange.answer()
        assert exchange.connection.is_open
        exchange.connection.data_received(data)
        assert not exchange.connection.is_open

    asyncio.run(scene())


@pytest.mark.parametrize(
    "comment",
    [
        b": it waits\n\n",
        b": it waits\r\n\r\n:\n\n",
        PING,
        PING + PING,
        b'{"message":{"role":"assistant","content":""},"done":false}\n' * 2,
    ],
)
def test_the_head_and_the_comments_of_a_silent_stream_are_no_answer_yet(comment: bytes) -> None:
    async def scene() -> None:
        exchange = Exchange()
        reply = exchange.connection
        await exchange.come(stream_head())
        await exchange.come(chunk(comment))
        assert await reply.piece() == comment
        assert reply.answered_at is None
        await exchange.come(chunk(b"data: 1\n\n"))
        first = reply.answered_at
        assert first is not None
        await exchange.come(chunk(b"data: 2\n\n"), END)
        await exchange.answer()
        assert reply.answered_at == first

    asyncio.run(scene())


def test_reading_pauses_for_a_slow_reader() -> None:
    async def scene() -> None:
        exchange = Exchange()
        await exchange.come(stream_head())
        part = chunk(b"x" * 65_536)
        count = 0
        while not exchange.wire.is_paused:
            await exchange.come(part)
            count += 1
        assert count * len(part) <= BUFFER_BYTES + len(part)
        reply = exchange.connection
        assert len(await reply.piece()) == count * 65_536
        await exchange.come(part)
        assert not exchange.wire.is_paused
        assert len(await reply.piece()) == 65_536
        await exchange.come(END)
        assert (await exchange.answer())[2] == b""

    asyncio.run(scene())


def test_a_large_request_goes_no_faster_than_it_is_taken() -> None:
    async def scene() -> None:
        body = bytes(range(256)) * (SLICE_BYTES // 64)  # four slices
        exchange = Exchange(body)
        exchange.wire.on_write = exchange.connection.pause_writing
        for slices in range(1, 5):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert len(exchange.wire.written) == 1 + slices
            exchange.connection.resume_writing()
        assert b"".join(exchange.wire.written) == b"HEAD" + body
        await exchange.come(OK)
        await exchange.answer()
        assert exchange.kept

    asyncio.run(scene())


def test_an_answer_before_the_end_of_the_request_is_an_answer() -> None:
    async def scene() -> None:
        exchange = Exchange(b"x" * (SLICE_BYTES * 8))
        exchange.wire.on_write = exchange.connection.pause_writing
        await exchange.come(response(b"too much", "413 Content Too Large"))
        assert (await exchange.answer())[::2] == (413, b"too much")
        assert len(exchange.wire.written) == 2
        assert not exchange.kept

    asyncio.run(scene())


def test_a_worker_that_will_say_nothing_more_is_told_nothing_more() -> None:
    """It need not close its other half; what is not yet written is not waited for."""

    async def scene() -> None:
        exchange = Exchange(b"x" * (SLICE_BYTES * 8))
        exchange.wire.on_write = exchange.connection.pause_writing
        await exchange.come()
        exchange.connection.eof_received()
        with pytest.raises(BrokenOff):
            await exchange.asking
        assert exchange.wire.is_over

    asyncio.run(scene())


# -- real sockets ----------------------------------------------------------------------------------


class Worker:
    """Answers each request with the next script, on as few connections as it is asked on; the last
    script goes on."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)
        self._serving: set[asyncio.Task[None]] = set()
        self.upstream = Upstream()
        self.connections = 0
        self.bodies: list[bytes] = []
        self.heads: list[bytes] = []
        self.left = asyncio.Event()

    async def __aenter__(self) -> Worker:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.upstream.close()
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self.connections += 1
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.heads.append(head)
                self.bodies.append(await reader.readexactly(length))
                script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
                await script(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.left.set()

    async def ask(self, body: bytes = b"{}", headers: Headers | None = None) -> bytes:
        """The body of the answer."""
        given = headers or []
        with await self.upstream.request((HOST, self.port), "POST", b"/v1/x", given, body) as reply:
            return await reply.read()


def writes(*parts: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return script


def then_closes(*parts: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await writes(*parts)(reader, writer)
        writer.close()

    return script


def then_resets(*parts: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await writes(*parts)(reader, writer)
        await asyncio.sleep(0.01)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return script


def then_waits(*parts: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await writes(*parts)(reader, writer)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()

    return script


def test_the_request_is_written_as_it_was_given(run: Run) -> None:
    async def scene() -> None:
        async with Worker(writes(OK)) as worker:
            await worker.ask(b'{"a":1}', [(b"x-Own", b"\xff"), (b"x-own", b"")])
            assert worker.heads == [
                b"POST /v1/x HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nx-Own: \xff\r\nx-own: \r\n"
                b"content-length: 7\r\n\r\n" % worker.port
            ]
            assert worker.bodies == [b'{"a":1}']

    run(scene())


def test_one_after_the_other_on_one_connection(run: Run) -> None:
    async def scene() -> None:
        stream = stream_head() + chunk(b"a") + chunk(b"b") + END
        async with Worker(writes(OK), writes(stream), writes(OK)) as worker:
            assert [await worker.ask() for _ in range(4)] == [b"{}", b"ab", b"{}", b"{}"]
            assert worker.connections == 1

    run(scene())


def test_the_one_used_last_is_used_next(run: Run) -> None:
    async def scene() -> None:
        async with Worker(writes(OK)) as worker:
            post = worker.upstream.request
            first = await post((HOST, worker.port), "POST", b"/", [])
            second = await post((HOST, worker.port), "POST", b"/", [])
            for reply in (second, first):
                with reply:
                    await reply.read()
            with await post((HOST, worker.port), "POST", b"/", []) as reply:
                assert reply is first
                await reply.read()
            assert worker.connections == 2

    run(scene())


@pytest.mark.parametrize(
    "script",
    [then_closes(OK), then_resets(OK), writes(response(b"{}", connection="close"))],
    ids=["closes", "resets", "said so"],
)
def test_the_worker_ends_it_while_it_is_idle(run: Run, script: Script) -> None:
    async def scene() -> None:
        async with Worker(script, writes(OK)) as worker:
            await worker.ask()
            await asyncio.sleep(0.05)
            assert await worker.ask() == b"{}"
            assert (worker.connections, len(worker.bodies)) == (2, 2)

    run(scene())


@pytest.mark.parametrize("end", [then_closes(), then_resets()], ids=["closes", "resets"])
def test_the_worker_ends_it_as_we_write(run: Run, end: Script) -> None:
    async def scene() -> None:
        async with Worker(writes(OK), end, writes(OK)) as worker:
            await worker.ask()
            assert await worker.ask(b"again") == b"{}"
            assert worker.bodies == [b"{}", b"again", b"again"]
            assert worker.connections == 2

    run(scene())


@pytest.mark.parametrize("end", [then_closes(), then_resets()], ids=["closes", "resets"])
def test_a_new_connection_is_tried_once(run: Run, end: Script) -> None:
    async def scene() -> None:
        async with Worker(end) as worker:
            with pytest.raises(BrokenOff, match="before it answered"):
                await worker.ask()
            assert len(worker.bodies) == 1

    run(scene())


def test_where_something_came_nothing_is_sent_twice(run: Run) -> None:
    async def scene() -> None:
        async with Worker(writes(OK), then_closes(OK[:5])) as worker:
            await worker.ask()
            with pytest.raises(BrokenOff, match="in the middle"):
                await worker.ask()
            assert len(worker.bodies) == 2

    run(scene())


@pytest.mark.parametrize("end", [then_closes, then_resets])
@pytest.mark.parametrize("begun", [OK[:-1], stream_head() + chunk(b"data: 1\n\n")])
def test_lost_in_the_middle(run: Run, end: Callable[[bytes], Script], begun: bytes) -> None:
    async def scene() -> None:
        async with Worker(end(begun)) as worker:
            with pytest.raises(BrokenOff, match="in the middle of its answer"):
                await worker.ask()

    run(scene())


def test_nobody_listens_there(run: Run) -> None:
    async def scene() -> None:
        with socket.create_server((HOST, 0)) as taken:
            port = taken.getsockname()[1]
        with pytest.raises(NotReached, match=r"refused|Connect call failed"):
            await Upstream().request((HOST, port), "POST", b"/", [])

    run(scene())


class Neighbour(Worker):
    """The same, behind a unix socket, which is where its port is not."""

    def __init__(self, path: str, *scripts: Script) -> None:
        super().__init__(*scripts)
        self.path = path

    async def __aenter__(self) -> Neighbour:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self


def test_a_neighbour_is_asked_over_its_socket_by_the_name_of_its_port(
    run: Run, tmp_path: Path
) -> None:
    async def scene() -> None:
        async with Neighbour(str(tmp_path / "s"), writes(OK)) as there:
            for _ in range(2):
                to = LocalEndpoint(HOST, 1, there.path)
                with await there.upstream.request(to, "POST", b"/", [], b"{}") as reply:
                    assert await reply.read() == b"{}"
            assert there.connections == 1, "it was kept"
            assert b"host: 127.0.0.1:1\r\n" in there.heads[0].lower()

    run(scene())


@pytest.mark.parametrize("found", ["nothing", "a dead one's", "a file", "no folder"])
def test_a_neighbour_without_its_socket_is_asked_at_its_port(
    run: Run, tmp_path: Path, found: str
) -> None:
    path = tmp_path / "s"
    if found == "a dead one's":
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
    elif found == "a file":
        path.write_text("not a socket")
    elif found == "no folder":
        path = tmp_path / "gone" / "s"

    async def scene() -> None:
        async with Worker(writes(OK)) as worker:
            to = LocalEndpoint(HOST, worker.port, str(path))
            with await worker.upstream.request(to, "POST", b"/", [], b"{}") as reply:
                assert await reply.read() == b"{}"

    run(scene())


def test_nobody_listens_at_a_neighbours(run: Run, tmp_path: Path) -> None:
    async def scene() -> None:
        with socket.create_server((HOST, 0)) as taken:
            port = taken.getsockname()[1]
        to = LocalEndpoint(HOST, port, str(tmp_path / "s"))
        with pytest.raises(NotReached, match=r"refused|Connect call failed"):
            await Upstream().request(to, "POST", b"/", [])

    run(scene())


def test_a_connection_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async def never(*_: object, **__: object) -> None:
            await asyncio.Event().wait()

        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "create_connection", never)
        with pytest.raises(NotReached, match="within 5 s"):
            await Upstream().request((HOST, 1), "POST", b"/", [])
        assert loop.time() == CONNECT_SECONDS

    run_virtual(scene())


@pytest.mark.parametrize(
    "begun", [b"", stream_head() + chunk(b"data: 1\n\n")], ids=["not", "begun"]
)
def test_who_is_cancelled_ends_the_workers_work(run: Run, begun: bytes) -> None:
    async def scene() -> None:
        async with Worker(then_waits(begun)) as worker:
            asking = asyncio.ensure_future(worker.ask())
            await asyncio.sleep(0.05)
            assert not worker.left.is_set()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await worker.left.wait()

    run(scene())


def test_a_slow_reader_slows_the_worker_down(run: Run) -> None:
    total, part = 256, b"x" * 262_144
    written = 0

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(stream_head())
        for _ in range(total):
            writer.write(chunk(part))
            await writer.drain()
            written += 1
        writer.write(END)

    async def scene() -> None:
        async with Worker(stream) as worker:
            with await worker.upstream.request((HOST, worker.port), "POST", b"/", []) as reply:
                before = -1
                while before != written:
                    before = written
                    await asyncio.sleep(0.1)
                assert written < total // 2, "what the sockets hold, no more"
                assert len(await reply.read()) == total * len(part)

    run(scene())


def test_a_large_request(run: Run) -> None:
    async def scene() -> None:
        async with Worker(writes(OK)) as worker:
            body = bytes(range(256)) * 65_536
            for _ in range(2):
                assert await worker.ask(body) == b"{}"
            assert worker.bodies == [body, body]
            assert worker.connections == 1

    run(scene())


def test_a_hundred_at_a_time(run: Run) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = worker.bodies[-1]
        writer.write(stream_head())
        for byte in body:
            await asyncio.sleep(0)
            writer.write(chunk(bytes([byte])))
        writer.write(END)

    worker = Worker(echo)

    async def scene() -> None:
        async with worker:
            for _ in range(3):
                bodies = [b"%d" % i for i in range(100)]
                assert await asyncio.gather(*map(worker.ask, bodies)) == bodies
            assert worker.connections == 100

    run(scene())


# -- idle connections ------------------------------------------------------------------------------


class Ahead(asyncio.SelectorEventLoop):
    """A loop whose clock can be put forward."""

    by = 0.0

    def time(self) -> float:
        return super().time() + self.by


def run_ahead(scene: Callable[[Ahead], Coroutine[Any, Any, None]]) -> None:
    loop = Ahead()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(scene(loop))


def test_idle_for_too_long_it_is_closed() -> None:
    async def scene(loop: Ahead) -> None:
        async with Worker(writes(OK)) as worker:
            await worker.ask()
            loop.by += IDLE_SECONDS / 2
            await asyncio.sleep(0.01)
            assert not worker.left.is_set()
            loop.by += IDLE_SECONDS / 2
            await worker.left.wait()
            await worker.ask()
            assert worker.connections == 2

    run_ahead(scene)


def test_too_old_it_is_not_used_before_the_timer_either() -> None:
    async def scene(loop: Ahead) -> None:
        async with Worker(writes(OK)) as worker:
            await worker.ask()
            loop.by += IDLE_SECONDS + 1
            await worker.ask()
            assert worker.connections == 2

    run_ahead(scene)


def test_what_is_used_stays_what_is_not_goes() -> None:
    async def scene(loop: Ahead) -> None:
        async with Worker(writes(OK)) as worker:
            await asyncio.gather(worker.ask(), worker.ask())
            for _ in range(4):
                loop.by += IDLE_SECONDS / 2
                await asyncio.sleep(0.01)
                await worker.ask()
            assert worker.connections == 2
            assert worker.left.is_set()

    run_ahead(scene)


def test_each_goes_when_its_time_has_come() -> None:
    async def scene(loop: Ahead) -> None:
        async with Worker(writes(OK)) as one, Worker(writes(OK)) as other:
            other.upstream = one.upstream
            await one.ask()
            loop.by += IDLE_SECONDS / 2
            await other.ask()
            loop.by += IDLE_SECONDS / 2
            await one.left.wait()
            assert not other.left.is_set()
            loop.by += IDLE_SECONDS / 2
            await other.left.wait()

    run_ahead(scene)


def test_a_worker_that_has_left_is_dropped(run: Run) -> None:
    async def scene() -> None:
        async with Worker(writes(OK)) as one, Worker(writes(OK)) as other:
            other.upstream = one.upstream
            await one.ask()
            await other.ask()
            one.upstream.drop((HOST, one.port))
            await one.left.wait()
            await other.ask()
            assert (one.connections, other.connections) == (1, 1)
            await one.ask()
            assert one.connections == 2

    run(scene())


@pytest.mark.parametrize("once", [False, True])
def test_what_may_be_billed_is_sent_once(run: Run, once: bool) -> None:
    """The worker reads a request that comes over a kept connection, and ends that."""

    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async def scene() -> None:
        async with Worker(writes(OK), leave, writes(OK)) as worker:
            await worker.ask(b"1")
            endpoint, ask = (HOST, worker.port), worker.upstream.request
            if once:
                with pytest.raises(BrokenOff):
                    await ask(endpoint, "POST", b"/", [], b"2", once=True)
            else:
                with await ask(endpoint, "POST", b"/", [], b"2") as reply:
                    assert await reply.read() == b"{}"
            assert worker.bodies == ([b"1", b"2"] if once else [b"1", b"2", b"2"])

    run(scene())


@pytest.mark.parametrize("is_written", [True, False])
def test_who_is_gone_after_a_request_was_sent_has_broken_it_off(run: Run, is_written: bool) -> None:
    """It may be the request that has ended it: it was sent once, and that counts."""

    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        worker._server.close()
        writer.transport.abort()

    async def scene() -> None:
        nonlocal worker
        async with Worker(writes(OK), leave) as worker:
            await worker.ask(b"1")
            if not is_written:
                (kept,) = worker.upstream._idle[HOST, worker.port]
                worker.upstream.take = lambda endpoint: kept  # type: ignore[method-assign]
                kept.close()
                worker._server.close()
            with pytest.raises(BrokenOff if is_written else NotReached):
                await worker.upstream.request((HOST, worker.port), "POST", b"/", [], b"2")
            assert worker.bodies == ([b"1", b"2"] if is_written else [b"1"])

    worker: Worker
    run(scene())


def test_what_was_not_sent_may_be_sent_once_more(run: Run) -> None:
    """The connection was lost while it waited to be used."""

    async def scene() -> None:
        async with Worker(writes(OK)) as worker:
            await worker.ask(b"1")
            (kept,) = worker.upstream._idle[HOST, worker.port]
            worker.upstream.take = lambda endpoint: kept  # type: ignore[method-assign]
            kept.close()
            with await worker.upstream.request(
                (HOST, worker.port), "POST", b"/", [], b"2", once=True
            ) as reply:
                assert await reply.read() == b"{}"
            assert worker.bodies == [b"1", b"2"]

    run(scene())


def test_closed_it_keeps_nothing(run: Run) -> None:
    async def scene() -> None:
        async with Worker(writes(OK)) as worker:
            reply = await worker.upstream.request((HOST, worker.port), "POST", b"/", [])
            worker.upstream.close()
            with reply:
                assert await reply.read() == b"{}"
            await worker.left.wait()

    run(scene())


class Refusing:
    """A sink that takes one piece and no more."""

    source = None
    is_full = False

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    def write(self, data: bytes) -> None:
        if self.taken:
            raise ValueError("an error of the engine's")
        self.taken.append(data)


@pytest.mark.parametrize("last", [[chunk(b"2") + END], [chunk(b"2"), END]])
def test_what_a_sink_raises_is_heard_of(last: list[bytes]) -> None:
    """Over the last piece, too, with which the answer is complete."""

    async def scene() -> None:
        exchange = Exchange()
        await exchange.come(stream_head(), chunk(b"1"))
        await exchange.asking
        sink = Refusing()
        with exchange.connection as reply:
            piping = asyncio.ensure_future(reply.pipe(sink))
            await exchange.come(*last)
            with pytest.raises(ValueError, match="of the engine's"):
                await piping
        assert sink.taken == [b"1"]
        assert not exchange.kept

    asyncio.run(scene())


def test_an_ipv6_host_is_in_brackets() -> None:
    head = request_head("POST", b"/v1/x", host_header("::1", 8051), [], 0)
    assert head == b"POST /v1/x HTTP/1.1\r\nhost: [::1]:8051\r\ncontent-length: 0\r\n\r\n"


# -- an other side that is slow to accept ----------------------------------------------------------


class SlowToAccept(Worker):
    """After the first connection no other is made until ``opens`` is set."""

    def __init__(self, *scripts: Script) -> None:
        super().__init__(*scripts)
        self.opens = asyncio.Event()
        self.opens.set()
        connect = self.upstream._connect

        async def slowly(endpoint: Any) -> UpstreamConnection:
            await self.opens.wait()
            return await connect(endpoint)

        self.upstream._connect = slowly  # type: ignore[method-assign]


def test_who_waits_for_a_connection_takes_one_that_is_free_first(run: Run) -> None:
    async def scene() -> None:
        async with SlowToAccept(writes(OK)) as worker:
            endpoint = (HOST, worker.port)
            first = await worker.upstream.request(endpoint, "POST", b"/", [])
            worker.opens.clear()
            second, third = (asyncio.ensure_future(worker.ask()) for _ in range(2))
            await asyncio.sleep(0)
            with first:
                await first.read()
            assert await second == await third == b"{}"
            assert worker.connections == 1
            worker.opens.set()
            await asyncio.sleep(0.05)
            assert len(worker.upstream._idle[endpoint]) == 3, "what comes late is kept"
            assert not worker.upstream._waiting

    run(scene())


@pytest.mark.parametrize("is_free", [True, False], ids=["one that is free", "a new one"])
def test_a_connection_is_there_for_whom_it_was_opened(run: Run, is_free: bool) -> None:
    async def scene() -> None:
        async with SlowToAccept(writes(OK)) as worker:
            endpoint, upstream = (HOST, worker.port), worker.upstream
            first = await upstream.request(endpoint, "POST", b"/", [])
            worker.opens.clear()
            taken: list[UpstreamConnection | None] = []

            def take(is_there: bool) -> None:
                assert is_there
                taken.append(upstream.take(endpoint))

            for _ in range(2):
                upstream.open(endpoint, take)
            await asyncio.sleep(0)
            if is_free:
                with first:
                    await first.read()
                await asyncio.sleep(0.01)
                assert taken == [first]
            worker.opens.set()
            await asyncio.sleep(0.05)
            assert len(set(taken)) == 2
            assert None not in taken
            assert [c.was_kept for c in taken if c is not None] == [is_free] * 2
            assert not upstream._waiting

    run(scene())


def test_one_that_is_not_taken_by_whom_it_was_opened_for_is_whose_turn_is_next(run: Run) -> None:
    """Whose client has left, or whose request goes another way meanwhile."""

    async def scene() -> None:
        async with SlowToAccept(writes(OK)) as worker:
            endpoint, upstream = (HOST, worker.port), worker.upstream
            first = await upstream.request(endpoint, "POST", b"/", [])
            worker.opens.clear()
            upstream.open(endpoint, lambda is_there: None)
            second = asyncio.ensure_future(worker.ask())
            await asyncio.sleep(0)
            with first:
                await first.read()
            assert await asyncio.wait_for(second, 60) == b"{}"
            assert worker.connections == 1
            worker.opens.set()

    run(scene())


def test_one_that_nobody_took_may_have_been_closed_when_it_is_used(run: Run) -> None:
    async def scene() -> None:
        async with SlowToAccept(writes(OK)) as worker:
            endpoint, upstream = (HOST, worker.port), worker.upstream
            upstream.open(endpoint, lambda is_there: None)
            async with asyncio.timeout(60):
                while not upstream._idle.get(endpoint):  # noqa: ASYNC110
                    await asyncio.sleep(0)
                await asyncio.sleep(0)
            taken = upstream.take(endpoint)
            assert taken is not None
            assert taken.was_kept
            taken.close()

    run(scene())


def test_one_that_is_lost_before_it_is_used_is_none(run: Run) -> None:
    """Else who accepts and closes at once would be connected to again and again."""

    async def scene() -> None:
        async with SlowToAccept(writes(OK)) as worker:
            endpoint, upstream = (HOST, worker.port), worker.upstream
            connect, told = upstream._connect, asyncio.get_running_loop().create_future()

            async def lost(endpoint: Any) -> UpstreamConnection:
                connection = await connect(endpoint)
                connection.close()
                return connection

            upstream._connect = lost  # type: ignore[method-assign]
            upstream.open(endpoint, told.set_result)
            assert await asyncio.wait_for(told, 60) is False
            assert not upstream._idle

    run(scene())


@pytest.mark.parametrize("is_closed", [True, False])
def test_whoever_opens_one_hears_that_there_is_none(run: Run, is_closed: bool) -> None:
    async def scene() -> None:
        with socket.create_server((HOST, 0)) as taken:
            port = taken.getsockname()[1]
        upstream, told = Upstream(), asyncio.get_running_loop().create_future()
        upstream.open((HOST, port), told.set_result)
        await asyncio.sleep(0)
        if is_closed:
            upstream.close()
        assert await asyncio.wait_for(told, 60) is False
        assert not upstream._waiting

    run(scene())


def test_on_one_that_was_lost_meanwhile_nothing_is_asked() -> None:
    """It may be lost between its choice and the next step of who has waited for it."""

    async def scene() -> None:
        wire = Wire()
        connection = UpstreamConnection((HOST, 1), lambda _: None)
        connection.connection_made(wire)
        wire.abort()
        connection.connection_lost(None)
        with pytest.raises(BrokenOff):
            await asyncio.wait_for(connection.ask(b"HEAD", b""), 1)
        assert not wire.written
        assert not connection.has_heard, "so it may be asked of another"

    run_virtual(scene())


@pytest.mark.parametrize("is_free", [True, False])
def test_who_leaves_while_he_waits_loses_no_connection(run: Run, is_free: bool) -> None:
    async def scene() -> None:
        async with SlowToAccept(writes(OK)) as worker:
            endpoint = (HOST, worker.port)
            first = await worker.upstream.request(endpoint, "POST", b"/", [])
            worker.opens.clear()
            second = asyncio.ensure_future(worker.ask())
            await asyncio.sleep(0)
            if is_free:
                with first:
                    await first.read()
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)
            assert not worker.upstream._waiting
            if not is_free:
                with first:
                    await first.read()
            assert [c.is_open for c in worker.upstream._idle[endpoint]] == [True]

    run(scene())


@pytest.mark.parametrize("why", [UnicodeError("label too long"), OSError("no route")])
def test_whatever_keeps_it_from_connecting_is_told(run: Run, why: Exception) -> None:
    async def scene() -> None:
        upstream = Upstream()

        async def fails(endpoint: Any) -> UpstreamConnection:
            await asyncio.sleep(0)
            raise why

        upstream._connect = fails  # type: ignore[method-assign]
        with pytest.raises(type(why)):
            await upstream.request((HOST, 1), "GET", b"/", [])

    run(scene())


def test_who_waits_for_a_connection_when_it_closes_does_not_wait_for_ever(run: Run) -> None:
    async def scene() -> None:
        async with SlowToAccept(writes(OK)) as worker:
            worker.opens.clear()
            asking = asyncio.ensure_future(worker.ask())
            await asyncio.sleep(0.01)
            worker.upstream.close()
            with pytest.raises(NotReached, match="closed"):
                await asyncio.wait_for(asking, 60)

    run(scene())
