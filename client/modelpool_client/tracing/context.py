"""PURE. W3C Trace Context (https://www.w3.org/TR/trace-context/): its headers, read and written."""

from __future__ import annotations

import re
from typing import NamedTuple

TRACEPARENT, TRACESTATE = b"traceparent", b"tracestate"
# What each must be able to pass on; of a longer one nobody need take more.
LONGEST_STATE = 512
_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_VERSION = b"ff"
_SAMPLED = 1
_STATE = re.compile(r"[ -~]*")


class TraceContext(NamedTuple):
    """Where in which trace somebody is; ids are lower-case hexadecimal digits, 32 and 16."""

    trace_id: str
    span_id: str
    is_sampled: bool = True

    def header(self) -> bytes:
        """As the value of ``traceparent``."""
        flags = _SAMPLED if self.is_sampled else 0
        return f"00-{self.trace_id}-{self.span_id}-{flags:02x}".encode("ascii")


def read_parent(value: bytes | None) -> TraceContext | None:
    """What ``traceparent`` says; None where there is none, or none that is one."""
    if value is None or (match := _PARENT.fullmatch(value.strip())) is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    is_known = version != _NO_VERSION and (version != b"00" or rest is None)
    if not is_known or not trace_id.strip(b"0") or not span_id.strip(b"0"):
        return None
    is_sampled = bool(int(flags, 16) & _SAMPLED)
    return TraceContext(trace_id.decode(), span_id.decode(), is_sampled)


def is_sampled(value: bytes | None) -> bool:
    """Whether that ``traceparent`` says that its request is traced."""
    parent = read_parent(value)
    return parent is not None and parent.is_sampled


def read_state(value: bytes | None) -> str:
    """What ``tracestate`` says, as text; empty where it says nothing that could be passed on."""
    text = (value or b"").decode("latin-1").strip()
    return text if len(text) <= LONGEST_STATE and _STATE.fullmatch(text) else ""


class WorkerTrace(NamedTuple):
    """The spans of a request in a worker: its own, below ``parent_id``, and the engine's below
    that. ``parent_id`` is empty where the trace begins here, ``engine_id`` where the engine was
    not asked."""

    trace_id: str
    parent_id: str
    span_id: str
    engine_id: str

    @property
    def engine(self) -> TraceContext:
        """What the engine is told."""
        return TraceContext(self.trace_id, self.engine_id)

    def text(self) -> str:
        """As ``EndedRequest`` has it."""
        return "-".join(self)


def read_worker_trace(text: str) -> WorkerTrace | None:
    """What ``WorkerTrace.text`` has made; None of anything else."""
    parts = text.split("-")
    if len(parts) != len(WorkerTrace._fields):
        return None
    trace = WorkerTrace(*parts)
    is_hex = all(c in "0123456789abcdef" for part in parts for c in part)
    is_whole = (len(trace.trace_id), len(trace.span_id)) == (32, 16)
    is_whole &= {len(trace.parent_id), len(trace.engine_id)} <= {0, 16}
    return trace if is_hex and is_whole else None
