"""From the front to its engine and back: bytes through, or a stream put together."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple, Protocol

from modelpool_client.errors import (
    ContextLengthExceeded,
    EngineFailed,
    InvalidRequest,
    ModelPoolError,
    NotSupported,
    Unavailable,
)
from modelpool_client.http1.endpoint import Endpoint, host_of
from modelpool_client.http1.exchange import BUFFER_BYTES, JSON_TYPE, Exchange, Source
from modelpool_client.http1.known_heads import REMEMBERED
from modelpool_client.http1.message import Headers, describing, head_to_length
from modelpool_client.http1.upstream_connection import UpstreamConnection, UpstreamError
from modelpool_client.surfaces import sse
from modelpool_client.surfaces.body import parse_object
from modelpool_client.surfaces.engine_metrics import WRITTEN
from modelpool_client.surfaces.openai import Completion
from modelpool_client.surfaces.routes import CHAT_PATH, SURFACES, Surface
from modelpool_client.surfaces.translation import Translation
from modelpool_client.wire import decode

from .link import KeepsConnections, Link, Reply
from .sleep import Sleep, SleepStep
from .surfaces.aggregate import NO_ENDS, Aggregate
from .surfaces.plain import plain
from .surfaces.reshape import EngineRequest, Reshape
from .surfaces.text_frame import TextChunks
from .tokens import (
    BYTES_PER_TOKEN,
    NO_TOKENS,
    Tokens,
    count_tokens,
    estimated,
    of_usage,
    usage_after,
)

log = logging.getLogger(__name__)

TAIL_BYTES = 4096
# An engine answers between two steps of its work; Prometheus waits for ten seconds.
METRICS_SECONDS = 2.0
_USAGE = b'"usage"'
# Of an engine that has too much to do at the moment.
TOO_MANY = (429, 503)
PLAIN_HEADERS = [JSON_TYPE]
# llama.cpp sends this for a request with several prompts, once or more often; clients choke on it.
_NOTHING = b"data: null\n\n"
_EVENT_END = b"\n\n"
# Of texts, and no further than a value goes: ``json.loads`` looks each time how bytes are encoded,
# and for white space around it. Events are UTF-8, without any.
_read_json = json.JSONDecoder().raw_decode
# So many that are unlike others are looked at by themselves: the first and last of an answer.
_EVENTS_APART = 8


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

    def goes_on(self) -> None:
        """Both at once."""

    def rests(self) -> None:
        """The client takes nothing, so nothing is asked of the engine."""


class EngineClient:
    """Asks what computes for the worker.

    Whoever asks hears of every piece that the engine sends. To be cancelled closes the connection,
    which is what tells the engine to stop computing.

    Attributes:
        sleep: how it lets go of device memory and takes it again; None: it cannot.
        heeds_priority: requests wait in it, and it wants to be told their ``X-Priority``.
        gathers: it is asked for a stream where an answer of a chat or a completion is wanted in one
            piece.
    """

    def __init__(self, link: Link) -> None:
        self.sleep: Sleep | None = None
        self.heeds_priority = False
        self._link = link
        self._kept = link if isinstance(link, KeepsConnections) else None
        self.gathers = True
        self._has_metrics = False
        self._model_name = ""
        self._headers: Headers = []
        self._paths: Mapping[str, str] = {}

    def take(self, ready: Mapping[str, Any]) -> None:
        """What an engine says of itself, see ``Status.ready``."""
        self.gathers = not ready.get("stops_plain")
        self._has_metrics = bool(ready.get("has_metrics"))
        self._model_name = ready.get("model_name") or ""
        given = (ready.get("headers") or {}).items()
        self._headers = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in given]
        self._paths = ready.get("paths") or {}
        sleep = ready.get("sleep")
        self.sleep = decode(Sleep, sleep) if sleep else None
        self.heeds_priority = bool(ready.get("heeds_priority"))

    def close(self) -> None:
        """Close every idle connection."""
        self._link.close()

    async def stream(
        self,
        request: EngineRequest,
        exchange: Exchange,
        watch: Watch,
        begun: Begun | None = None,
    ) -> Tokens:
        """Pass the engine's stream on, as bytes where it is what the client wants. Returns the
        tokens it generated. ``begun``: it was asked already, see ``begin``.

        Raises:
            ModelPoolError: the engine refused.
            BrokenOffError: perhaps after the first byte.
        """
        if request.reshape is not None:
            return await self._reshaped(request, request.reshape, exchange, watch)
        seen = (begun and begun.seen) or Seen(watch)
        async with self._open(request, watch, begun=begun) as reply:
            first = b"" if seen.has_begun else await _first_piece(reply)
            if not exchange.status:  # a comment may have begun it
                exchange.begin(200, list(sse.HEADERS))
            sink = _ClientSink(exchange, seen)
            exchange.source = sink
            try:
                if first:
                    sink.write(first)
                await reply.pipe(sink)
            finally:
                exchange.source = None
        if not seen.is_whole:
            raise BrokenOffError("the engine ended its stream early")
        exchange.end()
        return tokens_of_stream(request, seen, reply)

    async def _reshaped(
        self, request: EngineRequest, reshape: Reshape, exchange: Exchange, watch: Watch
    ) -> Tokens:
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
        return _counted(reply, tail, request)

    def begin(
        self, request: EngineRequest, *, is_relayed: bool = False
    ) -> tuple[UpstreamConnection, bytes] | None:
        """For who asks by himself: the connection, and what is to be sent over it at once. What
        comes is the answer, or where that is wanted in one piece, and it ``gathers``, what
        ``gathering`` takes. None: it takes ``stream`` or ``answer``. ``is_relayed``: what comes is
        the answer in any case; else it takes ``relay`` or ``whole``."""
        if self._kept is None or (request.reshape is not None and not is_relayed):
            return None
        body = self._body(request, as_stream=self.gathers and not is_relayed)
        connection = self._kept.take()
        if connection is None:
            return None
        path, headers = request.path, (*request.headers, *self._headers)
        head = _head(self._paths.get(path, path), connection.endpoint, headers)
        return connection, b"%b%d\r\n\r\n%b" % (head, len(body), body)

    async def answer(
        self,
        request: EngineRequest,
        exchange: Exchange,
        watch: Watch,
        begun: Begun | None = None,
    ) -> Tokens:
        """One answer in one piece. Returns the tokens that the engine generated. ``begun``: it was
        asked already, see ``begin``.

        Raises:
            ModelPoolError: the engine refused.
            BrokenOffError: it did not finish.
        """
        if self.gathers or request.reshape is not None:
            value, tokens = await self.collect(request, watch, begun)
            exchange.send_json(200, value)
            return tokens
        async with self._open(request, watch, as_stream=False, begun=begun) as reply:
            body = await reply.read()
            watch.gave()
        exchange.send(200, PLAIN_HEADERS, body)
        return tokens_of_answer(body, request)

    def gathering(self, request: EngineRequest, watch: Watch) -> Gathering:
        """What puts the stream together that answers a request."""
        aggregate = Aggregate(chat=request.path == CHAT_PATH, n=request.completion.body.get("n", 1))
        return Gathering(aggregate, request.reshape, watch)

    async def collect(
        self,
        request: EngineRequest,
        watch: Watch,
        begun: Begun | None = None,
    ) -> tuple[dict[str, Any], Tokens]:
        """The engine's answer, put together from its stream unless it stops for whoever leaves
        anyway, and its tokens. ``begun``: see ``answer``.

        Raises:
            ModelPoolError: the engine refused.
            BrokenOffError: it did not finish.
        """
        if not self.gathers and request.reshape is None:
            return _whole(await self.whole(request, watch), request)
        reshape = request.reshape
        gathering = (begun and begun.gathering) or self.gathering(request, watch)
        async with self._open(request, watch, begun=begun) as reply:
            await reply.pipe(gathering)
        if not gathering.is_whole() and not (reshape is not None and reshape.is_complete):
            raise BrokenOffError("the engine ended its answer early")
        return gathering.result()

    async def translate(
        self,
        request: EngineRequest,
        translation: Translation,
        exchange: Exchange,
        watch: Watch,
        before_end: Callable[[], Awaitable[None]],
    ) -> Tokens:
        """The engine's stream in the words of another API; ``before_end`` is awaited when it has
        said everything. Returns the tokens it generated.

        Raises:
            ModelPoolError: the engine refused.
            BrokenOffError: perhaps after the first byte.
        """
        words, seen = StreamTranslator(translation, request), Seen(watch)
        async with self._open(request, watch) as reply:
            first = await _first_piece(reply)
            if not exchange.status:
                exchange.begin(200, list(exchange.dialect.stream_headers))
            exchange.write(translation.begin())
            sink = _ClientSink(exchange, seen, words)
            exchange.source = sink
            try:
                sink.write(first)
                await reply.pipe(sink)
            finally:
                exchange.source = None
        if not (seen.is_whole or words.is_complete):
            raise BrokenOffError("the engine ended its stream early")
        exchange.write(words.end())
        watch.rests()
        await before_end()
        exchange.write(translation.end())
        exchange.end()
        return _counted(reply, seen.tail, request)

    async def whole(
        self, request: EngineRequest, watch: Watch, begun: Begun | None = None
    ) -> bytes:
        """An answer that is never a stream. ``begun``: see ``answer``.

        Raises:
            ModelPoolError: the engine refused.
            BrokenOffError: it did not finish.
        """
        async with self._open(request, watch, as_stream=False, begun=begun) as reply:
            body = await reply.read()
            watch.gave()
        return body

    async def relay(
        self,
        request: EngineRequest,
        exchange: Exchange,
        watch: Watch,
        begun: Begun | None = None,
    ) -> Tokens:
        """Pass on what an API of the engine's own answers: a stream, a document, sounds, pictures.
        Returns the tokens that it generated. ``begun``: see ``answer``.

        Raises:
            ModelPoolError: the engine refused.
            BrokenOffError: perhaps after the first byte.
        """
        async with self._open(request, watch, as_stream=False, begun=begun) as reply:
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
            seen = Seen(watch, has_begun=True)
            sink = _ClientSink(exchange, seen)
            exchange.source = sink
            try:
                await reply.pipe(sink)
            finally:
                exchange.source = None
        exchange.end()
        return _told_tokens(reply, seen.tail)

    async def look(self, surface: Surface) -> bytes:
        """What the engine says of itself.

        Raises:
            ModelPoolError: the engine refused.
            BrokenOffError: it did not finish.
        """
        return (await self._get(self._paths.get(surface.path, surface.path)))[1]

    async def tell(self, path: str, body: bytes) -> bytes:
        """Have it change something of itself, of which it answers that it did.

        Raises:
            ModelPoolError: the engine refused.
            BrokenOffError: it did not finish.
        """
        return (await self._converse("POST", path, body))[1]

    async def metrics(self) -> tuple[Headers, bytes]:
        """The engine's page of metrics, and what its head says of it beyond HTTP; empty where it
        has none, or answers none in time."""
        if not self._has_metrics:
            return [], b""
        try:
            async with asyncio.timeout(METRICS_SECONDS):
                headers, body = await self._get("/metrics")
        except (TimeoutError, ModelPoolError, BrokenOffError) as e:
            return [], f"# the engine's own are missing: {e or 'no answer in time'}\n".encode()
        told = [(WRITTEN[n], value) for n, value in headers if n in WRITTEN]
        return told, body

    async def tensors(self) -> dict[str, Any]:
        """``inputs`` and ``outputs`` of a model of tensors, as the metadata of the Open Inference
        Protocol have them; empty where the engine does not say."""
        try:
            async with asyncio.timeout(METRICS_SECONDS):
                told = json.loads((await self._get("/v2/models"))[1])
            return {"inputs": told["inputs"], "outputs": told["outputs"]}
        except (TimeoutError, ModelPoolError, BrokenOffError, ValueError, KeyError, TypeError):
            return {}

    async def fall_asleep(self) -> None:
        """Have it let go of device memory.

        Raises:
            ModelPoolError: the engine refused.
            BrokenOffError: it did not finish.
        """
        assert self.sleep is not None
        await self._change_sleep(self.sleep.sleep, self.sleep.check, is_asleep=True)

    async def wake(self) -> None:
        """Have it take that again.

        Raises:
            ModelPoolError: the engine refused.
            BrokenOffError: it did not finish.
        """
        assert self.sleep is not None
        await self._change_sleep(self.sleep.wake, self.sleep.check, is_asleep=False)

    async def _change_sleep(
        self, steps: Sequence[SleepStep], check: str, *, is_asleep: bool
    ) -> None:
        for step in steps:
            data = b"" if step.body is None else json.dumps(step.body).encode()
            await self._ask("POST", step.path, data)
        if not check:
            return
        said = parse_object(await self._ask("GET", check, b""))
        if said.get("is_sleeping") is not is_asleep:
            text = f"it says {said!r} when asked at {check}, after it was told otherwise"
            raise EngineFailed(text, source="engine")

    async def _ask(self, method: str, path: str, data: bytes) -> bytes:
        headers = [*self._headers, *([JSON_TYPE] if data else [])]
        try:
            with await self._link.request(method, path.encode(), headers, data) as reply:
                body = await reply.read()
        except UpstreamError as e:
            raise BrokenOffError(f"the engine broke off: {e}") from e
        if reply.status != 200:
            raise engine_error(reply.status, body)
        return body

    async def _get(self, path: str) -> tuple[Headers, bytes]:
        return await self._converse("GET", path)

    async def _converse(self, method: str, path: str, body: bytes = b"") -> tuple[Headers, bytes]:
        headers = [*([JSON_TYPE] if body else []), *self._headers]
        try:
            with await self._link.request(method, path.encode(), headers, body) as reply:
                answer = await reply.read()
                if reply.status != 200:
                    raise engine_error(reply.status, answer)
                return reply.headers, answer
        except UpstreamError as e:
            raise BrokenOffError(f"the engine broke off: {e}") from e

    def _written(self, request: EngineRequest, *, as_stream: bool) -> tuple[bytes, Headers, bytes]:
        target = self._paths.get(request.path, request.path).encode()
        return target, [*request.headers, *self._headers], self._body(request, as_stream=as_stream)

    def _body(self, request: EngineRequest, *, as_stream: bool) -> bytes:
        completion = request.completion
        if self._model_name and JSON_TYPE in request.headers:
            completion = named(completion, self._model_name)
        return completion.upstream(as_stream=as_stream)

    @asynccontextmanager
    async def _open(
        self,
        request: EngineRequest,
        watch: Watch,
        *,
        as_stream: bool = True,
        begun: Begun | None = None,
    ) -> AsyncIterator[Reply]:
        target, headers, body = self._written(request, as_stream=as_stream)
        asking: Awaitable[Reply]
        if begun is not None and self._kept is not None:
            asking = self._kept.request("POST", target, headers, body, begun.reply)
        else:
            watch.sent()
            asking = self._link.request("POST", target, headers, body)
        try:
            with await asking as reply:
                if reply.status != 200:
                    words = await reply.read()
                    watch.gave()
                    raise engine_error(reply.status, words, request.path)
                yield reply
        except UpstreamError as e:
            raise BrokenOffError(f"the engine broke off: {e}") from e


@lru_cache(REMEMBERED)
def _head(path: str, endpoint: Endpoint, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Of a request, up to the digits of its length."""
    return head_to_length("POST", path.encode(), host_of(endpoint), headers)


