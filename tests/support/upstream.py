"""A scripted worker, byte by byte, and a client that sees what is sent to it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, cast

import httptools
from modelpool_client.http1.connection import Connection, Handler
from modelpool_client.http1.server import HttpServer
from modelpool_client.http1.timeouts import Timeouts

DEFAULT = Timeouts()
SOCKET = cast(socket.socket, None)  # nobody listens
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Seen:
    """A request as it came."""

    target: str
    headers: dict[str, str]
    body: bytes


class Upstream:
    """Answers each request with the next script; the last one goes on."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.seen: list[Seen] = []
        self.left = asyncio.Event()
        self.port = 0

    async def __aenter__(self) -> Upstream:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = (line.split(": ", 1) for line in head[1:] if line)
        headers = {name.lower(): value for name, value in fields}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.seen.append(Seen(head[0].split(" ")[1], headers, body))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        try:
            await answer(reader, writer)
        finally:
            writer.close()
            self.left.set()


def says(*parts: bytes) -> Answer:
    """Writes the parts, then hangs up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return answer


def then_waits(*parts: bytes) -> Answer:
    """Writes the parts, then works on until the other side hangs up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await says(*parts)(reader, writer)
        assert await reader.read() == b""

    return answer


def response(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    """A whole response with its length."""
    fields = {"content-type": "application/json", "content-length": str(len(body))}
    fields |= {k.replace("_", "-"): v for k, v in headers.items()}
    head = "".join(f"{k}: {v}\r\n" for k, v in fields.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def stream_head(kind: str = "text/event-stream") -> bytes:
    """The head of a chunked response."""
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n".encode()


def chunk(data: bytes) -> bytes:
    """One chunk; an empty one is the end."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Pipe(asyncio.Transport):
    """A server's way to its client, where the client is the test."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        super().__init__()
        self._take = take
        self.is_over = False
        self.is_paused = False

    def write(self, data: Any) -> None:
        if not self.is_over:
            self._take(bytes(data))

    def close(self) -> None:
        self.is_over = True

    abort = write_eof = close

    def is_closing(self) -> bool:
        return self.is_over

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def get_write_buffer_size(self) -> int:
        return 0


@dataclass
class Client:
    """The other end of a server's connection; ``sent`` is what came, told as ASGI tells it."""

    body: bytes = b""
    path: str = "/v1/chat/completions"
    method: str = "POST"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    parts: list[bytes] | None = None
    sent: list[MutableMapping[str, Any]] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    on_send: Callable[[MutableMapping[str, Any]], None] = lambda message: None

    async def ask(self, handler: Handler, timeouts: Timeouts = DEFAULT) -> Client:
        """Send the request and take in everything that comes."""
        answer = _Answer(self)
        answer.parser = parser = httptools.HttpResponseParser(answer)
        server = HttpServer(
            handler, SOCKET, source="pool", timeouts=timeouts, keep_alive_seconds=75
        )
        connection = Connection(server)
        connection.connection_made(Pipe(parser.feed_data))
        parts = self.parts if self.parts is not None else [self.body]
        connection.data_received(self._head(sum(map(len, parts)) if parts else 1))
        assert connection.exchange is not None
        answering = connection.exchange.task
        assert answering is not None
        leaving = asyncio.ensure_future(self._leave(connection))
        try:
            for part in parts:
                if part:
                    connection.data_received(part)
                    await asyncio.sleep(0)
            await answering
        except asyncio.CancelledError:
            if not self.gone.is_set():
                raise
        finally:
            leaving.cancel()
            await server.close(0)
        return self

    def _head(self, length: int) -> bytes:
        lines = [f"{self.method} {self.path} HTTP/1.1".encode()]
        lines += [b"%b: %b" % pair for pair in self.headers]
        if self.method in ("POST", "PUT", "PATCH"):
            lines.append(b"content-length: %d" % length)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    async def _leave(self, connection: Connection) -> None:
        await self.gone.wait()
        connection.connection_lost(None)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def answer_headers(self) -> Mapping[str, str]:
        # Their names have no case.
        return {k.decode().lower(): v.decode() for k, v in self.sent[0]["headers"]}

    @property
    def chunks(self) -> list[bytes]:
        return [m["body"] for m in self.sent[1:]]

    @property
    def text(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = json.loads(self.text)["error"]
        return error

    @property
    def is_complete(self) -> bool:
        return bool(self.sent) and not self.sent[-1].get("more_body", True)


class _Answer:
    """What the parser of a client's answer hears."""

    parser: httptools.HttpResponseParser

    def __init__(self, client: Client) -> None:
        self._client = client
        self._headers: list[tuple[bytes, bytes]] = []
        self._has_length = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))
        self._has_length = self._has_length or name == b"content-length"

    def on_headers_complete(self) -> None:
        self._tell(
            {
                "type": "http.response.start",
                "status": self.parser.get_status_code(),
                "headers": self._headers,
            }
        )

    def on_body(self, body: bytes) -> None:
        self._tell({"type": "http.response.body", "body": body, "more_body": True})

    def on_message_complete(self) -> None:
        last = self._client.sent[-1]
        if self._has_length and "body" in last:
            last["more_body"] = False
        else:
            self._tell({"type": "http.response.body", "body": b"", "more_body": False})

    def _tell(self, message: MutableMapping[str, Any]) -> None:
        self._client.sent.append(message)
        self._client.on_send(message)
