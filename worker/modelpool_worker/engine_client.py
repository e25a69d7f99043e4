"""From the front to its engine child and back: bytes through, or a stream put together."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

from modelpool_client.errors import (
    ContextLengthExceeded,
    EngineFailed,
    InvalidRequest,
    ModelPoolError,
    NotSupported,
)
from modelpool_client.http1.exchange import BUFFER_BYTES, JSON_TYPE, Exchange, Source
from modelpool_client.http1.message import Headers, describing
from modelpool_client.http1.upstream import Upstream
from modelpool_client.http1.upstream_connection import (
    NotReached,
    UpstreamConnection,
    UpstreamError,
)
from modelpool_client.surfaces import sse
from modelpool_client.surfaces.routes import CHAT_PATH, SURFACES, Surface
from modelpool_client.surfaces.translation import Translation

from .surfaces.aggregate import Aggregate
from .surfaces.reshape import EngineRequest, Reshape
from .surfaces.text_frame import TextChunks

TAIL_BYTES = 4096
# An engine that said that it is ready may need a moment more until it accepts.
CONNECT_PAUSE_SECONDS = 0.05
# An engine answers between two steps of its work; Prometheus waits for ten seconds.
METRICS_SECONDS = 2.0
# llama.cpp's: its counters begin anew with every start.
METRICS_HEADERS = frozenset({b"process-start-time-unix"})
_HEADERS = [JSON_TYPE]
# llama.cpp sends this for a request with several prompts, once or more often; clients choke on it.
_NOTHING = b"data: null\n\n"


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

    def rests(self) -> None:
        """The client takes nothing, so nothing is asked of the engine."""


class EngineClient:
    """Speaks HTTP to one engine child on its unix socket.

    Whoever asks hears of every piece that the engine sends. To be cancelled closes the connection,
    which is what tells the engine to stop computing.

    Attributes:
        stops_plain: the engine notices a client that leaves while it computes an answer in one
            piece; one that notices it on streams only is always asked for a stream.
        has_metrics: it has a page of them.
    """

    def __init__(self, socket_path: str) -> None:
        self._path = socket_path
        self._upstream = Upstream()
        self.stops_plain = False
        self.has_metrics = False

    def close(self) -> None:
        """Close every idle connection."""
        self._upstream.close()

    async def stream(self, request: EngineRequest, exchange: Exchange, watch: Watch) -> int:
        """Pass the engine's stream on, as bytes where it is what the client wants. Returns the
        tokens it generated.

        Raises:
            ModelPoolError: the engine refused.
            BrokenOffError: perhaps after the first byte.
        """
        if request.reshape is not None:
            return await self._reshaped(request, request.reshape, exchange, watch)
        async with self._open(request, watch) as reply:
            first = await _first_piece(reply)
            if not exchange.status:  # a comment may have begun it
                exchange.begin(200, list(sse.HEADERS))
            passage = _Passage(exchange, watch)
            exchange.source = passage
            try:
                passage.write(first)
                await reply.pipe(passage)
            finally:
                exchange.source = None
        if sse.DONE not in passage.tail[-64:]:
            raise BrokenOffError("the engine ended its stream early")
        exchange.end()
        return count_tokens(passage.tail)

    async def _reshaped(
        self, request: EngineRequest, reshape: Reshape, exchange: Exchange, watch: Watch
    ) -> int:
        tail = b""
        async with self._open(request, watch) as reply:
            async for events in _events(reply, watch):
                if not exchange.status:
                    exchange.begin(200, list(sse.HEADERS))
                for data in events:
                    tail = (tail + data)[-TAIL_BYTES:]
                    for chunk in [] if data == sse.DONE else reshape.chunk(_chunk(data)):
                        exchange.write(sse.event(chunk))
                if exchange.is_full:
                    watch.rests()
                    await exchange.drain()
        if sse.DONE not in tail[-64:] and not reshape.is_complete:
            raise BrokenOffError("the engine ended its stream early")
        for chunk in reshape.end():
            exchange.write(sse.event(chunk))
        exchange.write(b"data: " + sse.DONE + b"\n\n")
        exchange.end()
        return count_tokens(tail)

    async def answer(self, request: EngineRequest, exchange: Exchange, watch: Watch) -> int:
        """One answer in one piece. Returns the tokens that the engine generated.

        Raises:
            ModelPoolError: the engine refused.
            BrokenOffError: it did not finish.
        """
        if not self.stops_plain or request.reshape is not None:
            value, tokens = await self.collect(request, watch)
            exchange.send_json(200, value)
            return tokens
        async with self._open(request, watch, as_stream=False) as reply:
            body = await reply.read()
            watch.gave()
        exchange.send(200, _HEADERS, body)
        return count_tokens(body[-TAIL_BYTES:])

    async def collect(self, request: EngineRequest, watch: Watch) -> tuple[dict[str, Any], int]:
        """The engine's answer, put together from its stream unless it stops for whoever leaves
        anyway, and its tokens.

        Raises:
            ModelPoolError: the engine refused.
            BrokenOffError: it did not finish.
        """
        if self.stops_plain and request.reshape is None:
            return _whole(await self.whole(request, watch))
        reshape, body = request.reshape, request.completion.body
        aggregate = Aggregate(chat=request.path == CHAT_PATH, n=body.get("n", 1))
        is_done = False
        async with self._open(request, watch) as reply:
            async for events in _events(reply, watch):
                for data in events:
                    is_done = is_done or _take(aggregate, data, reshape)
        if not is_done and not (reshape is not None and reshape.is_complete):
            raise BrokenOffError("the engine ended its answer early")
        for chunk in reshape.end() if reshape is not None else ():
            aggregate.add(chunk)
        result = aggregate.result()
        return result, (result.get("usage") or {}).get("completion_tokens", 0)

    async def translate(
        self,
        request: EngineRequest,
        translation: Translation,
        exchange: Exchange,
        watch: Watch,
        before_end: Callable[[], Awaitable[None]],
    ) -> int:
        """The engine's stream in the words of another API; ``before_end`` is awaited when it has
        said everything. Returns the tokens it generated.

        Raises:
            ModelPoolError: the engine refused.
            BrokenOffError: perhaps after the first byte.
        """
        tail, reshape = b"", request.reshape
        texts = TextChunks("content" if request.path == CHAT_PATH else "text")
        async with self._open(request, watch) as reply:
            async for events in _events(reply, watch):
                if not exchange.status:
                    exchange.begin(200, list(exchange.dialect.stream_headers))
                if not tail:
                    exchange.write(translation.begin())
                tail = (tail + b"".join(events))[-TAIL_BYTES:]
                told = [c for d in events if d != sse.DONE for c in _read(d, texts, reshape)]
                exchange.write(b"".join(map(translation.chunk, told)))
                if exchange.is_full:
                    watch.rests()
                    await exchange.drain()
        if sse.DONE not in tail[-64:] and not (reshape is not None and reshape.is_complete):
            raise BrokenOffError("the engine ended its stream early")
        last = reshape.end() if reshape is not None else []
        exchange.write(b"".join(map(translation.chunk, last)))
        watch.rests()
        await before_end()
        exchange.write(translation.end())
        exchange.end()
        return count_tokens(tail)

    async def whole(self, request: EngineRequest, watch: Watch) -> bytes:
        """An answer that is never a stream.

        Raises:
            ModelPoolError: the engine refused.
            BrokenOffError: it did not finish.
        """
        async with self._open(request, watch, as_stream=False) as reply:
            body = await reply.read()
            watch.gave()
        return body

    async def relay(self, request: EngineRequest, exchange: Exchange, watch: Watch) -> int:
        """Pass on what an API of the engine's own answers: a stream, a document, sounds, pictures.
        Returns the tokens that it generated.

        Raises:
            ModelPoolError: the engine refused.
            BrokenOffError: perhaps after the first byte.
        """
        async with self._open(request, watch, as_stream=False) as reply:
            is_stream, length = sse.is_announced(reply.headers), reply.length
            if exchange.status and not is_stream:
                raise BrokenOffError("the engine sent no event stream")
            kind = list(sse.HEADERS) if is_stream else describing(reply.headers)
            if not is_stream and length is not None and length <= BUFFER_BYTES:
                body = await reply.read()
                watch.gave()
                exchange.send(200, kind, body)
                return count_tokens(body[-TAIL_BYTES:])
            if not exchange.status:
                exchange.begin(200, kind, None if is_stream else length)
            passage = _Passage(exchange, watch)
            exchange.source = passage
            try:
                await reply.pipe(passage)
            finally:
                exchange.source = None
        exchange.end()
        return count_tokens(passage.tail)

    async def look(self, surface: Surface) -> bytes:
        """What the engine says of itself.

        Raises:
            ModelPoolError: the engine refused.
            BrokenOffError: it did not finish.
        """
        return (await self._get(surface.path))[1]

    async def metrics(self) -> tuple[Headers, bytes]:
        """The engine's page of metrics, and what its head says of it beyond HTTP; empty where it
        has none, or answers none in time."""
        if not self.has_metrics:
            return [], b""
        try:
            async with asyncio.timeout(METRICS_SECONDS):
                headers, body = await self._get("/metrics")
        except (TimeoutError, ModelPoolError, BrokenOffError) as e:
            return [], f"# the engine's own are missing: {e or 'no answer in time'}\n".encode()
        return [(name, value) for name, value in headers if name in METRICS_HEADERS], body

    async def _get(self, path: str) -> tuple[Headers, bytes]:
        try:
            with await self._upstream.request(self._path, "GET", path.encode(), [], b"") as reply:
                body = await reply.read()
                if reply.status != 200:
                    raise engine_error(reply.status, body)
                return reply.headers, body
        except UpstreamError as e:
            raise BrokenOffError(f"the engine broke off: {e}") from e

    @asynccontextmanager
    async def _open(
        self, request: EngineRequest, watch: Watch, *, as_stream: bool = True
    ) -> AsyncIterator[UpstreamConnection]:
        body = request.completion.upstream(as_stream=as_stream)
        watch.sent()
        try:
            with await self._post(request.path.encode(), request.headers, body) as reply:
                if reply.status != 200:
                    words = await reply.read()
                    watch.gave()
                    raise engine_error(reply.status, words, request.path)
                yield reply
        except UpstreamError as e:
            raise BrokenOffError(f"the engine broke off: {e}") from e

    async def _post(self, target: bytes, headers: Headers, body: bytes) -> UpstreamConnection:
        try:
            return await self._upstream.request(self._path, "POST", target, headers, body)
        except NotReached:
            await asyncio.sleep(CONNECT_PAUSE_SECONDS)
            return await self._upstream.request(self._path, "POST", target, headers, body)


class _Passage:
    """What the engine sends, on its way to the client."""

    def __init__(self, exchange: Exchange, watch: Watch) -> None:
        self._exchange = exchange
        self._watch = watch
        self.source: Source | None = None
        self.tail = b""

    @property
    def is_full(self) -> bool:
        return self._exchange.is_full

    def write(self, data: bytes) -> None:
        """See ``Sink``."""
        self._watch.gave()
        if _NOTHING in data:
            data = data.replace(_NOTHING, b"")
        self.tail = (self.tail + data)[-TAIL_BYTES:]
        self._exchange.write(data)
        if not self._exchange.is_full:
            self._watch.asks()

    def pause(self) -> None:
        """The client takes nothing."""
        self._watch.rests()
        if self.source is not None:
            self.source.pause()

    def resume(self) -> None:
        """The client takes again."""
        self._watch.asks()
        if self.source is not None:
            self.source.resume()


async def _first_piece(reply: UpstreamConnection) -> bytes:
    piece = await reply.piece()
    while piece.startswith(_NOTHING):
        piece = piece[len(_NOTHING) :] or await reply.piece()
    if not sse.is_event_stream(piece):
        raise BrokenOffError("the engine sent no event stream")
    return piece


async def _events(reply: UpstreamConnection, watch: Watch) -> AsyncIterator[list[bytes]]:
    """The data of the events that each piece brings."""
    events, piece = sse.Events(), await _first_piece(reply)
    while piece:
        watch.gave()
        yield [data for data in events.feed(piece) if data != b"null"]
        watch.asks()
        piece = await reply.piece()


def _whole(body: bytes) -> tuple[dict[str, Any], int]:
    try:
        value = json.loads(body)
        return value, value["usage"]["completion_tokens"]
    except (ValueError, KeyError, TypeError):
        raise BrokenOffError(f"the engine sent no answer: {body[:100]!r}") from None


def _take(aggregate: Aggregate, data: bytes, reshape: Reshape | None) -> bool:
    """Add one event; True if it was the last one."""
    if data == sse.DONE:
        return True
    if reshape is not None:
        for chunk in _told(data, reshape):
            aggregate.add(chunk)
        return False
    if not aggregate.takes(data):
        aggregate.add(_chunk(data), data)
    return False


def _read(data: bytes, texts: TextChunks, reshape: Reshape | None) -> list[dict[str, Any]]:
    """What of an event of the engine's is told, parsed only where it has to be."""
    if reshape is not None:
        return _told(data, reshape)
    if (known := texts.read(data)) is not None:
        return [known]
    chunk = _chunk(data)
    texts.parsed(data, chunk)
    return [chunk]


