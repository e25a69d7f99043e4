"""Requests that are odd in every way, answers that are, and who sends and reads them by the byte,
for what has to be answered alike by whichever way it goes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from support.upstream import chunk, response, stream_head

CHAT = "/v1/chat/completions"
SECONDS = 60.0
BODILESS = (100, 204, 304)
WHOLE = response(b'{"choices": []}')
ERROR = b'data: {"error": {"message": "no", "type": "server_error", "code": "engine_failed"}}\n\n'
DRAINING = response(b'{"error":{"message":"x"}}', "503 No", x_modelpool_code="worker_draining")
EVENTS = [b"data: {}\n\n", b": comment\n\n", b'data: {"usage"', b": 1}\n\n", b"data: [DONE]\n\n"]


def stream(*events: bytes, head: bytes | None = None, end: bytes = chunk(b"")) -> bytes:
    return (head or stream_head()) + b"".join(map(chunk, events)) + end


@dataclass(frozen=True)
class Script:
    """What a worker does with one request: writes ``data`` in pieces cut at ``cuts``, and hangs up
    where it ``leaves``, or ``waits`` until the other side does."""

    data: bytes
    cuts: tuple[int, ...] = ()
    leaves: bool = False
    waits: bool = False


class ScriptedServer:
    """Does with one request after the other as the scripts say; the last one goes on.

    Attributes:
        asked: every request as it came, but for the order of its fields, its port, and ids of
            requests that we have made: whoever has to say one first makes it.
        was_left: the other side has hung up on one that waits.
    """

    def __init__(self, scripts: Sequence[Script]) -> None:
        self._scripts = list(scripts)
        self.asked: list[bytes] = []
        self.was_left = asyncio.Event()
        self.port = 0

    async def __aenter__(self) -> ScriptedServer:
        self._server = await asyncio.start_server(self._work, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _work(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().rpartition(b"content-length: ")[2].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                head = OUR_LINE.sub(b"", head.replace(b"%d" % self.port, b"PORT"))
                line, *fields = head.split(b"\r\n")
                self.asked.append(b"\r\n".join([line, *sorted(fields), body]))
                script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
                for piece in pieces(script.data, script.cuts):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.001)
                if script.waits:
                    assert await reader.read() == b""
                    self.was_left.set()
                if script.leaves or script.waits:
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()


OUR_ID = re.compile(rb"[0-9a-f]{16}-[0-9a-f]+")
OUR_LINE = re.compile(rb"x-request-id: %b\r\n" % OUR_ID.pattern)


class Reader(asyncio.StreamReader):
    """Who sends more to a connection that ends after its answer may be reset: what came before
    counts all the same."""

    def set_exception(self, exc: Exception) -> None:
        self.feed_eof()


async def connected(port: int) -> tuple[Reader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = Reader(limit=1 << 16, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, "127.0.0.1", port)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def ask(port: int, parts: Sequence[bytes]) -> tuple[list[Any], bool]:
    """The answers that came, and whether the connection ended."""
    reader, writer = await connected(port)
    try:
        for part in parts:
            writer.write(part)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            if len(parts) > 1:
                await asyncio.sleep(0.001)
        answers = []
        count = b"".join(parts).count(b" HTTP/1.")
        async with asyncio.timeout(SECONDS):
            while len(answers) < count and (answer := await read_answer(reader)) is not None:
                answers.append(answer)
                if answer[0] == 100:
                    count += 1
            is_over = not answers or answers[-1][1].get(b"connection") == b"close"
            rest = await reader.read() if is_over else b""
        assert rest == b""
        return answers, is_over
    finally:
        writer.close()


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    at = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [piece for a, b in pairwise(at) if (piece := data[a:b])]


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[bytes, bytes], bytes] | None:
    """Status, fields and body of the next answer, however it was cut in chunks; what of it is
    missing where the connection ends is missing here."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    lines = head.split(b"\r\n")
    fields = {k: v for k, _, v in (line.partition(b": ") for line in lines[1:] if line)}
    status = int(lines[0].split()[1])
    if OUR_ID.fullmatch(fields.get(b"x-request-id", b"")):
        del fields[b"x-request-id"]
    try:
        if b"content-length" in fields:
            return status, fields, await reader.readexactly(int(fields[b"content-length"]))
        if fields.get(b"transfer-encoding") != b"chunked":
            return status, fields, b"" if status in BODILESS else await reader.read()
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
    except (asyncio.IncompleteReadError, ConnectionError, ValueError):
        return status, {**fields, b"broken": b"yes"}, b""
    return status, fields, body


@dataclass(frozen=True)
class Asking:
    """A request in its parts."""

    line: str = f"POST {CHAT} HTTP/1.1"
    host: str = "127.0.0.1"
    fields: tuple[str, ...] = ("Content-Type: application/json",)
    length: str = "Content-Length: "
    body: bytes = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'
    cuts: tuple[int, ...] = ()
    times: int = 1

    def parts(self) -> list[bytes]:
        said = [f"{self.length}{len(self.body)}"] if self.length else []
        lines = [self.line, f"Host: {self.host}:8050", *self.fields, *said, "", ""]
        data = "\r\n".join(lines).encode("latin-1") + self.body
        return pieces(data * self.times, self.cuts)


