"""Traces of requests: one tree of spans each, from the client's own to the engine's.

What the gateway does becomes spans as it happens; what a load does is told by the pool's events,
and what a worker has done by its facts, some time later.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from modelpool_client.errors import ModelPoolError
from modelpool_client.http1.exchange import Exchange
from modelpool_client.http1.request_ids import id_of
from modelpool_client.tracing.context import (
    TRACEPARENT,
    TRACESTATE,
    TraceContext,
    read_parent,
    read_state,
)
from modelpool_client.tracing.sampling import Sampler, new_span_id, new_trace_id
from modelpool_client.wire import CLIENT_LEFT, EndedRequest, Phase

from modelpool.observe import span_names as names
from modelpool.observe.events import Event
from modelpool.observe.spans import NO_SPAN, Span, current
from modelpool.observe.worker_spans import worker_spans
from modelpool.pool.states import State
from modelpool.pool.status import ReplicaStatus

LOADED = frozenset({"model-loaded", "model-hot", "model-adopted"})
FOR_ROOM, STARTING, LOADING = "wait for room", "start worker", "load model"


class Tracer:
    """``sink`` takes spans that have ended, and must be quick."""

    def __init__(self, sampler: Sampler, sink: Callable[[Span], None]) -> None:
        self.sampler = sampler
        self._sink = sink
        self._waiting: defaultdict[str, set[_Wait]] = defaultdict(set)

    @contextmanager
    def request(self, exchange: Exchange, path: str) -> Iterator[Span]:
        """The root of what is done here for a request at the surface ``path``, if it is traced."""
        fields = exchange.request.fields
        parent = read_parent(fields.get(TRACEPARENT))
        if not self.sampler.decides(exchange.channel, parent):
            yield NO_SPAN
            return
        trace_id, parent_id = (new_trace_id(), "") if parent is None else parent[:2]
        method = exchange.request.method
        root = Span(
            self._sink,
            f"{method} {path}",
            TraceContext(trace_id, new_span_id()),
            parent_id,
            "server",
            start_ns=time.time_ns(),
            state=read_state(fields.get(TRACESTATE)) if parent is not None else "",
            is_parent_remote=parent is not None,
        )
        request_id = id_of(exchange.request).decode("latin-1")
        root.attributes = {
            names.METHOD: method,
            names.ROUTE: path,
            names.OPERATION: names.operation_of(path),
            names.REQUEST_ID: request_id,
        }
        error: ModelPoolError | None = None
        root.attach()
        try:
            yield root
        except ModelPoolError as e:
            error = e
            raise
        except asyncio.CancelledError:
            error = exchange.stopped_by
            raise
        finally:
            root.detach()
            _tell_end(root, exchange, error)
            root.end()

    @contextmanager
    def waiting(self, model_id: str, status: Callable[[], ReplicaStatus]) -> Iterator[None]:
        """For a worker of the model whose events tell what becomes of it; ``status`` is asked
        where the request is traced."""
        above = current()
        if not above.is_recording:
            yield
            return
        wait = _Wait(above, status())
        self._waiting[model_id].add(wait)
        try:
            with wait.span:
                try:
                    yield
                finally:
                    wait.end()
        finally:
            self._waiting[model_id].discard(wait)
            if not self._waiting[model_id]:
                del self._waiting[model_id]

    def on_event(self, event: Event) -> None:
        """Something has happened to a replica."""
        for wait in tuple(self._waiting.get(event.data["model_id"], ())):
            wait.on_event(event)

    def on_facts(self, model_id: str, phase: Phase) -> None:
        """A worker of the model says where it is."""
        if phase is Phase.LOADING:
            for wait in self._waiting.get(model_id, ()):
                wait.on_started()

    def ended(self, worker_id: str, model_id: str, provider: str, request: EndedRequest) -> None:
        """A worker has told of a request that is over."""
        if request.trace:
            for span in worker_spans(request, worker_id, model_id, provider, self._sink):
                self._sink(span)


class _Wait:
    """For a load, or for a place: a span, and below it one for the load, with its phases."""

    def __init__(self, above: Span, status: ReplicaStatus) -> None:
        self.span = above.child("wait")
        self.span.set({names.MODEL: status.model.model_id, names.REASON: _reason(status)})
        self._load = self._phase = NO_SPAN
        if status.core_state is State.WARMING:
            self._begin_load()
            self._load.set({names.JOINED: True})
            self._enter(status.progress.stage if status.progress is not None else STARTING)

    def on_event(self, event: Event) -> None:
        """Of the model that is waited for."""
        if event.name == "model-waiting":
            self._end_load("")
            self._phase = self.span.child(FOR_ROOM, attributes={names.REASON: event.data["reason"]})
        elif event.name == "model-loading":
            self._begin_load()
            self._enter(STARTING)
        elif event.name == "model-progress" and self._load.is_recording:
            self._enter(event.data["progress"]["stage"])
        elif event.name in LOADED:
            self._end_load("")
        elif event.name == "model-failed":
            self._end_load(event.data["reason"])

    def on_started(self) -> None:
        """The worker of that model is there, and loads it."""
        if self._phase.name == STARTING:
            self._enter(LOADING)

    def end(self) -> None:
        """It is waited no longer; the load may go on."""
        self._end_load("")

    def _begin_load(self) -> None:
        self._end_load("")
        self._load = self.span.child(f"load {self.span.attributes[names.MODEL]}")

    def _enter(self, phase: str) -> None:
        if self._phase.name == phase and not self._phase.end_ns:
            return
        self._phase.end()
        self._phase = self._load.child(phase)

    def _end_load(self, why: str) -> None:
        for span in (self._phase, self._load):
            if why:
                span.fail("load_failed", why)
            span.end()
        self._phase = self._load = NO_SPAN


def _reason(status: ReplicaStatus) -> str:
    knows = status.is_open or status.progress is not None or status.waiting_for
    return status.describe_wait() if knows else f"{status.key} is {status.state}"


def _tell_end(root: Span, exchange: Exchange, error: ModelPoolError | None) -> None:
    status = exchange.status or (CLIENT_LEFT if error is None else error.status)
    code = exchange.code or ("" if error is None else error.code)
    if exchange.has_left:
        status, code = CLIENT_LEFT, "client_left"
    root.set({names.STATUS: status})
    if exchange.model:
        root.set({names.REQUEST_MODEL: exchange.model})
    if status >= 500 or status == CLIENT_LEFT:
        root.fail(code or str(status), "" if error is None else error.message)
    elif code:
        root.set({names.ERROR: code})