def _told(data: bytes, reshape: Reshape | None) -> list[dict[str, Any]]:
    """What of an event of the engine's is told."""
    return [_chunk(data)] if reshape is None else reshape.chunk(_chunk(data))


def _chunk(data: bytes) -> dict[str, Any]:
    """One event of the engine's.

    Raises:
        ModelPoolError: it is an error.
        BrokenOffError: it makes no sense.
    """
    try:
        chunk = json.loads(data)
    except ValueError:
        raise BrokenOffError(f"the engine sent no JSON: {data[:100]!r}") from None
    if not isinstance(chunk, dict):
        raise BrokenOffError(f"the engine sent no object: {data[:100]!r}")
    if "error" in chunk:
        raise engine_error(_status_of(chunk["error"]), data)
    return chunk


def _status_of(error: Any) -> int:
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) else 500


def count_tokens(tail: bytes) -> int:
    """PURE. Tokens generated, from a stream's last kilobytes: usage, or llama.cpp's timings."""
    counts = re.findall(rb'"completion_tokens": ?(\d+)', tail)
    if not counts:
        counts = re.findall(rb'"predicted_n": ?(\d+)', tail)[-1:]
    return sum(map(int, counts))


def engine_error(status: int, body: bytes, path: str = CHAT_PATH) -> ModelPoolError:
    """PURE. An engine's error answer as ours: its message, our code, source ``engine``."""
    error = _engine_words(status, body)
    message, kind = str(error["message"]), error.get("type")
    is_long = kind == "exceed_context_size_error" or ("exceed" in message and "context" in message)
    if is_long or "is too large to process" in message:
        surface = SURFACES.get(path)
        return _too_long(error, surface.source if surface is not None else "prompt")
    if status == 501:
        return NotSupported(message, source="engine")
    # llama.cpp answers some wrong bodies with 500: an exception of its JSON library, an image
    # without a projector.
    if 400 <= status < 500 or "[json.exception" in message or "is not supported" in message:
        return InvalidRequest(message, source="engine")
    return EngineFailed(message, source="engine")


def _too_long(error: Mapping[str, Any], param: str) -> ContextLengthExceeded:
    """With both numbers, where the engine tells them."""
    tokens, limit = error.get("n_prompt_tokens"), error.get("n_ctx")
    if tokens is None or limit is None:
        return ContextLengthExceeded(str(error["message"]), param=param, source="engine")
    # Clients look for "maximum context length", which is what OpenAI says.
    # and those of llama.cpp for "exceeds the available context size".
    text = f"this model's maximum context length is {limit} tokens, and {param} has {tokens}, which"
    text += " exceeds the available context size; shorten it, or load the model with a larger"
    text += " context_length"
    details = {"prompt_tokens": tokens, "context_length": limit}
    return ContextLengthExceeded(text, param=param, source="engine", details=details)


def _engine_words(status: int, body: bytes) -> dict[str, Any]:
    try:
        error = json.loads(body)["error"]
        return {"message": error["message"], **error}
    except (ValueError, KeyError, TypeError):
        text = body[:200].decode(errors="replace")
        return {"message": f"the engine answered {status}: {text}"}
