"""PURE. What a worker has told of a request that is over, as spans: its own, and the engine's below
that, with the first token."""

from __future__ import annotations

from collections.abc import Callable

from modelpool_client.tracing.context import TraceContext, read_worker_trace
from modelpool_client.wire import CLIENT_LEFT, EndedRequest

from modelpool.observe import span_names as names
from modelpool.observe.spans import Span, SpanEvent, Value

NS = 1_000_000_000


def worker_spans(
    request: EndedRequest,
    worker_id: str,
    model_id: str,
    provider: str,
    sink: Callable[[Span], None],
) -> tuple[Span, ...]:
    """Of a request of the model ``model_id``, whose engine ``provider`` is; ended, for ``sink``.
    None of one that was not traced."""
    trace = read_worker_trace(request.trace)
    if trace is None:
        return ()
    began = int(request.started_at * NS)
    end = began + int(request.seconds * NS)
    asked = began + int(request.waited_seconds * NS)
    operation = names.operation_of(request.path)
    context = TraceContext(trace.trace_id, trace.span_id)
    is_below = bool(trace.parent_id)
    own = Span(
        sink,
        f"POST {request.path}",
        context,
        trace.parent_id,
        "server",
        start_ns=began,
        is_parent_remote=is_below,
        role="worker",
    )
    own.end_ns = end
    own.attributes = {
        names.METHOD: "POST",
        names.ROUTE: request.path,
        names.STATUS: request.status,
        names.REQUEST_ID: request.request_id,
        names.WORKER: worker_id,
        names.MODEL: model_id,
        names.DIRECT: request.is_direct,
    }
    if request.status >= 500 or request.status == CLIENT_LEFT:
        own.error = request.code or str(request.status)
    if not trace.engine_id:
        return (own,)
    engine = Span(
        sink,
        f"{operation} {request.model}",
        trace.engine,
        trace.span_id,
        "client",
        start_ns=asked,
        role="worker",
    )
    engine.end_ns, engine.error = end, own.error
    engine.attributes = _said(request, operation, provider)
    if request.first_seconds is not None:
        first = began + int(request.first_seconds * NS)
        engine.events.append(SpanEvent(names.FIRST_TOKEN, first))
        engine.attributes[names.FIRST_CHUNK] = request.first_seconds - request.waited_seconds
    return own, engine


def _said(request: EndedRequest, operation: str, provider: str) -> dict[str, Value]:
    said: dict[str, Value] = {
        names.OPERATION: operation,
        names.PROVIDER: provider,
        names.REQUEST_MODEL: request.model,
        names.RESPONSE_MODEL: request.served,
        names.STREAM: request.is_stream,
    }
    if request.prompt_tokens or request.completion_tokens:
        said[names.INPUT_TOKENS] = request.prompt_tokens
        said[names.OUTPUT_TOKENS] = request.completion_tokens
        if request.cached_tokens:
            said[names.CACHED_TOKENS] = request.cached_tokens
        if request.is_estimated:
            said[names.ESTIMATED] = True
    return said
