"""The shortcut through the gateway: nearly every request is a chat or a text completion for a model
that is HOT, over a connection that goes on, and is passed on without a task; so is what is asked of
other APIs, where it is answered in one piece.

It takes what it can see to the end, and leaves everything else untouched for the gateway: what is
to be translated, shared or refused, what has to wait, what a web page asks, what is written in an
unusual way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from modelpool_client.errors import ModelPoolError
from modelpool_client.http1.connection import Connection
from modelpool_client.http1.endpoint import LocalEndpoint, host_of
from modelpool_client.http1.exchange import Exchange, is_stream
from modelpool_client.http1.known_heads import (
    REMEMBERED,
    KnownHeads,
    cut,
    read_answer,
    read_request,
    with_length,
)
from modelpool_client.http1.message import Headers, Request, head_to_length, status_line
from modelpool_client.http1.passage import MOST_BYTES, Passage
from modelpool_client.http1.relay import passed_on
from modelpool_client.http1.request_ids import REQUEST_ID, new_id
from modelpool_client.http1.upstream import Upstream
from modelpool_client.http1.upstream_connection import UpstreamConnection
from modelpool_client.surfaces.body import parse_object
from modelpool_client.surfaces.dialect import OPENAI
from modelpool_client.surfaces.families import FAMILIES, Family
from modelpool_client.surfaces.routes import BASIC, SPELLINGS, SURFACES, Surface, check_capabilities
from modelpool_client.tracing.context import TRACEPARENT, is_sampled, read_parent

from modelpool.catalog.catalog import Catalog
from modelpool.catalog.model import Model
from modelpool.gateway.breakers import UNWATCHED
from modelpool.gateway.relay import (
    CLIENT_LEFT,
    Asked,
    Begun,
    Gateway,
    Meter,
    Wish,
    affinity_of,
    forwarded,
    is_renamed,
    is_shared,
    model_header,
    priority_of,
    told_headers,
    told_owner,
)
from modelpool.gateway.stream_watch import last_error
from modelpool.observe.access_line import Access
from modelpool.pool.pool import Pool
from modelpool.pool.waiters import UNUSED, Grant, Use

ID_LINE = b"\r\n" + REQUEST_ID + b": "
NONE = (None, None)
# Of names and surfaces that were asked for.
MOST_ROUTES = 1024
# For so many workers a head is remembered as it is sent to them.
WORKERS = 4

# The path that a request of no web page asks for, if it may; None: the entry has more to say.
Admits = Callable[[Request], str | None]
# Hears of each request that is over, and of how many workers will tell of it.
Note = Callable[[Access, int], None]


class Editions(Protocol):
    """The catalog, as far as routes need it."""

    @property
    def edition(self) -> int: ...


class _Head:
    """What follows from the head of a request."""

    __slots__ = ("_sent", "family", "has_parent", "request", "surface")

    def __init__(self, request: Request, surface: Surface) -> None:
        self.request = request
        self.surface = surface
        # Of what has to be looked at more closely, and is passed on in one piece only.
        self.family = None if surface.path in BASIC else FAMILIES[surface.family]
        self.has_parent = read_parent(request.fields.get(TRACEPARENT)) is not None
        self._sent: dict[tuple[str, int], bytes] = {}

    def sent(self, model_id: str, endpoint: LocalEndpoint) -> bytes:
        """As the worker of that model gets it, up to the digits of its length."""
        key = (model_id, endpoint.port)
        known = self._sent.get(key)
        if known is None:
            if len(self._sent) >= WORKERS:
                self._sent.clear()
            known = self._sent[key] = _sent(self.request, self.surface, model_id, endpoint)
        return known


class Shortcut:
    """Called with a connection between two requests and what has come over it; see
    ``connection.Shortcut``."""

    def __init__(
        self,
        admits: Admits,
        edition: Callable[[], object],
        gateway: Gateway,
        catalog: Catalog,
        pool: Pool,
        upstream: Upstream,
        meter: Meter,
        note: Note | None = None,
    ) -> None:
        """``edition`` is another object whenever ``admits`` may say something else. ``note``: for
        the access log, where there is one."""
        self._admits = admits
        self.gateway = gateway
        self._catalog = catalog
        self._pool = pool
        self._upstream = upstream
        self.meter = meter
        self.note = note
        self._heads = KnownHeads(self._read, edition)
        self.watched = gateway.breakers.watched
        self._sampler = None if gateway.tracer is None else gateway.tracer.sampler
        self._routes = Routes(catalog)

    def __call__(self, client: Connection, data: bytes) -> bool | None:
        """True: it is on its way. None: not all of its body is there, or no connection is free."""
        parts = cut(data)
        if parts is None:
            return False
        body, length = parts.body, parts.length
        if len(body) > length or length > MOST_BYTES:
            return False
        head = self._heads(parts.head)
        if head is None or length > self._pool.config.max_body_bytes:
            return False
        if len(body) < length:
            return None
        try:
            said = parse_object(body)
            model = self._model(head.surface, head.family, body, said)
            if model is None:
                return False
            if "priority" in said:
                priority_of(head.request, said)
            if self.watched and self.gateway.breakers.is_watched(model.model_id):
                return False  # its breakers want to hear of it
            # Last, for another way would ask again.
            sampler = self._sampler
            if sampler is not None and not head.has_parent and sampler.takes_next(client):
                return False
            affinity = affinity_of(head.request, said, model.balance)
            grant = self._pool.try_acquire(model.model_id, affinity)
        except Exception:  # a refusal, or a bug: the gateway meets it again, and tells
            return False
        if grant is None:
            return False
        endpoint = grant.endpoint
        reply = self._upstream.take(endpoint)
        if reply is None:  # a crowd has come, or has left in the middle of its answers
            grant.release(UNUSED)
            self._upstream.open(endpoint, client.go_on)
            return None
        self.meter.began(model.model_id, was_hot=grant.was_hot)
        request_id, peer = parts.request_id, ""
        if self.note is not None:  # by which its worker is to know it, too
            request_id, peer = request_id or new_id(), client.peer
        at = time.perf_counter()
        if client.held_since is not None:  # for its rest, or for a connection
            at -= client.now() - client.held_since
        errand = _Errand(self, head, model, said, body, affinity, grant, request_id, peer, at)
        request = head.sent(grant.model_id, endpoint)
        own = ID_LINE + request_id if request_id else b""
        message = b"%b%d%b\r\n\r\n%b" % (request, length, own, body)
        Passage(client, reply, errand).begin(message)
        return True

    def _read(self, head: bytes) -> _Head | None:
        request = read_request(head)
        if request is None or request.method != "POST":
            return None
        path = self._admits(request)
        if path is None:
            return None
        surface = SURFACES.get(SPELLINGS.get(path, path))
        if surface is None or not _names_model_in_json(surface):
            return None
        if self._sampler is not None and is_sampled(request.fields.get(TRACEPARENT)):
            return None
        try:
            priority_of(request, {})
        except ModelPoolError:
            return None
        return _Head(request, surface)

    def _model(
        self, surface: Surface, family: Family | None, body: bytes, said: dict[str, Any]
    ) -> Model | None:
        """Whom it is for, if that is told no more than what the request says.

        Raises:
            ModelPoolError: it is refused.
        """
        name = said.get("model")
        if not isinstance(name, str) or (model := self._catalog.find(name)) is None:
            return None
        sampling: Mapping[str, Any] = said
        if family is not None:
            is_able = self.gateway.is_known_able(surface, model)
            if not is_able or not _is_whole(family, surface, said):
                return None
            sampling = family.sampling(said)
        route = self._routes.of(name, surface, model)
        if not route.is_plain:
            return None
        is_fixed = sampling.get("seed") is not None or sampling.get("temperature") == 0
        if (route.may_share or is_fixed) and is_shared(surface, model, body, said):
            return None
        if model.denied_capabilities:
            self.gateway.check_denied(surface, model, said)
        return model


class _Route(NamedTuple):
    """What follows from a surface and a model's name.

    Attributes:
        is_plain: requests go to the model's worker as they are: no rules of its entry apply.
        may_share: they may be shared whatever they say; else only if they name a seed or a
            temperature of 0.
    """

    model: Model
    is_plain: bool
    may_share: bool


class Routes:
    """Those that were found lately, by name and surface."""

    def __init__(self, catalog: Editions) -> None:
        self._catalog = catalog
        self._edition = catalog.edition
        self._known: dict[tuple[str, str], _Route] = {}

    def __len__(self) -> int:
        return len(self._known)

    def of(self, name: str, surface: Surface, model: Model) -> _Route:
        """That of a model which the catalog has by that name."""
        route = self._known.get((name, surface.path))
        if route is None or route.model is not model:
            self._make_room()
            route = self._known[name, surface.path] = _route(name, surface, model)
        return route

    def _make_room(self) -> None:
        # Routes of models that are gone would keep them.
        if self._edition != self._catalog.edition or len(self._known) >= MOST_ROUTES:
            self._edition = self._catalog.edition
            self._known.clear()


def _route(name: str, surface: Surface, model: Model) -> _Route:
    try:
        check_capabilities(surface, model.model_id, model.known_capabilities)
    except ModelPoolError:
        return _Route(model, False, False)
    named = {"seed": None, "temperature": None, **model.options}
    may_share = model.coalesce == "identical" or (named["seed"], named["temperature"]) != NONE
    is_plain = not (model.request or model.fallbacks) and not is_renamed(model, name)
    return _Route(model, is_plain, may_share)


class _Errand:
    """A request on its way through the gateway."""

    __slots__ = (
        *("_way", "_head", "_model", "_said", "_body", "_affinity", "_grant"),
        *("_at", "_body_bytes", "_is_stream", "_peer", "_request_id"),
    )

    def __init__(
        self,
        way: Shortcut,
        head: _Head,
        model: Model,
        said: dict[str, Any],
        body: bytes,
        affinity: str,
        grant: Grant,
        request_id: bytes,
        peer: str,
        at: float,
    ) -> None:
        self._way = way
        self._peer = peer
        self._is_stream = False
        self._body_bytes: int | None = None  # of a whole answer
        self._request_id = request_id
        self._head = head
        self._model = model
        self._said = said
        self._body = body
        self._affinity = affinity
        self._grant = grant
        self._at = at

    def answer(self, head: bytes, request_id: bytes, body: bytes) -> bytes | None:
        """See ``Errand``."""
        told = _answer_head(head, self._model.model_id)
        if told is None:
            return None
        self._body_bytes = len(body)
        # The worker has made one where the client had none.
        request_id = request_id or self._request_id
        own = ID_LINE + request_id if request_id else b""
        return b"%b%d%b\r\n\r\n%b" % (told, len(body), own, body)

    def stream_head(self, headers: Headers) -> bytes | None:
        """See ``Errand``."""
        if self._head.family is not None:
            return None
        if self._way.note is not None:
            self._is_stream = is_stream(headers, OPENAI)
        known = tuple(pair for pair in headers if pair[0] != REQUEST_ID)
        request_id = dict(headers).get(REQUEST_ID) or self._request_id
        own = b"%b: %b\r\n" % (REQUEST_ID, request_id) if request_id else b""
        return b"%b%b\r\n" % (_stream_head(known, self._model.model_id), own)

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
        broken = last_error(tail) if tail else None
        model_id, way = self._model.model_id, self._way
        if status and (broken is not None or way.watched):
            said = status if broken is None else broken.status
            headers = [] if broken is None else told_headers(broken)
            way.gateway.breakers.answered(model_id, self._grant, UNWATCHED, said, headers)
        first = None
        if answered_at is not None and broken is None:  # an error is told quickly
            first = answered_at - self._at
        self._grant.release(Use(status > 0, first))
        seconds = time.perf_counter() - self._at
        told = broken.status if broken is not None else status or CLIENT_LEFT
        way.meter.ended(model_id, told, seconds)
        if way.note is not None:
            code = broken.code if broken is not None else ""
            if has_left:
                told, code = CLIENT_LEFT, "client_left"
            way.note(self._access(told, code, seconds, first, sent_bytes), 1)

    def _access(
        self, status: int, code: str, seconds: float, first: float | None, sent_bytes: int
    ) -> Access:
        request = self._head.request
        return Access(
            time.time() - seconds,
            self._request_id.decode("latin-1"),
            self._peer,
            path=request.raw_path.decode("latin-1"),
            model=self._model.model_id,
            status=status,
            code=code,
            sent_bytes=sent_bytes if self._body_bytes is None else self._body_bytes,
            seconds=seconds,
            first_token_seconds=first if self._is_stream else None,
            referer=request.fields.get(b"referer", b"").decode("latin-1"),
            user_agent=request.fields.get(b"user-agent", b"").decode("latin-1"),
        )

    def hand_over(self, client: Connection, reply: UpstreamConnection) -> Exchange:
        """See ``Errand``."""
        request = with_length(self._head.request, len(self._body), self._request_id)
        begun = Begun(self._grant, reply, self._at)

        async def go_on(exchange: Exchange) -> None:
            exchange.headers.append(model_header(self._model.model_id))
            surface, model = self._head.surface, self._model
            asked = Asked(
                request,
                exchange,
                surface,
                model,
                self._body,
                self._said,
                surface.path,
                request.query,
            )
            wish = Wish(priority_of(request, self._said) or model.priority, self._affinity)
            await self._way.gateway.go_on(exchange, asked, wish, begun)

        exchange = client.hand_over_passage(request, self._body, go_on)
        exchange.began_at -= time.perf_counter() - self._at
        if reply.answered_at is not None:
            exchange.first_at = exchange.began_at + reply.answered_at - self._at
        return exchange


def _names_model_in_json(surface: Surface) -> bool:
    return surface.codec == "json" and surface.model_in == "body"


def _is_whole(family: Family, surface: Surface, said: dict[str, Any]) -> bool:
    """Whether a request asks for an answer in one piece, and for nothing else."""
    path = surface.path
    if family.is_stream(path, said) or family.keep_alive(said) is not None:
        return False
    if family.earlier_id(said) is not None:
        return False
    return family.load_answer is None or family.load_answer(path, said) is None


def _sent(request: Request, surface: Surface, model_id: str, endpoint: LocalEndpoint) -> bytes:
    target = surface.path.encode("ascii")
    target += b"?" + request.query if request.query else b""
    headers = [*forwarded(request, model_id), *told_owner(surface, request)]
    return head_to_length("POST", target, host_of(endpoint), headers)


@lru_cache(REMEMBERED)
def _answer_head(head: bytes, model_id: str) -> bytes | None:
    headers = read_answer(head)
    return None if headers is None else _told(headers, model_id, b"content-length: ")


@lru_cache(REMEMBERED)
def _stream_head(headers: tuple[tuple[bytes, bytes], ...], model_id: str) -> bytes:
    return _told(list(headers), model_id, b"transfer-encoding: chunked\r\n")


def _told(headers: Headers, model_id: str, framing: bytes) -> bytes:
    lines = [b"%b: %b\r\n" % pair for pair in (*passed_on(headers), model_header(model_id))]
    return b"".join([status_line(200), *lines, framing])
