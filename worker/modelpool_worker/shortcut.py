"""The shortcut through a front: a chat or a text completion that is wanted in one piece is relayed,
or put together, without a task.

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
from modelpool_client.http1.message import Headers, Request, status_line
from modelpool_client.http1.passage import MOST_BYTES, Passage
from modelpool_client.http1.request_ids import REQUEST_ID, new_id
from modelpool_client.http1.upstream_connection import UpstreamConnection
from modelpool_client.surfaces.body import parse_object
from modelpool_client.surfaces.codecs import CODECS
from modelpool_client.surfaces.families import read
from modelpool_client.surfaces.paths import route_path
from modelpool_client.surfaces.routes import (
    BASIC,
    CHAT_PATH,
    SPELLINGS,
    SURFACES,
    Surface,
    check_engine,
)
from modelpool_client.tracing.context import TRACEPARENT, read_parent
from modelpool_client.wire import RESOLVED_HEADER, VIRTUAL_HEADER

from .batching.queue import PRIORITY
from .calls import Call, CallInfo
from .engine_client import PLAIN_HEADERS, Gathering, tokens_of_answer
from .gathered import Gathered
from .surfaces.reshape import EngineRequest, engine_request

if TYPE_CHECKING:
    from .app import App
    from .worker import Worker


VIA = VIRTUAL_HEADER.encode()
ID_LINE = b"\r\n" + REQUEST_ID + b": "


class _Head:
    """What follows from the head of a request; ``route`` names it in the metrics."""

    __slots__ = ("is_direct", "parent", "request", "route", "surface", "via")

    def __init__(self, request: Request, surface: Surface, route: str, *, is_direct: bool) -> None:
        self.request = request
        self.surface = surface
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
            asked = self._asked(head, body, said)
            # Last, for the app would ask again.
            if asked is None or (self.worker.tracing.is_on and self._is_traced(client, head)):
                return False
            begun = engine.begin(asked)
        except Exception:  # a refusal, or a bug: the app meets it again, and tells
            return False
        if begun is None:
            return False
        reply, message = begun
        request_id = parts.request_id or new_id()
        errand = _Errand(self, head, body, asked, request_id)
        info = _info(head, said, request_id)
        if not engine.gathers:
            passage = Passage(client, reply, errand)
            errand.begin(self.worker.call(passage, info))
            passage.begin(message)
            return True
        gathered = Gathered(client, reply, errand)
        call = self.worker.call(gathered, info)
        errand.begin(call)
        errand.gathering = engine.gathering(asked, call)
        gathered.begin(message, errand.gathering)
        return True

    def _read(self, head: bytes) -> _Head | None:
        request = read_request(head)
        if request is None or request.method != "POST":
            return None
        path = route_path(request.path, request.raw_path)
        surface = SURFACES.get(SPELLINGS.get(path, path))
        if surface is None or surface.path not in BASIC:
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
        """What the engine is asked; None: it is asked for a stream, or for one model of several.

        Raises:
            ModelPoolError: it is refused.
        """
        worker, surface = self.worker, head.surface
        if worker.engine.heeds_priority and PRIORITY in head.request.fields:
            return None  # the engine is told, too
        worker.check_ready()
        check_engine(surface, worker.assignment.model_id, worker.assignment.engine, worker.serves)
        name = said.get("model")
        is_one_of_several = worker.backend.served or (
            isinstance(name, str) and worker.backend.resolve(name)
        )
        if said.get("stream") or is_one_of_several:
            return None
        completion = read(surface, said, body, worker.support).completion
        if completion.stream:
            return None
        if head.is_direct:
            worker.check_model(said)
        if surface.path == CHAT_PATH:
            worker.check_chat()
        return engine_request(surface.path, completion, worker.support, worker.answer_head)


class _Errand:
    """A request on its way through the front."""

    __slots__ = ("_asked", "_body", "_head", "_request_id", "_way", "call", "gathering")

    call: Call

    def __init__(
        self, way: Shortcut, head: _Head, body: bytes, asked: EngineRequest, request_id: bytes
    ) -> None:
        self._request_id = request_id
        self._way = way
        self._head = head
        self._body = body
        self._asked = asked
        self.gathering: Gathering | None = None

    def begin(self, call: Call) -> None:
        """It is about to be sent."""
        self.call = call
        call.begin()
        call.sent()

    def answer(self, head: bytes, request_id: bytes, body: bytes) -> bytes | None:
        """See ``Errand``."""
        if not _is_answer(head):
            return None
        self.call.gave()
        self.call.tokens = tokens_of_answer(body, self._asked)
        return self._answer(body)

    def whole(self) -> bytes:
        """See ``gathered.Errand``."""
        assert self.gathering is not None
        value, self.call.tokens = self.gathering.result()
        return self._answer(json.dumps(value).encode())

    def _answer(self, body: bytes) -> bytes:
        told = _told(tuple(self._asked.completion.headers))
        return b"%b%d%b%b\r\n\r\n%b" % (told, len(body), ID_LINE, self._request_id, body)

    def stream_head(self, headers: Headers) -> None:
        """See ``Errand``: what is wanted is no stream."""
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
        self.call.end(has_left=status == 0)
        self._way.worker.metrics.count(self._head.route, status)

    def hand_over(self, client: Connection, reply: UpstreamConnection) -> Exchange:
        """See ``Errand``."""
        request = with_length(self._head.request, len(self._body), self._request_id)
        go_on = partial(
            self._way.app.go_on,
            request=self._asked,
            call=self.call,
            reply=reply,
            gathering=self.gathering,
            route=self._head.route,
        )
        exchange = self.call.exchange = client.hand_over_passage(request, self._body, go_on)
        return exchange


def _info(head: _Head, said: Mapping[str, Any], request_id: bytes) -> CallInfo:
    name = said.get("model")
    model = name if isinstance(name, str) else ""
    return CallInfo(head.surface.path, model, request_id, head.via, False, head.is_direct)


@lru_cache(REMEMBERED)
def _is_answer(head: bytes) -> bool:
    return read_answer(head) is not None


@lru_cache(REMEMBERED)
def _told(more: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """The head of a whole answer, up to the digits of its length."""
    lines = [b"%b: %b\r\n" % pair for pair in (*PLAIN_HEADERS, *more)]
    return b"".join([status_line(200), *lines, b"content-length: "])
