"""What all stand-ins share: a server in a thread that counts what it is asked, and its faults."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakSet

KEY = "sk-fake-0123456789abcdefghijklmnop"


@dataclass
class Asked:
    """One request that came in whole."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    """What is sent: a whole body, or pieces of a stream."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[bytes] | None = None

    @property
    def data(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return json.dumps(self.body).encode()


class Api(Protocol):
    """One provider's API."""

    def answer(self, asked: Asked) -> Answer: ...


Fault = Callable[["Exchange"], Awaitable[None]]


@dataclass
class Exchange:
    """A request and the connection that its answer goes over, for faults."""

    asked: Asked
    answer: Answer
    writer: asyncio.StreamWriter
    until_gone: Callable[[], Awaitable[None]]

    async def send(self, answer: Answer) -> None:
        """An answer as it should be."""
        await self.head(answer)
        if answer.pieces is None:
            self.writer.write(answer.data)
        else:
            for piece in answer.pieces:
                await self.chunk(piece)
            self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()

    async def head(self, answer: Answer) -> None:
        kind = "application/json" if answer.pieces is None else "text/event-stream"
        length = {"content-length": str(len(answer.data))}
        more = length if answer.pieces is None else {"transfer-encoding": "chunked"}
        fields = {"content-type": kind, **answer.headers, **more}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.writer.write(f"HTTP/1.1 {answer.status} Said\r\n{lines}\r\n".encode())
        await self.writer.drain()

    async def chunk(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self.writer.drain()


class FakeProvider:
    """Runs from its making to ``stop``.

    Attributes:
        asked: every request that came in whole, but for looks at the list of models.
        faults: each is used up by one such request.
        list_faults: each is used up by a look at the list of models.
        gone: answers whose reader left before their end.
    """

    def __init__(self, api: Api, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[Asked] = []
        self.looked = 0
        self.faults: deque[Fault] = deque()
        self.list_faults: deque[Fault] = deque()
        self.gone = 0
        self._api = api
        self._loop = asyncio.new_event_loop()
        self._connections: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._closing: WeakSet[asyncio.StreamWriter] = WeakSet()
        started = threading.Event()

        async def serve() -> None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
            self.port = self._server.sockets[0].getsockname()[1]
            started.set()

        def run() -> None:
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(serve())
            self._loop.run_forever()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        assert started.wait(60)
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    def stop(self) -> None:
        async def end() -> None:
            self._server.close()
            writers = [*self._connections.values(), *self._closing]
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            for writer in writers:  # TLS waits for the other side before it closes
                writer.transport.abort()
            closed = (writer.wait_closed() for writer in writers)
            await asyncio.gather(*closed, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            self.gone += 1
        finally:
            del self._connections[task]
            self._closing.add(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return False
        line, *fields = head.strip().split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, _, v in (f.partition(":") for f in fields)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        method, path, _ = line.split(" ")
        asked = Asked(method, path, headers, body)
        answer = self._api.answer(asked)

        async def until_gone() -> None:
            await reader.read(1)
            self.gone += 1

        exchange = Exchange(asked, answer, writer, until_gone)
        if method == "GET":
            self.looked += 1
            if self.list_faults:
                await self.list_faults.popleft()(exchange)
                return False
            await exchange.send(answer)
            return True
        self.asked.append(asked)
        if self.faults:
            await self.faults.popleft()(exchange)
            return False
        await exchange.send(answer)
        return True