def body(**more: Any) -> bytes:
    said = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}
    return json.dumps({k: v for k, v in said.items() if v is not ...}).encode()


PICTURE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
LINES = st.sampled_from(
    [
        *[f"POST {CHAT} HTTP/1.1"] * 6,
        f"POST {CHAT}?a=%20b HTTP/1.1",
        "POST /v1/completions HTTP/1.1",
        f"POST {CHAT} HTTP/1.0",
        "POST /chat/completions HTTP/1.1",
        "POST //v1/chat/completions/ HTTP/1.1",
        "POST /v1/embeddings HTTP/1.1",
        f"PUT {CHAT} HTTP/1.1",
        "POST /v1/messages HTTP/1.1",
        "POST /v1/nothing HTTP/1.1",
        f"POST http://elsewhere{CHAT} HTTP/1.1",
    ]
)
FIELDS = st.lists(
    st.sampled_from(
        [
            "Content-Type: application/json",
            "content-type: text/html",
            "X-Priority: high",
            "X-Priority: none",
            "X-Session-Id: s",
            "Authorization: Bearer x",
            "X-Own: kept",
            "X-Request-Id: mine",
            "x-request-ID: an odd one",
            "Connection: close",
            "Connection: keep-alive, X-Own",
            "Connection: x-own",
            "Origin: http://127.0.0.1",
            "Origin: http://evil.example",
            "Keep-Alive: timeout=5",
            "Sec-Fetch-Site: cross-site",
            "Upgrade: h2c",
            "Expect: 100-continue",
            "TE: trailers",
            "Content-Encoding: gzip",
            "Content-Length: 5",
            "Transfer-Encoding: chunked",
            "X-Odd : space",
            "X-Odd:",
            "Accept-Encoding: gzip",
            "X-Content-Length: 5",
        ]
    ),
    max_size=3,
    unique=True,
).map(tuple)
BODIES = st.sampled_from(
    [
        body(),
        body(stream=True),
        body(user="u"),
        body(prompt_cache_key="k"),
        body(priority="low"),
        body(priority="none"),
        body(priority=1),
        body(seed=1),
        body(temperature=0),
        body(model=...),
        body(model="alias"),
        body(model="m:latest"),
        body(model="nobody"),
        body(model=1),
        body(model="e"),
        body(model="blind", messages=PICTURE),
        body(messages=PICTURE),
        body(model="writes"),
        body(model="seeded"),
        body(tools=[{"type": "function"}]),
        b"",
        b"[]",
        b"{",
        b'{"model": "m"} ',
        b'{"model": NaN}',
        b'{"model": "\\ud800"}',
        b"\xff",
        body(pad="x" * 70_000),
    ]
)
CUTS = st.lists(st.integers(0, 400), max_size=3).map(tuple)
ASKING = st.builds(
    Asking,
    line=LINES,
    host=st.sampled_from(["127.0.0.1"] * 6 + ["localhost", "evil.example"]),
    fields=st.one_of(st.just(("Content-Type: application/json",)), FIELDS),
    length=st.sampled_from(["Content-Length: "] * 5 + ["content-length: ", "CONTENT-LENGTH:  "]),
    body=BODIES,
    cuts=st.one_of(st.just(()), CUTS),
    times=st.sampled_from([1, 1, 1, 2]),
)
ANSWERS = st.sampled_from(
    [
        WHOLE,
        WHOLE.replace(b"content-length", b"Content-Length"),
        stream(*EVENTS),
        DRAINING,
        response(b"{}", "404 Not Found"),
        response(b"{}", "429 Too Many", retry_after="1"),
        response(b"{}", connection="close"),
        response(b"{}", connection="keep-alive"),
        response(b"{}", x_modelpool_ignored="n", set_cookie="a", access_control_allow_origin="*"),
        response(b"{}", "500 No", x_modelpool_code="oom"),
        response(b"", "204 No Content"),
        b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE,
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        stream(b'{"a": 1}', head=stream_head("application/json")),
        b"nonsense\r\n\r\n",
        b"",
        stream(*EVENTS[:2], ERROR),
        stream(EVENTS[0], ERROR, EVENTS[-1]),
        stream(b'data: {"error": "is not one"', b"}\n\n", EVENTS[-1]),
        stream(*EVENTS, end=b"0\r\nx-trailer: 1\r\n\r\n"),
        stream(*EVENTS, end=b""),
        stream(b"data: 1\n\n", b"da", end=b""),
        WHOLE[:-3],
        WHOLE[:30],
        WHOLE + WHOLE,
        response(b"x" * 300_000),
        stream(*[b"data: %s\n\n" % (b"y" * 9000)] * 30),
        response(b"{}").replace(b"200 OK", b"200 OK\r\ncontent-length: 2"),
        stream_head(),
        WHOLE.replace(b"\r\n\r\n", b"\r\ntransfer-encoding: identity\r\n\r\n"),
    ]
)
# An answer without an end ends with its connection.
SCRIPTS = st.builds(
    Script,
    data=ANSWERS,
    cuts=st.one_of(st.just(()), st.lists(st.integers(0, 1000), max_size=3).map(tuple)),
    leaves=st.booleans(),
).map(lambda s: s if s.data.endswith((b"0\r\n\r\n", b"}", b"]")) else Script(s.data, s.cuts, True))
