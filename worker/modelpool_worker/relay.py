"""From the front to its engine child and back: bytes through, or a stream put together."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

import aiohttp
from modelpool_client.errors import (
    ContextLengthExceeded,
    EngineFailed,
    InvalidRequest,
    ModelPoolError,
    NotSupported,
)
from modelpool_client.surfaces.openai import STREAM_HEADERS, Request
from modelpool_client.surfaces.routes import CHAT_PATH

from .surfaces import sse
from .surfaces.aggregate import Aggregate

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

TAIL_BYTES = 4096
_ERROR_BYTES = 1 << 20


class BrokenOffError(Exception):
    """The engine's answer broke off or was none; perhaps the engine is dying."""


class Watch(Protocol):
    """Hears of the engine's work on one request; called for every piece, so it must be quick."""

    def sent(self) -> None:
        """The request goes to the engine."""

    def gave(self) -> None:
        """The engine gave something."""

    def asks(self) -> None:
        """That was passed on: what comes next is waited for."""


class Relay:
    """Speaks HTTP to one engine child on its unix socket.

    Whoever asks hears of every piece that the engine sends. llama.cpp's server drops idle
    connections without a word, so none is used twice.
    """

    def __init__(self, socket_path: str) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(socket_path, force_close=True, limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            auto_decompress=False,
            headers={"content-type": "application/json", "accept-encoding": "identity"},
            skip_auto_headers=("user-agent", "accept"),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def stream(
        self, path: str, request: Request, send: Send, headers: list[Any], watch: Watch
    ) -> int:
        """Pass the engine's stream through as bytes. Returns the tokens it generated.

        Raises:
            ModelPoolError: the engine refused.
            BrokenOffError: perhaps after the first byte.
        """
        async with self._open(path, request.upstream(), watch) as answer:
            piece = await _first_piece(answer)
            await send(_start(200, [*STREAM_HEADERS, *headers]))
            tail = b""
            while piece:
                tail = (tail + piece)[-TAIL_BYTES:]
                watch.gave()
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                watch.asks()
                piece = await answer.content.readany()
        if sse.DONE not in tail[-64:]:
            raise BrokenOffError("the engine ended its stream early")
        await send({"type": "http.response.body", "body": b""})
        return count_tokens(tail)

    async def collect(
        self, path: str, request: Request, watch: Watch
    ) -> tuple[dict[str, Any], int]:
        """Put the engine's stream together into one answer. Returns it and its tokens.

        Raises:
            ModelPoolError: the engine refused.
            BrokenOffError: it did not finish.
        """
        aggregate, events, done = (
            Aggregate(chat=path == CHAT_PATH, n=request.body.get("n", 1)),
            sse.Events(),
            False,
        )
        async with self._open(path, request.upstream(), watch) as answer:
            piece = await _first_piece(answer)
            while piece:
                watch.gave()
                for data in events.feed(piece):
                    done = done or _take(aggregate, data)
                watch.asks()
                piece = await answer.content.readany()
        if not done:
            raise BrokenOffError("the engine ended its answer early")
        result = aggregate.result()
        return result, (result.get("usage") or {}).get("completion_tokens", 0)

    @asynccontextmanager
    async def _open(
        self, path: str, body: bytes, watch: Watch
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        watch.sent()
        try:
            answer = await self._post(path, body)
            try:
                if answer.status != 200:
                    words = await answer.content.read(_ERROR_BYTES)
                    watch.gave()
                    raise engine_error(answer.status, words)
                yield answer
            finally:
                # Not released: closing is what tells the engine to stop computing.
                answer.close()
        except (aiohttp.ClientError, OSError) as e:
            raise BrokenOffError(f"the engine broke off: {e!r}") from e

    async def _post(self, path: str, body: bytes) -> aiohttp.ClientResponse:
        url = f"http://engine{path}"
        try:
            return await self._session.post(url, data=body)
        except aiohttp.ClientConnectorError:
            await asyncio.sleep(0.05)
            return await self._session.post(url, data=body)


async def _first_piece(answer: aiohttp.ClientResponse) -> bytes:
    piece = await answer.content.readany()
    # llama.cpp begins the stream of a request with several prompts so; clients choke on it.
    if piece.startswith(b"data: null\n\n"):
        piece = piece[12:] or await answer.content.readany()
    if not sse.is_event_stream(piece):
        raise BrokenOffError("the engine sent no event stream")
    return piece


def _take(aggregate: Aggregate, data: bytes) -> bool:
    """Add one event; True if it was the last one."""
    if data == sse.DONE:
        return True
    try:
        chunk = json.loads(data)
    except ValueError:
        raise BrokenOffError(f"the engine sent no JSON: {data[:100]!r}") from None
    if not isinstance(chunk, dict):
        raise BrokenOffError(f"the engine sent no object: {data[:100]!r}")
    if "error" in chunk:
        raise engine_error(_status_of(chunk["error"]), data)
    aggregate.add(chunk)
    return False


def _status_of(error: Any) -> int:
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) else 500


def _start(status: int, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def count_tokens(tail: bytes) -> int:
    """PURE. Tokens generated, from a stream's last kilobytes: usage, or llama.cpp's timings."""
    counts = re.findall(rb'"completion_tokens": ?(\d+)', tail)
    if not counts:
        counts = re.findall(rb'"predicted_n": ?(\d+)', tail)[-1:]
    return sum(map(int, counts))


def engine_error(status: int, body: bytes) -> ModelPoolError:
    """PURE. An engine's error answer as ours: its message, our code, source ``engine``."""
    message, kind = _engine_words(status, body)
    if kind == "exceed_context_size_error" or ("exceed" in message and "context" in message):
        return ContextLengthExceeded(message, param="messages", source="engine")
    # llama.cpp answers some wrong bodies with 500: an exception of its JSON library, an image
    # without a projector.
    if 400 <= status < 500 or "[json.exception" in message or "is not supported" in message:
        return InvalidRequest(message, source="engine")
    if status == 501:
        return NotSupported(message, source="engine")
    return EngineFailed(message, source="engine")


def _engine_words(status: int, body: bytes) -> tuple[str, str]:
    try:
        error = json.loads(body)["error"]
        return str(error["message"]), str(error.get("type"))
    except (ValueError, KeyError, TypeError, AttributeError):
        text = body[:200].decode(errors="replace")
        return f"the engine answered {status}: {text}", ""
