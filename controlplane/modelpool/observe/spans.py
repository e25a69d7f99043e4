"""Spans: what is done for a traced request, from when to when, one below the other. Whoever ends
one hands it to whoever exports it.

A request that is not traced has ``NO_SPAN``, whose children are itself, and costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Literal, NamedTuple, Self, TypeAlias

from modelpool_client.errors import ModelPoolError
from modelpool_client.tracing.context import TraceContext
from modelpool_client.tracing.sampling import new_span_id

Kind: TypeAlias = Literal["server", "client", "internal"]
Value: TypeAlias = str | bool | int | float
Role: TypeAlias = Literal["gateway", "worker"]


class SpanEvent(NamedTuple):
    """Something in the course of a span; ``at_ns`` since 1970."""

    name: str
    at_ns: int
    attributes: Mapping[str, Value] = {}


class Span:
    """One of them, as a context for the time of it; times in nanoseconds since 1970.

    Attributes:
        parent_id: empty for the root of a trace.
        is_parent_remote: the parent is another program's.
        state: ``tracestate``, as it came.
        role: which service it is of.
        error: an error's code; empty where there was none.
    """

    __slots__ = (
        *("_sink", "_token", "attributes", "context", "end_ns", "error", "events"),
        *("is_parent_remote", "kind", "message", "name", "parent_id", "role", "start_ns", "state"),
    )

    def __init__(
        self,
        sink: Callable[[Span], None] | None,
        name: str,
        context: TraceContext,
        parent_id: str = "",
        kind: Kind = "internal",
        *,
        start_ns: int = 0,
        state: str = "",
        is_parent_remote: bool = False,
        role: Role = "gateway",
    ) -> None:
        """``sink`` is given it when it ends; None: nobody wants it."""
        self._sink = sink
        self._token: Token[Span] | None = None
        self.name = name
        self.context = context
        self.parent_id = parent_id
        self.kind: Kind = kind
        self.start_ns = start_ns
        self.end_ns = 0
        self.state = state
        self.is_parent_remote = is_parent_remote
        self.role: Role = role
        self.attributes: dict[str, Value] = {}
        self.events: list[SpanEvent] = []
        self.error = self.message = ""

    def __repr__(self) -> str:
        return f"<Span {self.name!r} {self.context.span_id} below {self.parent_id or 'none'}>"

    @property
    def is_recording(self) -> bool:
        """Somebody wants it."""
        return self._sink is not None

    def child(
        self, name: str, kind: Kind = "internal", attributes: Mapping[str, Value] | None = None
    ) -> Span:
        """One below it, that begins now."""
        if self._sink is None:
            return self
        context = TraceContext(self.context.trace_id, new_span_id())
        span = Span(self._sink, name, context, self.context.span_id, kind, state=self.state)
        span.start_ns = time.time_ns()
        span.attributes = dict(attributes or {})
        return span

    def set(self, attributes: Mapping[str, Value]) -> None:
        """Say more of it."""
        if self._sink is not None:
            self.attributes.update(attributes)

    def fail(self, code: str, message: str = "") -> None:
        """It came to nothing."""
        if self._sink is not None:
            self.error, self.message = code, message

    def end(self) -> None:
        """It is over; a second time changes nothing."""
        if self._sink is not None and not self.end_ns:
            self.end_ns = time.time_ns()
            self._sink(self)

    def attach(self) -> None:
        """It is ``current`` from now on."""
        if self._sink is not None:
            self._token = _current.set(self)

    def detach(self) -> None:
        """What was before is again."""
        if self._token is not None:
            _current.reset(self._token)
            self._token = None

    def __enter__(self) -> Self:
        """It is ``current`` until the end of the block, and ends with it."""
        self.attach()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.detach()
        if isinstance(error, ModelPoolError):
            self.fail(error.code, error.message)
        elif isinstance(error, Exception):
            self.fail(type(error).__name__, str(error))
        elif kind is not None and not self.error:
            self.fail("cancelled")
        self.end()


NO_SPAN = Span(None, "", TraceContext("", "", False))
_current: ContextVar[Span] = ContextVar("span", default=NO_SPAN)


def current() -> Span:
    """What is done here now; ``NO_SPAN`` where the request is not traced."""
    return _current.get()
