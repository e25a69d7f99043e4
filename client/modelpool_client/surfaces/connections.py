"""Connections on which nothing comes, or nothing is taken, are closed: in manager and worker.

uvicorn waits for ever for the rest of a request's head, and for a client that does not read. Both
are found here by looking at every connection once in a period: what has not moved since the last
look has stood still for at least that long, and at most for twice as long.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

from modelpool_client.errors import RequestTimeout, Source

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

# As nginx has it, for each of its three timeouts.
DEFAULT_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Timeouts:
    """Seconds; nginx's names.

    Attributes:
        client_header: for the head of a request, from the connection's begin or the last answer's
            first byte after it on.
        client_body: between two parts of a body.
        send: in which a client must take something of what is sent to it.
    """

    client_header: float = DEFAULT_TIMEOUT_SECONDS
    client_body: float = DEFAULT_TIMEOUT_SECONDS
    send: float = DEFAULT_TIMEOUT_SECONDS


async def next_part(receive: Receive, seconds: float) -> MutableMapping[str, Any]:
    """The next of ASGI's messages about a request.

    Raises:
        RequestTimeout: it did not come in time.
    """
    try:
        async with asyncio.timeout(seconds):
            return await receive()
    except TimeoutError:
        text = f"no more of the request's body came within {seconds:g} s; send it without a pause"
        raise RequestTimeout(text) from None


async def close_stalled(connections: Iterable[Any], timeouts: Timeouts, source: Source) -> None:
    """For ever. ``connections``: uvicorn's own set of its protocols; ``source``: whose they are."""
    await asyncio.gather(
        _close_unasked(connections, timeouts.client_header, source),
        _close_unread(connections, timeouts.send),
    )


async def _close_unasked(connections: Iterable[Any], seconds: float, source: Source) -> None:
    """Those that have not told in time what they want."""
    before: dict[Any, Any] = {}
    while True:
        await asyncio.sleep(seconds)
        now = {c: c.cycle for c in tuple(connections) if _awaits_head(c)}
        for connection, cycle in now.items():
            if connection in before and before[connection] is cycle:
                _refuse(connection.transport, seconds, source)
        before = now


def _awaits_head(connection: Any) -> bool:
    """A new connection, or one on which another request has begun."""
    is_over = connection.cycle is None or connection.cycle.response_complete
    is_kept_alive = connection.timeout_keep_alive_task is not None
    return is_over and not is_kept_alive and not connection.transport.is_closing()


def _refuse(transport: asyncio.Transport, seconds: float, source: Source) -> None:
    text = f"the head of the request did not come within {seconds:g} s; send it at once"
    error = RequestTimeout(text, source=source)
    body = json.dumps(error.body()).encode()
    headers = {
        "connection": "close",
        "content-type": "application/json",
        "content-length": str(len(body)),
        **error.headers(),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    transport.write(f"HTTP/1.1 408 Request Timeout\r\n{lines}\r\n".encode() + body)
    transport.close()


async def _close_unread(connections: Iterable[Any], seconds: float) -> None:
    """Those whose clients have taken nothing for so long."""
    before: dict[Any, int] = {}
    while True:
        await asyncio.sleep(seconds)
        now = {c: _unsent(c) for c in tuple(connections) if _is_unread(c)}
        for connection, size in now.items():
            if before.get(connection) == size:
                connection.transport.abort()
        before = now


def _is_unread(connection: Any) -> bool:
    """Nothing is added to what the client has to take, so that it can only get less."""
    is_over = connection.cycle is not None and connection.cycle.response_complete
    return bool(connection.flow.write_paused or is_over) and _unsent(connection) > 0


def _unsent(connection: Any) -> int:
    size: int = connection.transport.get_write_buffer_size()
    return size