class Seen:
    """What is seen of an answer that is passed on, by the bytes of its pieces.

    Attributes:
        has_begun: something came that is part of the answer. Else it is to be a stream.
        asks, rests: see ``Watch``.
    """

    def __init__(self, watch: Watch, *, has_begun: bool = False) -> None:
        self.asks = watch.asks
        self.rests = watch.rests
        self.has_begun = has_begun
        self._goes_on = watch.goes_on
        self._last: list[bytes] = []
        self._last_bytes = 0
        self._events = 0

    def read(self, data: bytes) -> bytes:
        """What of a piece is passed on.

        Raises:
            BrokenOffError: it is no stream.
        """
        if not self.has_begun:
            data = _without_nothing(data)
            if not data:
                return data
            _check_events(data)
            self.has_begun = True
        self._goes_on()
        if _NOTHING in data:
            data = data.replace(_NOTHING, b"")
        self._events += data.count(_EVENT_END)
        self._last.append(data)
        self._last_bytes += len(data)
        if self._last_bytes > 4 * TAIL_BYTES:
            self._last = [self.tail]
            self._last_bytes = TAIL_BYTES
        return data

    @property
    def tail(self) -> bytes:
        """The last of it."""
        return b"".join(self._last)[-TAIL_BYTES:]

    @property
    def is_whole(self) -> bool:
        """Of a stream of OpenAI's: its last event has come."""
        return sse.DONE in self.tail[-64:]

    @property
    def texts(self) -> int:
        """Pieces of text, about: events but for the last two, which say why it ends and that it
        has."""
        return max(0, self._events - 2)


