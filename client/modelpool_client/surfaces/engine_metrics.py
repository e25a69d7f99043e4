"""PURE. The metrics page of one model's worker, where the manager has one of the pool at that path:
llama.cpp's clients name the model in the query."""

from __future__ import annotations

from modelpool_client.http1.message import Headers
from modelpool_client.surfaces.routes import Surface

SURFACE = Surface("/metrics", "an engine's metrics", methods=("GET",))
# llama.cpp's: its counters begin anew with every start. As it writes it: there are readers to whom
# it is another in lower case.
WRITTEN = {b"process-start-time-unix": b"Process-Start-Time-Unix"}


def is_asked(method: str, path: str, query: bytes) -> bool:
    """Whether it is that of one model, and not of the pool."""
    return path == SURFACE.path and method in ("GET", "HEAD") and b"model=" in query


def as_written(headers: Headers) -> Headers:
    """With the names of its own as the engine writes them."""
    return [(WRITTEN.get(name, name), value) for name, value in headers]
