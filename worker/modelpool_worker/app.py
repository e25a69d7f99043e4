"""The worker's HTTP surface, one raw ASGI callable: checks, counts, relays, says no readably."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar

from modelpool_client import guard
from modelpool_client.errors import (
    Forbidden,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    ModelPoolError,
    PayloadTooLarge,
    RequestTimeout,
    WorkerDraining,
)
from modelpool_client.surfaces.body import MAX_BODY_BYTES, parse_object, too_large
from modelpool_client.surfaces.connections import next_part
from modelpool_client.surfaces.openai import check_model, check_request
from modelpool_client.surfaces.paths import route_path
from modelpool_client.surfaces.routes import CHAT_PATH, NOT_SERVED, TEXT_PATH, check_route
from modelpool_client.wire import (
    RESOLVED_HEADER,
    DecodeError,
    DrainReply,
    DrainRequest,
    ProbeRequest,
    decode,
    encode,
)

from .metrics import render
from .probe import probe
from .relay import BrokenOffError
from .surfaces import openapi, sse

if TYPE_CHECKING:
    from .worker import Worker

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON = (b"content-type", b"application/json")
CLOSE = (b"connection", b"close")


class Exchange:
    """One request and its answer: what was sent so far decides how an error can be told."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.path = route_path(scope["path"], scope.get("raw_path"))
        self.receive = receive
        self._send = send
        self.status = 0

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """ASGI's ``send``, remembering the status."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)

    async def answer(self, body: bytes, *headers: tuple[bytes, bytes], status: int = 200) -> None:
        """A whole response."""
        length = (b"content-length", str(len(body)).encode())
        start = {"type": "http.response.start", "status": status, "headers": [length, *headers]}
        await self.send(start)
        await self._send({"type": "http.response.body", "body": body})

    async def answer_json(self, value: Any, status: int = 200, *headers: Any) -> None:
        """A whole response with a JSON body."""
        await self.answer(json.dumps(value).encode(), JSON, *headers, status=status)

    async def fail(self, error: ModelPoolError) -> None:
        """Tell an error: as a response, or within the stream that has begun already."""
        if self.status:
            await self._send({"type": "http.response.body", "body": sse.event(error.body())})
            return
        headers = [(k.encode(), v.encode()) for k, v in error.headers().items()]
        if isinstance(error, (WorkerDraining, PayloadTooLarge, RequestTimeout)):
            headers.append(CLOSE)
        await self.answer_json(error.body(), error.status, *headers)

    async def body(self, timeout: float) -> bytes:
        """The request's body.

        Raises:
            PayloadTooLarge: over ``MAX_BODY_BYTES``.
            RequestTimeout: nothing more of it came within ``timeout`` seconds.
            ConnectionResetError: the client left.
        """
        parts, size = [], 0
        while True:
            message = await next_part(self.receive, timeout)
            if message["type"] == "http.disconnect":
                raise ConnectionResetError
            size += len(message["body"])
            # Read on up to twice the limit: to close at once would reset the client's connection
            # before it has read the answer.
            if size <= MAX_BODY_BYTES:
                parts.append(message["body"])
            if not message.get("more_body") or size > 2 * MAX_BODY_BYTES:
                break
        if size > MAX_BODY_BYTES:
            raise too_large()
        return b"".join(parts)


Told = TypeVar("Told")
Handler = Callable[[Exchange], Awaitable[None]]


class App:
    """The ASGI callable."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._hosts = guard.hosts_for(worker.assignment.host)
        self._resolved = (RESOLVED_HEADER, worker.assignment.model_id.encode())
        self._secret = f"Bearer {worker.assignment.secret}".encode()
        self.routes: dict[str, dict[str, Handler]] = {
            CHAT_PATH: {"POST": self._complete},
            TEXT_PATH: {"POST": self._complete},
            "/v1/models": {"GET": self._models},
            "/health": {"GET": self._health},
            "/metrics": {"GET": self._metrics},
            "/openapi.json": {"GET": self._openapi},
            "/internal/facts": {"GET": self._facts},
            "/internal/drain": {"POST": self._drain},
            "/internal/probe": {"POST": self._probe},
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send)
        try:
            guard.check_headers(scope["headers"], self._hosts, "worker")
            await self._handler(exchange)(exchange)
        except ModelPoolError as e:
            # A worker never speaks for the pool; the shared checks do not know who runs them.
            e.source = "worker" if e.source == "pool" else e.source
            await exchange.fail(e)
        except ConnectionResetError:
            pass
        except Exception:
            log.exception("%s %s", scope["method"], scope["path"])
            await exchange.fail(InternalError("a bug in the worker, see its log", source="worker"))
        finally:
            self._worker.metrics.count(self._route_name(exchange.path), exchange.status)

    def _route_name(self, path: str) -> str:
        return path if path in self.routes or path in NOT_SERVED else "other"

    def _handler(self, exchange: Exchange) -> Handler:
        path, method = exchange.path, str(exchange.scope["method"])
        methods = self.routes.get(path)
        if methods is None:
            check_route(path, method)
        handler = (methods or {}).get("GET" if method == "HEAD" else method)
        if handler is None:
            raise MethodNotAllowed.of(path, method, methods or ())
        if path.startswith("/internal/"):
            self._check_secret(exchange)
        return handler

    def _check_secret(self, exchange: Exchange) -> None:
        given = dict(exchange.scope["headers"]).get(b"authorization", b"")
        if not hmac.compare_digest(given, self._secret):
            raise Forbidden("the worker's secret is needed")

    async def _complete(self, exchange: Exchange) -> None:
        worker = self._worker
        worker.check_ready()
        guard.check_json(exchange.scope["headers"], "worker")
        data = parse_object(await self._body(exchange))
        request = check_request(exchange.path, data)
        if not self._is_resolved(exchange):
            check_model(data, worker.assignment.model_id, worker.aliases)
        if exchange.path == CHAT_PATH:
            worker.check_chat()
        # It may drain by now. What is refused, or never comes, is no use of the model; from here to
        # the begin of the call nothing is awaited, so that a drain happens before or after.
        worker.check_ready()
        with worker.call() as call:
            watch = asyncio.create_task(_watch(exchange.receive, call.leave))
            try:
                headers = request.headers
                if request.stream:
                    await call.stream(exchange.path, request, exchange.send, headers)
                else:
                    answer = await call.collect(exchange.path, request)
                    await exchange.answer_json(answer, 200, *headers)
            except BrokenOffError as e:
                raise await worker.explain(str(e)) from None
            finally:
                watch.cancel()

    async def _body(self, exchange: Exchange) -> bytes:
        return await exchange.body(self._worker.assignment.client_body_timeout_seconds)

    def _is_resolved(self, exchange: Exchange) -> bool:
        """The gateway knows by which names the model goes by now."""
        return self._resolved in exchange.scope["headers"]

    async def _models(self, exchange: Exchange) -> None:
        self._worker.check_ready(draining_too=True)
        await exchange.answer_json(self._worker.models())

    async def _health(self, exchange: Exchange) -> None:
        health = self._worker.health()
        await exchange.answer_json(health, 200 if health["status"] == "ready" else 503)

    async def _metrics(self, exchange: Exchange) -> None:
        kind = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
        worker = self._worker
        page = render(
            worker.assignment.model_id,
            worker.facts(),
            worker.metrics,
            has_engine=worker.child.exit_code is None,
        )
        await exchange.answer(page.encode(), kind)

    async def _openapi(self, exchange: Exchange) -> None:
        a = self._worker.assignment
        await exchange.answer_json(openapi.describe(a.model_id, self._worker.aliases))

    async def _facts(self, exchange: Exchange) -> None:
        await exchange.answer_json(encode(self._worker.facts()))

    async def _probe(self, exchange: Exchange) -> None:
        request = _told(await self._body(exchange), ProbeRequest)
        reply = await probe(self._worker, request)
        await exchange.answer_json(encode(reply))

    async def _drain(self, exchange: Exchange) -> None:
        request = _told(await self._body(exchange), DrainRequest)
        drained = self._worker.drain(request.if_idle_for, request.reason or "told by the manager")
        if request.if_idle_for is None and request.reason:  # what is cut now is to know why
            self._worker.drain_reason = request.reason
        reply = encode(DrainReply(drained, self._worker.facts()))
        await exchange.answer_json(reply, 200, *([CLOSE] if drained else []))


def _told(body: bytes, shape: type[Told]) -> Told:
    try:
        return decode(shape, parse_object(body or b"{}"))
    except DecodeError as e:
        raise InvalidRequest(str(e)) from None


async def _watch(receive: Receive, on_gone: Callable[[], None]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        while (await receive())["type"] != "http.disconnect":
            pass
        on_gone()