class _ClientSink:
    """What the engine sends, on its way to the client: as it is, or in other ``words``."""

    def __init__(
        self, exchange: Exchange, seen: Seen, words: Callable[[bytes], bytes] | None = None
    ) -> None:
        self._exchange = exchange
        self._seen = seen
        self._words = words
        self.source: Source | None = None

    @property
    def is_full(self) -> bool:
        return self._exchange.is_full

    def write(self, data: bytes) -> None:
        """See ``Sink``."""
        data = self._seen.read(data)
        self._exchange.write(data if self._words is None else self._words(data))
        if self._exchange.is_full:
            self._seen.rests()

    def pause(self) -> None:
        """The client takes nothing."""
        self._seen.rests()
        if self.source is not None:
            self.source.pause()

    def resume(self) -> None:
        """The client takes again."""
        self._seen.asks()
        if self.source is not None:
            self.source.resume()


class StreamTranslator:
    """Tells an engine's stream in the words of another API, a piece at a time."""

    def __init__(self, translation: Translation, request: EngineRequest) -> None:
        self._translation = translation
        self._reshape = request.reshape
        self._events = sse.Events()
        self._texts = TextChunks("content" if request.path == CHAT_PATH else "text")
        self._tell_text = getattr(translation, "text", self._tell_chunk)

    @property
    def is_complete(self) -> bool:
        """All that there is has come, whether or not the engine says so with a last event."""
        return self._reshape is not None and self._reshape.is_complete

    def __call__(self, data: bytes) -> bytes:
        """What a piece tells.

        Raises:
            ModelPoolError: the engine tells an error.
            BrokenOffError: it makes no sense.
        """
        if self._events.is_between and (known := self._texts.event(data)) is not None:
            told: bytes = self._tell_text(known)
            return told
        events = [e for e in self._events.feed(data) if e not in (b"null", sse.DONE)]
        with makes_sense(events):
            return b"".join(
                map(self._translation.chunk, chain.from_iterable(map(self._read, events)))
            )

    def _read(self, event: bytes) -> list[dict[str, Any]]:
        """What of it is told, parsed only where it has to be."""
        if self._reshape is not None:
            return _told(event, self._reshape)
        if (known := self._texts.read(event)) is not None:
            return [self._texts.chunk(known)]
        chunk = _chunk(event)
        self._texts.parsed(event, chunk)
        return [chunk]

    def _tell_chunk(self, text: str) -> bytes:
        return self._translation.chunk(self._texts.chunk(text))

    def end(self) -> bytes:
        """What is told after the last piece."""
        last = self._reshape.end() if self._reshape is not None else []
        return b"".join(map(self._translation.chunk, last))


