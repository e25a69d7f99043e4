"""An upstream that computes nothing: the same answer to everyone, as fast as Python can write it.

    python -m bench.canned PORT

One JSON answer in the shape of its path, a chat's at those that have none of their own; or with
``"stream": true`` a stream of ``max_tokens`` chunks (200 if not said) of a chat or a text
completion, each written in a turn of the loop of its own, as an engine would, or
``tokens_per_second`` of them in a second. Ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import sys
from typing import Any, cast

import uvloop

from bench.messages import HOST
from bench.names import CHUNKS

# Numbers of a vector: as many as small models of embeddings make.
DIMENSIONS = 384

_STREAM = re.compile(rb'"stream": ?true')
_CHUNKS = re.compile(rb'"max_tokens": ?(\d+)')
_PACE = re.compile(rb'"tokens_per_second": ?([\d.]+)')
_LENGTH = re.compile(rb"\r\ncontent-length: ?(\d+)", re.IGNORECASE)


def _event(choice: dict[str, Any], kind: str = "chat.completion.chunk") -> bytes:
    return b"data: " + json.dumps(_completion(kind, choice)).encode() + b"\n\n"


def _completion(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    about = {"id": "chatcmpl-canned", "object": kind, "created": 1700000000, "model": "canned"}
    return {**about, "choices": [choice]}


def _delta(delta: dict[str, str], finish: str | None = None) -> bytes:
    return _event({"index": 0, "delta": delta, "finish_reason": finish})


def _text(text: str, finish: str | None = None) -> bytes:
    return _event({"index": 0, "text": text, "finish_reason": finish}, "text_completion")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _whole(answer: dict[str, Any]) -> bytes:
    body = json.dumps(answer).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


_SAID = "It will rain until it stops, as it often does."
_USAGE = {"prompt_tokens": 12, "completion_tokens": 11, "total_tokens": 23}
_MESSAGE = {"role": "assistant", "content": _SAID}
# Of length 1, and as engines write such numbers.
_WAVE = [math.sin(i) for i in range(DIMENSIONS)]
_VECTOR = [round(x / math.hypot(*_WAVE), 9) for x in _WAVE]
WHOLE = _whole(
    {
        **_completion(
            "chat.completion", {"index": 0, "message": _MESSAGE, "finish_reason": "stop"}
        ),
        "usage": _USAGE,
    }
)
# What is answered elsewhere than at chat completions, by path.
ANSWERS = {
    path.encode(): _whole(answer)
    for path, answer in {
        "/v1/completions": {
            **_completion("text_completion", {"index": 0, "text": _SAID, "finish_reason": "stop"}),
            "usage": _USAGE,
        },
        "/v1/embeddings": {
            "object": "list",
            "model": "canned",
            "data": [{"object": "embedding", "index": 0, "embedding": _VECTOR}],
            "usage": {"prompt_tokens": 12, "total_tokens": 12},
        },
        "/v1/rerank": {
            "object": "list",
            "model": "canned",
            "results": [{"index": i, "relevance_score": 0.5 - i / 10} for i in range(2)],
            "usage": {"prompt_tokens": 12, "total_tokens": 12},
        },
        "/v1/messages": {
            "id": "msg_canned",
            "type": "message",
            "role": "assistant",
            "model": "canned",
            "content": [{"type": "text", "text": _SAID}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 12, "output_tokens": 11},
        },
        "/completion": {"index": 0, "content": _SAID, "stop": True, "tokens_predicted": 11},
        "/infill": {"index": 0, "content": _SAID, "stop": True, "tokens_predicted": 11},
        "/tokenize": {"tokens": list(range(12))},
    }.items()
}
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
FIRST = _chunk(_delta({"role": "assistant", "content": ""}))
TOKEN = _chunk(_delta({"content": " rain"}))
LAST = _chunk(_delta({}, "stop")) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
TEXT_TOKEN = _chunk(_text(" rain"))
TEXT_LAST = _chunk(_text("", "stop")) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
TEXT_PATH = b"/v1/completions"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class Canned(asyncio.Protocol):
    """One connection. ``pace``: tokens a second of a stream that does not say it; 0: as fast as
    they can be written."""

    def __init__(self, pace: float = 0.0) -> None:
        self._pace = pace
        self._buffer = b""
        self._token, self._last = TOKEN, LAST
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
        method, path = request.split(b" ", 2)[:2]
        if method != b"POST" or not (path.startswith(b"/v1/") or path in ANSWERS):
            self._transport.write(NOT_FOUND)
        elif _STREAM.search(request):
            count, said = _CHUNKS.search(request), _PACE.search(request)
            pace = float(said[1]) if said else self._pace
            is_text = path == TEXT_PATH
            self._transport.write(STREAM_HEAD if is_text else STREAM_HEAD + FIRST)
            self._token, self._last = (TEXT_TOKEN, TEXT_LAST) if is_text else (TOKEN, LAST)
            left = int(count[1]) if count else CHUNKS
            if pace:
                self._go_on_slowly(left, 1 / pace)
            else:
                self._loop.call_soon(self._go_on, left)
        else:
            self._transport.write(ANSWERS.get(path, WHOLE))

    def _go_on(self, left: int) -> None:
        if self._transport.is_closing():
            return
        if left:
            self._transport.write(self._token)
            self._loop.call_soon(self._go_on, left - 1)
        else:
            self._transport.write(self._last)

    def _go_on_slowly(self, left: int, pause: float) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(self._token if left else self._last)
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
