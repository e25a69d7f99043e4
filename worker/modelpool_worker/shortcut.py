"""The shortcut through a front: a chat or a text completion is relayed, or put together where it is
wanted in one piece, without a task; so is relayed what an engine answers in another API.

It takes what it can see to the end, and leaves everything else untouched for the ``App``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from modelpool_client.errors import ModelPoolError
from modelpool_client.http1.connection import Connection
from modelpool_client.http1.exchange import Exchange
from modelpool_client.http1.known_heads import (
    REMEMBERED,
    KnownHeads,
    cut,
    read_answer,
    read_request,
    with_length,
)
from modelpool_client.http1.message import Headers, Request, describing, status_line
from modelpool_client.http1.passage import MOST_BYTES, Passage
from modelpool_client.http1.request_ids import REQUEST_ID, new_id
from modelpool_client.http1.upstream_connection import UpstreamConnection
from modelpool_client.surfaces import embeddings, sse
from modelpool_client.surfaces.adapters import PARAMETER as ADAPTERS
from modelpool_client.surfaces.body import parse_object
from modelpool_client.surfaces.codecs import CODECS
from modelpool_client.surfaces.families import FAMILIES, Asked, load_only
from modelpool_client.surfaces.openai import ignored_headers
from modelpool_client.surfaces.paths import route_path
from modelpool_client.surfaces.requests import checked
from modelpool_client.surfaces.routes import (
    BASIC,
    CHAT_PATH,
    CHAT_TOKENS_PATH,
    SPELLINGS,
    SURFACES,
    Surface,
)
from modelpool_client.tracing.context import TRACEPARENT, read_parent
from modelpool_client.wire import RESOLVED_HEADER, VIRTUAL_HEADER, Phase

from .batching.queue import PRIORITY
from .calls import Call, CallInfo, info_of
from .engine_client import (
    PLAIN_HEADERS,
    TAIL_BYTES,
    Begun,
    Gathering,
    Seen,
    tokens_of_answer,
    tokens_of_stream,
)
from .gathered import Gathered
from .streamed import Streamed
from .surfaces.reshape import EngineRequest, engine_request, with_versions
from .tokens import count_tokens

if TYPE_CHECKING:
    from .app import App
    from .worker import Worker


VIA = VIRTUAL_HEADER.encode()
ID_LINE = b"\r\n" + REQUEST_ID + b": "


class _Head:
    """What follows from the head of a request; ``route`` names it in the metrics.

    Attributes:
        is_basic: asks what every engine answers; else what this one does itself, for a front only
            relays here.
        is_chat: needs a chat template.
    """

    __slots__ = (
        *("is_basic", "is_chat", "is_direct", "parent", "request", "route", "surface", "via"),
    )

    def __init__(self, request: Request, surface: Surface, route: str, *, is_direct: bool) -> None:
        self.request = request
        self.surface = surface
        self.is_basic = surface.path in BASIC
        self.is_chat = surface.path in (CHAT_PATH, CHAT_TOKENS_PATH)
        self.route = route
        self.is_direct = is_direct
        self.via = b"" if is_direct else request.fields.get(VIA, b"")
        self.parent = read_parent(request.fields.get(TRACEPARENT))


class Shortcut:
    """Called with a connection between two requests and what has come over it; see
    ``connection.Shortcut``."""

    def __init__(self, worker: Worker, app: App) -> None:
        self.app = app
        self.worker = worker
        self._resolved = (RESOLVED_HEADER, worker.assignment.model_id.encode())
        self._heads = KnownHeads(self._read, lambda: worker.guard.allowlist)

    def __call__(self, client: Connection, data: bytes) -> bool | None:
        """True: it is on its way. None: not all of its body is there."""
        if self.worker.capture.is_on:
            return False
        parts = cut(data)
        if parts is None:
            return False
        body, length = parts.body, parts.length
        if len(body) > length or length > MOST_BYTES:
            return False
        head = self._heads(parts.head)
        if head is None:
            return False
        if len(body) < length:
            return None
        engine = self.worker.engine
        try:
            said = parse_object(body)
            request = self._asked(head, body, said)
            # Last, for the app would ask again.
            if request is None or (self.worker.tracing.is_on and self._is_traced(client, head)):
                return False
            begun = engine.begin(request, is_relayed=not head.is_basic)
        except Exception:  # a refusal, or a bug: the app meets it again, and tells
            return False
        if begun is None:
            return False
        reply, message = begun
        request_id = parts.request_id or new_id()
        errand = _Errand(self, head, body, said, request, request_id)
        info = _info(head, said, request, request_id)
        if request.completion.stream:
            streamed = Streamed(client, reply, errand)
            call = self.worker.call(streamed, info)
            errand.begin(call)
            errand.seen = Seen(call)
            streamed.begin(message, errand.seen)
        elif head.is_basic and engine.gathers:
            gathered = Gathered(client, reply, errand)
            call = self.worker.call(gathered, info)
            errand.begin(call)
            errand.gathering = engine.gathering(request, call)
            gathered.begin(message, errand.gathering)
        else:
            passage = Passage(client, reply, errand)
            errand.begin(self.worker.call(passage, info))
            passage.begin(message)
        return True

    def _read(self, head: bytes) -> _Head | None:
        request = read_request(head)
        if request is None or request.method != "POST":
            return None
        path = route_path(request.path, request.raw_path)
        surface = SURFACES.get(SPELLINGS.get(path, path))
        if surface is None or surface.codec != "json" or surface.model_in != "body":
            return None
        try:
            if self.worker.guard.check(request) is not None:
                return None
            CODECS[surface.codec].check(request.headers, "worker")
        except ModelPoolError:
            return None
        is_direct = self._resolved not in request.headers
        return _Head(request, surface, self.app.route_name(path), is_direct=is_direct)

    def _is_traced(self, client: Connection, head: _Head) -> bool:
        if head.parent is not None:
            return head.parent.is_sampled
        return head.is_direct and self.worker.sampler.takes_next(client)

    def _asked(self, head: _Head, body: bytes, said: dict[str, Any]) -> EngineRequest | None:
        """What the engine is asked; None: nothing now, or what is asked is a stream of another
        API's, one model of several, or has to be translated.

        Raises:
            ModelPoolError: it is refused.
        """
        worker, surface = self.worker, head.surface
        if worker.phase is not Phase.READY or not surface.is_answered(worker.serves):
            return None
        if worker.engine.heeds_priority and PRIORITY in head.request.fields:
            return None  # the engine is told, too
        if worker.adapters is not None and (worker.adapters or ADAPTERS in said):
            return None  # scales are put right
        name = said.get("model")
        is_one_of_several = worker.backend.served or (
            isinstance(name, str) and worker.backend.resolve(name)
        )
        if is_one_of_several or not (head.is_basic or self._is_relayed(head, said)):
            return None
        completion = checked(surface.path, said, body, worker.support)
        if completion.stream and not head.is_basic:
            return None
        if head.is_direct:
            worker.check_model(said)
        if head.is_chat:
            worker.check_chat()
        request = engine_request(surface.path, completion, worker.support, worker.answer_head)
        if surface.family == "anthropic":
            request = with_versions(request, head.request.headers)
        return request

    def _is_relayed(self, head: _Head, said: dict[str, Any]) -> bool:
        """Whether the engine answers a request of a further API itself, and in one piece.

        Raises:
            ModelPoolError: it is refused.
        """
        surface = head.surface
        if said.get("stream") or surface.path not in self.worker.serves:
            return False
        if load_only(surface, said) is not None:
            return False
        # Straight to a worker that would change nothing, which is said.
        return not head.is_direct or FAMILIES[surface.family].keep_alive(said) is None


class _Errand:
    """A request on its way through the front."""

    __slots__ = (
        *("_body", "_head", "_request", "_request_id", "_said", "_way"),
        *("call", "gathering", "seen"),
    )

    call: Call

    def __init__(
        self,
        way: Shortcut,
        head: _Head,
        body: bytes,
        said: dict[str, Any],
        request: EngineRequest,
        request_id: bytes,
    ) -> None:
        self._request_id = request_id
        self._way = way
        self._head = head
        self._body = body
        self._said = said
        self._request = request
        self.gathering: Gathering | None = None
        self.seen: Seen | None = None

    def begin(self, call: Call) -> None:
        """It is about to be sent."""
        self.call = call
        call.begin_sent()

    def answer(self, head: bytes, request_id: bytes, body: bytes) -> bytes | None:
        """See ``Errand``."""
        path, ignored = self._head.surface.path, self._request.completion.ignored
        if self._head.is_basic:
            told = _told(head, ignored)
            tokens = tokens_of_answer(body, self._request)
        else:
            is_finished = path in embeddings.BODIES
            told = _told(head, ignored) if is_finished else _relayed(head, ignored)
            tokens = count_tokens(body[-TAIL_BYTES:])
            if told is not None and is_finished:
                try:
                    body = embeddings.finished(path, self._said, body)
                except Exception:  # which the app will meet, and tell
                    return None
        if told is None:
            return None
        self.call.gave()
        self.call.tokens = tokens
        return self._answer(told, body)

    def whole(self) -> bytes:
        """See ``gathered.Errand``."""
        assert self.gathering is not None
        value, self.call.tokens = self.gathering.result()
        told = _plain(self._request.completion.ignored)
        return self._answer(told, json.dumps(value).encode())

    def head(self) -> bytes:
        """See ``streamed.Errand``."""
        told = _stream_head(self._request.completion.ignored)
        return b"%b%b\r\n\r\n" % (told, self._request_id)

    def _answer(self, told: bytes, body: bytes) -> bytes:
        return b"%b%d%b%b\r\n\r\n%b" % (told, len(body), ID_LINE, self._request_id, body)

    def stream_head(self, headers: Headers) -> None:
        """See ``Errand``: what is wanted there is no stream."""
        return

    def ended(
        self,
        status: int,
        answered_at: float | None,
        sent_bytes: int,
        tail: bytes,
        *,
        has_left: bool,
    ) -> None:
        """See ``Errand``."""
        call, seen = self.call, self.seen
        if seen is not None and not has_left:
            call.tokens = tokens_of_stream(self._request, seen)
        call.end(has_left=has_left)
        self._way.worker.metrics.count(self._head.route, status)

    def hand_over(self, client: Connection, reply: UpstreamConnection) -> Exchange:
        """See ``Errand``."""
        head, completion = self._head, self._request.completion
        request = with_length(head.request, len(self._body), self._request_id)
        go_on = partial(
            self._way.app.go_on,
            asked=Asked(head.surface, self._said, head.surface.path, completion),
            request=self._request,
            call=self.call,
            begun=Begun(reply, self.gathering, self.seen),
            route=head.route,
        )
        exchange = self.call.exchange = client.hand_over_passage(request, self._body, go_on)
        return exchange


def _info(
    head: _Head, said: Mapping[str, Any], request: EngineRequest, request_id: bytes
) -> CallInfo:
    name, is_stream = said.get("model"), request.completion.stream
    model = name if isinstance(name, str) else ""
    path = head.surface.path
    return info_of((path, model, request_id, head.via, is_stream, head.is_direct, None, None))


@lru_cache(REMEMBERED)
def _told(head: bytes, ignored: tuple[str, ...]) -> bytes | None:
    """The head of a whole answer, up to the digits of its length."""
    return None if read_answer(head) is None else _plain(ignored)


@lru_cache(REMEMBERED)
def _stream_head(ignored: tuple[str, ...]) -> bytes:
    """The head of a stream, up to the id of its request."""
    lines = [b"%b: %b\r\n" % pair for pair in (*sse.HEADERS, *ignored_headers(ignored))]
    return b"".join([status_line(200), *lines, b"transfer-encoding: chunked", ID_LINE])


@lru_cache(REMEMBERED)
def _plain(ignored: tuple[str, ...]) -> bytes:
    return _written([*PLAIN_HEADERS, *ignored_headers(ignored)])


@lru_cache(REMEMBERED)
def _relayed(head: bytes, ignored: tuple[str, ...]) -> bytes | None:
    """The same of an answer whose type its engine says."""
    headers = read_answer(head)
    if headers is None or sse.is_announced(headers):
        return None
    return _written([*describing(headers), *ignored_headers(ignored)])


def _written(headers: Headers) -> bytes:
    lines = [b"%b: %b\r\n" % pair for pair in headers]
    return b"".join([status_line(200), *lines, b"content-length: "])