class Begun(NamedTuple):
    """A request that its engine was sent by another way.

    Attributes:
        reply: over which its answer comes.
        gathering: has what came of it so far, where a stream is put together.
        seen: the same where one is passed on.
    """

    reply: UpstreamConnection
    gathering: Gathering | None = None
    seen: Seen | None = None


class Gathering:
    """What the engine sends, on its way to be put together.

    Pieces that are as the stream has been are kept, and read at once: to split many of them takes
    hardly longer than to split one.
    """

    is_full = False

    def __init__(self, aggregate: Aggregate, reshape: Reshape | None, watch: Watch) -> None:
        self.source: Source | None = None
        self._is_done = False
        self._has_begun = False
        self._aggregate = aggregate
        self._reshape = reshape
        self._watch = watch
        self._events = sse.Events()
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._ends = NO_ENDS  # of what is kept

    def write(self, data: bytes) -> None:
        """See ``Sink``.

        Raises:
            ModelPoolError: the engine tells an error.
            BrokenOffError: it makes no sense.
        """
        before, after = self._ends
        if before and data.startswith(before) and data.endswith(after):
            self._watch.goes_on()
            self._kept.append(data)
            self._kept_bytes += len(data)
            if self._kept_bytes > BUFFER_BYTES:
                self._read(self._take_kept())
            return
        if not self._has_begun:
            data = _without_nothing(data)
            if not data:
                return
            _check_events(data)
            self._has_begun = True
        self._watch.goes_on()
        self._read(self._take_kept() + data if self._kept else data)

    def is_whole(self) -> bool:
        """Whether its last event has come.

        Raises:
            ModelPoolError, BrokenOffError: as ``write``.
        """
        if self._kept:
            self._read(self._take_kept())
        return self._is_done

    def _take_kept(self) -> bytes:
        data = b"".join(self._kept)
        self._kept.clear()
        self._kept_bytes = 0
        return data

    def _read(self, data: bytes) -> None:
        if self._is_done:  # what follows is no part of the answer
            return
        events = self._events
        if self._reshape is None and events.is_between:
            data = self._take_first(data)
        if data:
            for event in events.feed(data):
                self._take(event)
        self._ends = self._aggregate.run_ends() if events.is_between else NO_ENDS

    def _take_first(self, data: bytes) -> bytes:
        """Where several chunks have come together, most of them may be taken as one; the rest."""
        aggregate = self._aggregate
        for _ in range(_EVENTS_APART):
            data = aggregate.take_run(data)
            event, is_whole, rest = data.partition(_EVENT_END)
            if not is_whole or not event.startswith(b"data:") or b"\n" in event:
                break
            self._take(event[5:].strip())
            if self._is_done:
                return b""
            data = rest
        return data

    def _take(self, event: bytes) -> None:
        if event == sse.DONE:
            self._is_done = True
        elif self._is_done or event == b"null":
            return
        elif self._reshape is not None:
            for chunk in _told(event, self._reshape):
                self._aggregate.add(chunk)
        elif not self._aggregate.takes(event):
            self._aggregate.add(_chunk(event), event)

    def result(self) -> tuple[dict[str, Any], Tokens]:
        """What all of it makes together, and its tokens."""
        for chunk in self._reshape.end() if self._reshape is not None else ():
            self._aggregate.add(chunk)
        result = self._aggregate.result()
        return result, of_usage(result.get("usage"))


