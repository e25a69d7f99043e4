"""A collector of OpenTelemetry traces: takes what is sent by OTLP over HTTP, and keeps it."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent
from opentelemetry.proto.trace.v1.trace_pb2 import Status


@dataclass(frozen=True)
class Seen:
    """A span, as it was sent."""

    trace: str
    id: str
    parent: str
    name: str
    kind: str
    service: str
    begin: int
    end: int
    state: str
    is_error: bool
    message: str
    attributes: Mapping[str, Any]
    events: tuple[str, ...]

    def __getitem__(self, name: str) -> Any:
        return self.attributes.get(name)


@dataclass
class Collector:
    """What came; ``held`` is waited for before an answer, ``status`` is that of answers."""

    port: int = 0
    status: int = 200
    requests: int = 0
    spans: list[Seen] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/traces"

    def named(self, name: str) -> list[Seen]:
        return [span for span in self.spans if span.name == name]

    def tree(self, trace: str) -> dict[str, Any]:
        """Names below names, of one trace; of several of one name below another the times are
        counted: ``attempt``, ``attempt 2``."""
        spans = sorted((s for s in self.spans if s.trace == trace), key=lambda s: s.begin)
        ids = {span.id for span in spans}
        assert len(ids) == len(spans), "a span came twice"

        def below(parents: set[str]) -> dict[str, Any]:
            found: dict[str, Any] = {}
            for span in spans:
                if span.parent in parents:
                    same = sum(name.startswith(span.name) for name in found)
                    name = f"{span.name} {same + 1}" if same else span.name
                    found[name] = below({span.id})
            return found

        return below({span.parent for span in spans} - ids)


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))


def _seen(body: bytes) -> Iterator[Seen]:
    for group in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = {a.key: _value(a.value) for a in group.resource.attributes}
        for span in (s for scope in group.scope_spans for s in scope.spans):
            yield Seen(
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                span.name,
                Sent.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
                resource["service.name"],
                span.start_time_unix_nano,
                span.end_time_unix_nano,
                span.trace_state,
                span.status.code == Status.STATUS_CODE_ERROR,
                span.status.message,
                {a.key: _value(a.value) for a in span.attributes},
                tuple(event.name for event in span.events),
            )


@contextmanager
def collecting(*, is_held: bool = False) -> Iterator[Collector]:
    """One that answers at once; or, held, when it is told to."""
    collector = Collector()
    if not is_held:
        collector.held.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            collector.requests += 1
            collector.headers.append({k.lower(): v for k, v in self.headers.items()})
            collector.held.wait(60)
            if collector.status == 200:
                collector.spans += _seen(body)
            answer = ExportTraceServiceResponse().SerializeToString()
            try:
                self.send_response(collector.status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            except OSError:  # whoever sent it has gone
                return

        def log_message(self, *said: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield collector
    finally:
        collector.held.set()
        server.shutdown()
        thread.join()
        server.server_close()
