"""The few ASGI moves that the data path needs. No framework between a client and its tokens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from modelpool_client.errors import ModelPoolError, PayloadTooLarge, RequestTimeout
from modelpool_client.surfaces.connections import next_part

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


WATCH_AFTER_SECONDS = 0.05


class ClientGone(Exception):
    """Nobody is there any more to answer."""


async def read_body(receive: Receive, limit: int, timeout: float) -> bytes:
    """The whole body.

    Raises:
        PayloadTooLarge: more than ``limit`` bytes.
        RequestTimeout: nothing more of it came within ``timeout`` seconds.
        ClientGone: the client left before the end.
    """
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await next_part(receive, timeout)
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise PayloadTooLarge(f"the body is larger than {limit:,} bytes (max_body_mb)")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


async def send_json(
    send: Send,
    status: int,
    data: object,
    headers: Mapping[str, str] | None = None,
    *more: tuple[bytes, bytes],
) -> None:
    """A whole JSON response."""
    body = json.dumps(data).encode()
    fields = {"content-type": "application/json", "content-length": str(len(body))}
    raw = [
        (k.encode(), v.encode("latin-1", "replace"))
        for k, v in {**fields, **(headers or {})}.items()
    ]
    raw += more
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, error: ModelPoolError, *more: tuple[bytes, bytes]) -> None:
    """An error in its JSON shape, with its headers and ``more`` of them."""
    if isinstance(error, RequestTimeout):  # the rest of the request may still come, unwanted
        more = (*more, (b"connection", b"close"))
    await send_json(send, error.status, error.body(), error.headers(), *more)


def error_event(error: ModelPoolError) -> bytes:
    """An error inside a stream that has begun; no ``[DONE]`` follows."""
    return b"data: " + json.dumps(error.body()).encode() + b"\n\n"


class Departure:
    """Notices that the client has left and cancels the task that answers it.

    Use as a context; afterwards ``has_left`` tells a cancellation of ours from another's. The watch
    begins after ``WATCH_AFTER_SECONDS``: most answers are over by then and need none, and a task
    for each of them would be a fifth of the gateway's work.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watch: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.has_left = False

    async def __aenter__(self) -> Departure:
        answering = asyncio.current_task()
        assert answering is not None

        async def watch() -> None:
            while (await self._receive())["type"] != "http.disconnect":
                pass
            self.has_left = True
            answering.cancel()

        def start() -> None:
            self._watch = asyncio.ensure_future(watch())

        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_SECONDS, start)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        assert self._timer is not None
        self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
        if self.has_left and kind is asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            return True
        return False