async def _first_piece(reply: Reply) -> bytes:
    piece = await reply.piece()
    while piece.startswith(_NOTHING):
        piece = piece[len(_NOTHING) :] or await reply.piece()
    _check_events(piece)
    return piece


def _without_nothing(data: bytes) -> bytes:
    while data.startswith(_NOTHING):
        data = data[len(_NOTHING) :]
    return data


def _check_events(start: bytes) -> None:
    if not sse.is_event_stream(start):
        raise BrokenOffError("the engine sent no event stream")


async def _events(reply: Reply, watch: Watch) -> AsyncIterator[list[bytes]]:
    """The data of the events that each piece brings."""
    events, piece = sse.Events(), await _first_piece(reply)
    while piece:
        watch.gave()
        yield [data for data in events.feed(piece) if data != b"null"]
        watch.asks()
        piece = await reply.piece()


def named(completion: Completion, name: str) -> Completion:
    """PURE. The same request to a model that is called so."""
    body, raw = completion.body, completion.raw
    if raw is not None:
        is_empty = raw.strip() == b"{}"
        raw = None if "model" in body or is_empty else _with_name(raw, name)
    return replace(completion, body={**body, "model": name}, raw=raw)


def _with_name(raw: bytes, name: str) -> bytes:
    return b'{"model":' + json.dumps(name).encode() + b"," + raw.lstrip()[1:]


