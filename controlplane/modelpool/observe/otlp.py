"""Sends spans to a collector by OTLP over HTTP, from a thread of its own: never in the way of a
request, and bounded. A collector that is not there costs spans, and a log line now and then.

The only file that imports OpenTelemetry's SDK, and only where traces are wanted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from modelpool_client.errors import ModelPoolError

from modelpool.observe import span_names as names
from modelpool.observe.spans import Role, Span

log = logging.getLogger(__name__)

SERVICE = "modelpool"
TOLD = {"telemetry.sdk.language": "python", "telemetry.sdk.name": "opentelemetry"}
# OpenTelemetry's own defaults of its OTEL_BSP_* variables.
DELAY_MS, QUEUE, BATCH = 5000, 2048, 512
LOG_SECONDS = 60.0
# What is left at the end of the manager may take so long.
LAST_SECONDS = 2.0


class NoTraces(ModelPoolError):
    """Traces cannot be exported as the configuration wants it."""

    default_code = "bad_config"


class OtlpExporter:
    """``endpoint`` None: as the environment says, see ``traces_endpoint``.

    Raises:
        NoTraces: the extra is not installed, or the environment makes no sense.

    Attributes:
        lost: spans that were not delivered.
    """

    def __init__(
        self, endpoint: str | None, instance: str, version: str, environ: Mapping[str, str]
    ) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ImportError as e:
            text = f"traces: otlp needs {e.name}: pip install 'modelpool[otel]'"
            raise NoTraces(text, param="traces") from e
        try:
            self._exporter: Any = OTLPSpanExporter(endpoint)
        except Exception as e:
            raise NoTraces(f"traces cannot be sent: {e}", param="traces_endpoint") from e
        # Of each failure, and each try: they are told here, now and then.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        logging.getLogger("urllib3").setLevel(logging.WARNING)
        self._convert = Converter(instance, version)
        self._delay = _number(environ, "OTEL_BSP_SCHEDULE_DELAY", DELAY_MS) / 1000
        self._most = _number(environ, "OTEL_BSP_MAX_QUEUE_SIZE", QUEUE)
        self._batch = min(self._most, _number(environ, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", BATCH))
        self._queue: deque[Span] = deque()
        self._wake = threading.Event()
        self._is_closing = False
        self._told_at = float("-inf")
        self.lost = self._untold = 0
        self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<OtlpExporter {len(self._queue)} spans to send, {self.lost} lost>"

    def put(self, span: Span) -> None:
        """A span that has ended. Never waits."""
        if len(self._queue) >= self._most:
            self._lose(1)
            return
        self._queue.append(span)
        if len(self._queue) == self._batch:
            self._wake.set()

    def close(self) -> None:
        """Send what is left, for ``LAST_SECONDS`` at most."""
        self._is_closing = True
        self._wake.set()
        self._thread.join(LAST_SECONDS)
        self._exporter.shutdown()

    def _run(self) -> None:
        while not self._is_closing:
            self._wake.wait(self._delay)
            self._wake.clear()
            self._send()
        self._send()

    def _send(self) -> None:
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(self._batch, len(self._queue)))]
            why = self._sent(batch)
            if why:
                self._lose(len(batch))
                self._tell(why)
            if len(self._queue) < self._batch and not self._is_closing:
                return

    def _sent(self, batch: list[Span]) -> str:
        """Why not; empty if they were."""
        try:
            result = self._exporter.export([self._convert(span) for span in batch])
        except Exception as e:
            return repr(e)
        return "" if result.name == "SUCCESS" else "the collector does not take them"

    def _lose(self, count: int) -> None:
        self.lost += count
        self._untold += count

    def _tell(self, why: str) -> None:
        now = time.monotonic()
        if now - self._told_at < LOG_SECONDS:
            return
        where = self._exporter._endpoint
        log.warning("%d spans could not be sent to %s: %s", self._untold, where, why)
        self._told_at, self._untold = now, 0


class Converter:
    """A ``Span`` as OpenTelemetry's SDK has it."""

    def __init__(self, instance: str, version: str) -> None:
        from opentelemetry.sdk import trace as sdk
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        from opentelemetry.trace import (
            SpanContext,
            SpanKind,
            Status,
            StatusCode,
            TraceFlags,
            TraceState,
        )

        self._sdk = sdk
        self._context, self._state, self._flags = SpanContext, TraceState, TraceFlags(1)
        self._kinds = {kind.name.lower(): kind for kind in SpanKind}
        self._ok, self._status, self._error = Status(), Status, StatusCode.ERROR
        self._scope = InstrumentationScope(SERVICE, version)
        said = OTELResourceDetector().detect().attributes  # of the environment
        own = str(said.get("service.name", SERVICE))
        common = {**said, "service.version": version, "service.instance.id": instance}
        self._resources: dict[Role, Any] = {
            "gateway": Resource({**TOLD, **common, "service.name": own}),
            "worker": Resource({**TOLD, **common, "service.name": f"{own}-worker"}),
        }

    def __call__(self, span: Span) -> Any:
        """Of one that has ended."""
        state = self._state.from_header([span.state]) if span.state else None
        trace_id = int(span.context.trace_id, 16)

        def context(span_id: str, *, is_remote: bool) -> Any:
            number = int(span_id, 16)
            return self._context(trace_id, number, is_remote, self._flags, state)

        attributes = dict(span.attributes)
        status = self._ok
        if span.error:
            attributes[names.ERROR] = span.error
            status = self._status(self._error, span.message or span.error)
        parent_id = span.parent_id
        return self._sdk.ReadableSpan(
            name=span.name,
            context=context(span.context.span_id, is_remote=False),
            parent=context(parent_id, is_remote=span.is_parent_remote) if parent_id else None,
            resource=self._resources[span.role],
            attributes=attributes,
            events=[
                self._sdk.Event(event.name, dict(event.attributes), event.at_ns)
                for event in span.events
            ],
            kind=self._kinds[span.kind],
            status=status,
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "")
    return int(text) if text.isdecimal() and int(text) > 0 else default
