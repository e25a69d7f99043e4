"""A scripted worker, byte by byte, and an ASGI client that sees what is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

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


@dataclass
class Client:
    """The other end of an ASGI application."""

    body: bytes = b""
    path: str = "/v1/chat/completions"
    method: str = "POST"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    parts: list[bytes] | None = None
    sent: list[MutableMapping[str, Any]] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    on_send: Callable[[MutableMapping[str, Any]], None] = lambda message: None

    async def ask(self, app: Any) -> Client:
        """Send the request and take in everything that comes."""
        parts = self.parts if self.parts is not None else [self.body]
        waiting = [
            {"type": "http.request", "body": part, "more_body": i + 1 < len(parts)}
            for i, part in enumerate(parts)
        ]

        async def receive() -> MutableMapping[str, Any]:
            if waiting and not self.gone.is_set():
                return waiting.pop(0)
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            self.sent.append(message)
            self.on_send(message)

        raw, _, query = self.path.partition("?")
        scope = {
            "type": "http",
            "method": self.method,
            "path": raw,
            "raw_path": raw.encode(),
            "query_string": query.encode(),
            "headers": self.headers,
        }
        await app(scope, receive, send)
        return self

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def answer_headers(self) -> Mapping[str, str]:
        return {k.decode(): v.decode() for k, v in self.sent[0]["headers"]}

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
        return bool(self.sent) and not self.sent[-1].get("more_body", False)
