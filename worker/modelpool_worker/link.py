"""How a front asks what computes: an engine child on its unix socket, or a server elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from modelpool_client.http1.endpoint import Endpoint
from modelpool_client.http1.message import Headers
from modelpool_client.http1.upstream import Upstream
from modelpool_client.http1.upstream_connection import NotReached, Sink, UpstreamConnection

from .status import Status

# An engine that said that it is ready may need a moment more until it accepts.
CONNECT_PAUSE_SECONDS = 0.05
# How long it may take to accept its first connection.
ACCEPT_SECONDS = 2.0


class Reply(Protocol):
    """An answer as it comes, used as a context: to leave it before its end ends the work for it.

    Raises ``upstream_connection.UpstreamError`` wherever it breaks off.

    Attributes:
        status: as HTTP has it.
        headers: names in lower case.
    """

    status: int
    headers: Headers

    @property
    def length(self) -> int | None:
        """Bytes of the body, if they are known."""
        ...

    async def piece(self) -> bytes:
        """What has come since the last call, after waiting for some; empty at the end."""
        ...

    async def read(self) -> bytes:
        """All that is left."""
        ...

    async def pipe(self, sink: Sink) -> None:
        """Hand all that is left to ``sink``, as it comes and no faster than it is taken. What
        ``sink`` raises is raised here, too."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
        /,
    ) -> None: ...


class Link(Protocol):
    """Carries requests to what computes, which answers in OpenAI's words at OpenAI's paths, or in
    those of llama.cpp's server at its own."""

    async def request(
        self, method: str, target: bytes, headers: Headers, body: bytes = b""
    ) -> Reply:
        """Send one and wait for the head of its answer.

        Raises:
            UpstreamError: there is none.
            ModelPoolError: it is known what it means that there is none, or none that is one.
        """
        ...

    async def accepts(self) -> bool:
        """Whether it takes requests, within ``ACCEPT_SECONDS``; asked once it says so."""
        ...

    def close(self) -> None:
        """Close every idle connection."""
        ...


@runtime_checkable
class KeepsConnections(Protocol):
    """A link whose requests may be sent by somebody else."""

    def take(self) -> UpstreamConnection | None:
        """An idle connection, if there is one, for who sends a request over it at once."""
        ...

    async def request(
        self,
        method: str,
        target: bytes,
        headers: Headers,
        body: bytes = b"",
        begun: UpstreamConnection | None = None,
    ) -> UpstreamConnection:
        """See ``Link``. ``begun``: over which the request was sent already."""
        ...


class RemoteLink(Link, Protocol):
    """A link to a server elsewhere, in whose words it speaks."""

    async def open(self, status: Status) -> None:
        """Find out whether the server can be used, and report ``status.ready``.

        Raises:
            LoadFailed: it cannot, with a code of ``errors.LOAD_CODES``.
        """
        ...

    async def probe(self) -> None:
        """Find out whether the server answers, without having it compute anything.

        Raises:
            ModelPoolError, UpstreamError: it does not.
        """
        ...


@dataclass(frozen=True)
class Held:
    """Bytes of memory that others' processes hold for a worker: of this machine's, and of devices
    by their ids."""

    host: int = 0
    devices: Mapping[str, int] = field(default_factory=dict)


@runtime_checkable
class HoldsMemory(Protocol):
    """A link to a server that loads models, and unloads them when it is told to."""

    async def held(self) -> Held:
        """What the server holds now for the worker's model; asked with every beat."""
        ...

    async def unload(self) -> None:
        """Have the server unload the model, and wait until it says so; never raises. Of a link
        that was never opened: whatever a worker of the same job has left there."""
        ...


class WholeReply:
    """A ``Reply`` of which all is here."""

    def __init__(self, status: int, body: bytes, kind: bytes = b"application/json") -> None:
        self.status = status
        self.headers: Headers = [(b"content-type", kind)]
        self.length: int | None = len(body)
        self._body = body

    async def piece(self) -> bytes:
        """See ``Reply``."""
        body, self._body = self._body, b""
        return body

    async def read(self) -> bytes:
        """See ``Reply``."""
        return await self.piece()

    async def pipe(self, sink: Sink) -> None:
        """See ``Reply``."""
        if body := await self.piece():
            sink.write(body)

    def __enter__(self) -> WholeReply:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Nothing is open."""


class ChildLink:
    """To an engine child on its unix socket, or where the child says.

    Attributes:
        endpoint: where it listens.
    """

    def __init__(self, socket_path: str) -> None:
        self.endpoint: Endpoint = socket_path
        # Small servers end an answer so; whether a stream is whole, its last event says.
        self._upstream = Upstream(until_close=True)

    def take(self) -> UpstreamConnection | None:
        return self._upstream.take(self.endpoint)

    async def request(
        self,
        method: str,
        target: bytes,
        headers: Headers,
        body: bytes = b"",
        begun: UpstreamConnection | None = None,
    ) -> UpstreamConnection:
        try:
            return await self._upstream.request(
                self.endpoint, method, target, headers, body, begun=begun
            )
        except NotReached:
            await asyncio.sleep(CONNECT_PAUSE_SECONDS)
            return await self._upstream.request(self.endpoint, method, target, headers, body)

    async def accepts(self) -> bool:
        loop = asyncio.get_running_loop()
        end = loop.time() + ACCEPT_SECONDS
        while loop.time() < end:
            try:  # its first request takes this connection
                await self._upstream.prepare(self.endpoint)
            except NotReached:
                await asyncio.sleep(0.02)
            else:
                return True
        return False

    def close(self) -> None:
        self._upstream.close()
