"""An upstream that computes nothing: the same answer to everyone, as fast as Python can write it.

    python -m bench.canned PORT

One JSON answer, or with ``"stream": true`` a stream of ``max_tokens`` chunks (200 if not said),
each written in a turn of the loop of its own, as an engine would, or ``tokens_per_second`` of them
in a second. Ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import Any, cast

import uvloop

from bench.messages import HOST
from bench.names import CHUNKS

_STREAM = re.compile(rb'"stream": ?true')
_CHUNKS = re.compile(rb'"max_tokens": ?(\d+)')
_PACE = re.compile(rb'"tokens_per_second": ?([\d.]+)')
_LENGTH = re.compile(rb"\r\ncontent-length: ?(\d+)", re.IGNORECASE)


def _event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps(_completion("chat.completion.chunk", choice)).encode() + b"\n\n"


def _completion(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    about = {"id": "chatcmpl-canned", "object": kind, "created": 1700000000, "model": "canned"}
    return {**about, "choices": [choice]}


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _whole() -> bytes:
    message = {"role": "assistant", "content": "It will rain until it stops, as it often does."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 12, "completion_tokens": 11, "total_tokens": 23}
    body = json.dumps({**_completion("chat.completion", choice), "usage": usage}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


WHOLE = _whole()
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
FIRST = _chunk(_event({"role": "assistant", "content": ""}))
TOKEN = _chunk(_event({"content": " rain"}))
LAST = _chunk(_event({}, "stop")) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class Canned(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._buffer = b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an isinstance check: uvloop's transports are no subclasses.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (request := self._take()) is not None:
            self._answer(request)

    def _take(self) -> bytes | None:
        """The next whole request, or None."""
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return None
        length = _LENGTH.search(self._buffer, 0, head)
        end = head + 4 + (int(length[1]) if length else 0)
        if len(self._buffer) < end:
            return None
        request, self._buffer = self._buffer[:end], self._buffer[end:]
        return request

    def _answer(self, request: bytes) -> None:
        if not request.startswith(b"POST /v1/"):
            self._transport.write(NOT_FOUND)
        elif _STREAM.search(request):
            count, pace = _CHUNKS.search(request), _PACE.search(request)
            self._transport.write(STREAM_HEAD + FIRST)
            left = int(count[1]) if count else CHUNKS
            if pace:
                self._go_on_slowly(left, 1 / float(pace[1]))
            else:
                self._loop.call_soon(self._go_on, left)
        else:
            self._transport.write(WHOLE)

    def _go_on(self, left: int) -> None:
        if self._transport.is_closing():
            return
        if left:
            self._transport.write(TOKEN)
            self._loop.call_soon(self._go_on, left - 1)
        else:
            self._transport.write(LAST)

    def _go_on_slowly(self, left: int, pause: float) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(TOKEN if left else LAST)
        if left:
            self._loop.call_later(pause, self._go_on_slowly, left - 1, pause)


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_server(Canned, HOST, port, backlog=1024)
    print("ready", flush=True)
    ended = asyncio.Event()
    loop.add_reader(0, ended.set)
    await ended.wait()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