def _whole(body: bytes, request: EngineRequest) -> tuple[dict[str, Any], Tokens]:
    try:
        value = plain(json.loads(body))
        tokens = _of_value(value, request)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BrokenOffError(f"the engine sent no answer: {body[:100]!r}") from None
    if not value.get("usage"):  # other APIs must tell what this one need not
        value["usage"] = {
            "prompt_tokens": tokens.prompt,
            "completion_tokens": tokens.completion,
            "total_tokens": tokens.prompt + tokens.completion,
        }
    return value, tokens


def put_in_words(translation: Translation, answer: dict[str, Any]) -> dict[str, Any]:
    """A whole answer in the words of another API.

    Raises:
        BrokenOffError: it is none.
    """
    with makes_sense(answer):
        return translation.whole(answer)


@contextmanager
def makes_sense(said: Any) -> Iterator[None]:
    """What is read of an engine's words may be anything.

    Raises:
        BrokenOffError: it was of a shape that nobody reads.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as e:
        log.warning("an answer of the engine is not understood", exc_info=e)
        words = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        text = f"the engine sent an answer that makes no sense: {words[:200]}"
        raise BrokenOffError(text) from None


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
        text = data.decode()
        chunk, end = _read_json(text)
        if end != len(text):
            raise ValueError(end)
    except ValueError:
        raise BrokenOffError(f"the engine sent no JSON: {data[:100]!r}") from None
    if not isinstance(chunk, dict):
        raise BrokenOffError(f"the engine sent no object: {data[:100]!r}")
    if "error" in chunk:
        raise engine_error(_status_of(chunk["error"]), data)
    return plain(chunk)


def _status_of(error: Any) -> int:
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) else 500


def tokens_of_stream(request: EngineRequest, seen: Seen, reply: Reply | None = None) -> Tokens:
    """PURE. Tokens of a stream that was passed on; ``reply``: of a link that counts them, too."""
    return _counted(reply, seen.tail, request, seen.texts)


def _counted(reply: Reply | None, tail: bytes, request: EngineRequest, pieces: int = 0) -> Tokens:
    """Tokens of a stream: those that it told its client, else those that it told its link, else as
    many as it had ``pieces``, and what its request had bytes for."""
    told = _told_tokens(reply, tail)
    if told.completion and told.prompt:
        return told
    pieces = int(getattr(reply, "tokens", 0)) or pieces
    return estimated(told, len(request.completion.upstream()), pieces)


def _told_tokens(reply: Reply | None, tail: bytes) -> Tokens:
    """As its link has read them, whether or not they are passed on and however often a stream tells
    them; else as they stand in its last kilobytes."""
    read = count_tokens(getattr(reply, "usage", b""))
    return read if read.completion or read.prompt else count_tokens(tail)


def tokens_of_answer(body: bytes, request: EngineRequest) -> Tokens:
    """PURE. Tokens of an answer in one piece: as it tells, else by the bytes of its texts."""
    if (told := usage_after(_USAGE, body)) is not None:
        return told
    # A shorter way to look through, where it is there; else all of it.
    told = count_tokens(body.rpartition(_USAGE)[2][-TAIL_BYTES:])
    if told != NO_TOKENS:
        return told
    try:
        return _of_value(json.loads(body), request)
    except (ValueError, KeyError, TypeError, AttributeError):
        return told


def _of_value(answer: dict[str, Any], request: EngineRequest) -> Tokens:
    told = of_usage(answer.get("usage"))  # some tell it before a long text
    if told.completion or told.prompt:
        return told
    size = sum(len(text.encode()) for text in _texts(answer))
    return estimated(told, len(request.completion.upstream()), -(-size // BYTES_PER_TOKEN))


def _texts(answer: dict[str, Any]) -> Iterator[str]:
    """Those of all choices, of a chat or a text completion."""
    for choice in answer["choices"]:
        message = choice.get("message") or choice
        yield from (message.get(key) or "" for key in ("content", "text", "reasoning_content"))
        for call in message.get("tool_calls") or ():
            yield call["function"]["arguments"]


def engine_error(status: int, body: bytes, path: str = CHAT_PATH) -> ModelPoolError:
    """PURE. An engine's error answer as ours: its message and parameter, our code, source
    ``engine``."""
    error = _engine_words(status, body)
    message, kind = str(error["message"]), error.get("type")
    if _SHARED_IS_FULL in message:
        return Unavailable(message, source="engine", retry_after=1)
    is_long = kind == "exceed_context_size_error" or ("exceed" in message and "context" in message)
    if is_long or "is too large to process" in message:
        surface = SURFACES.get(path)
        return _too_long(error, surface.source if surface is not None else "prompt")
    param = said if isinstance(said := error.get("param"), str) else None
    if status == 501:
        return NotSupported(message, param=param, source="engine")
    if status in TOO_MANY:
        return Unavailable(message, source="engine", retry_after=1)
    # llama.cpp answers some wrong bodies with 500: an exception of its JSON library, an image
    # without a projector.
    if 400 <= status < 500 or "[json.exception" in message or "is not supported" in message:
        return InvalidRequest(message, param=param, source="engine")
    return EngineFailed(message, source="engine")


# llama.cpp where requests share a context: together they are too long, each may be short enough.
_SHARED_IS_FULL = "Context size has been exceeded"
# llama.cpp of a text for embeddings, all of which has to be in one batch: as large as its context.
_OVER_A_BATCH = re.compile(r"\((\d+) tokens\) is too large to process.*batch size: (\d+)\)")


def _too_long(error: Mapping[str, Any], param: str) -> ContextLengthExceeded:
    """With both numbers, where the engine tells them."""
    tokens, limit = error.get("n_prompt_tokens"), error.get("n_ctx")
    if tokens is None and (told := _OVER_A_BATCH.search(str(error["message"]))):
        tokens, limit = map(int, told.groups())
    if tokens is None or limit is None:
        return ContextLengthExceeded(str(error["message"]), param=param, source="engine")
    return ContextLengthExceeded.of(tokens, limit, param)


def _engine_words(status: int, body: bytes) -> dict[str, Any]:
    try:
        error = json.loads(body)["error"]
        return {"message": error["message"], **error}
    except (ValueError, KeyError, TypeError):
        text = body[:200].decode(errors="replace")
        return {"message": f"the engine answered {status}: {text}"}
