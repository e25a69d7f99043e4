"""What goes over the wire between manager, worker and client: frozen dataclasses, both ways.

``encode`` makes JSON of them and ``decode`` reads it, see ``wire_base``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from .wire_base import LEFT_BEHIND_NAME as LEFT_BEHIND_NAME
from .wire_base import DecodeError as DecodeError
from .wire_base import PromptCacheLimits as PromptCacheLimits
from .wire_base import decode as decode
from .wire_base import encode as encode

# The gateway says with a request for which model it is; by which name is its business then.
RESOLVED_HEADER = b"x-modelpool-resolved"
# And whose what is kept of its answer is, see ``owners``: keys are no business of a worker.
OWNER_HEADER = b"x-modelpool-owner"
# Of answers of models: which one it was, and parameters of the request that changed nothing.
MODEL_HEADER = "x-modelpool-model"
IGNORED_HEADER = "x-modelpool-ignored"
# Of those that a virtual model answers: its name and version, why it chose as it did, who was asked
# before and failed.
VIRTUAL_HEADER = "x-modelpool-virtual-model"
ROUTE_HEADER = "x-modelpool-route"
# Task, complexity, difficulty and confidence, where auto chose.
DECISION_HEADER = "x-modelpool-decision"
# That decision, for who tells what came of it.
DECISION_ID_HEADER = "x-modelpool-decision-id"
FALLBACK_HEADER = "x-modelpool-fallback"
# A request that was sent again before anything of an answer was there: who had failed.
RETRIED_HEADER = "x-modelpool-retried"
# Parameters that the pool has filled, bounded or taken away.
CHANGED_HEADER = "x-modelpool-changed"
# Of a request for an answer that is made of several: how much of each is to be told with it.
MEMBERS_HEADER = "x-modelpool-members"
# Where in a log its followed text begins, in bytes.
LOG_OFFSET_HEADER = "x-modelpool-log-offset"


# As a status: the client has ended the request, which is no error of the model.
CLIENT_LEFT = 499

WORKER_EXIT_OK = 0
WORKER_EXIT_LOAD_FAILED = 3
WORKER_EXIT_BAD_ASSIGNMENT = 4
WORKER_EXIT_PORT_TAKEN = 5
WORKER_EXIT_ENGINE_DIED = 6


class Phase(StrEnum):
    """Where a worker says it is. One that wakes up is loading."""

    LOADING = "loading"
    READY = "ready"
    FALLING_ASLEEP = "falling_asleep"
    ASLEEP = "asleep"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True)
class LogLimits:
    """How large one file of a log becomes, and how many there are, the one that is written too."""

    max_bytes: int = 10_000_000
    max_files: int = 5


@dataclass(frozen=True)
class Allowlist:
    """Who may ask besides loopback: origins of pages and hosts, as ``origins`` reads them."""

    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class ServedModels:
    """Which models the worker of a provider serves: their names there. ``is_open``: whatever else
    the provider has may be asked for, too."""

    names: tuple[str, ...] = ()
    is_open: bool = False


@dataclass(frozen=True)
class Tracing:
    """Which requests a worker traces: none; or those whose ``traceparent`` says so and, of those
    that come straight to its port without one, the share ``ratio``, ``per_second`` at most (0: any
    number). ``to_remote``: a server elsewhere is told of the trace, as an engine here is."""

    is_on: bool = False
    ratio: float = 0.0
    to_remote: bool = False
    per_second: float = 0.0


@dataclass(frozen=True)
class Assignment:
    """All that is particular to one worker: one JSON line on its standard input.

    ``epoch`` grows with every start of the model. Times are seconds.
    ``lease_seconds`` None means that the worker never expires by itself. Its output is appended to
    ``log_path``, after its heading. ``prompt_cache_dir`` is the model's own; those of all other
    models lie beside it. ``responses_dir`` is everybody's, see ``response_files``.
    ``engine_settings`` is what the pool's configuration says to all engines.
    ``python`` runs it, empty: the manager's own; ``variables`` are added to its environment, so
    that it sees the devices that it may use.
    """

    worker_id: str
    secret: str
    pool_id: str
    epoch: int
    manager_url: str
    model_id: str
    engine: str
    source: str
    port: int
    aliases: tuple[str, ...] = ()
    display_name: str = ""
    capabilities: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    host: str = "127.0.0.1"
    runtime_dir: str = ""
    exit_record: str = ""
    lease_seconds: float | None = 900.0
    beat_seconds: float = 10.0
    drain_seconds: float = 30.0
    orphan_seconds: float = 600.0
    client_header_timeout_seconds: float = 60.0
    client_body_timeout_seconds: float = 60.0
    send_timeout_seconds: float = 60.0
    stream_ping_seconds: float = 5.0
    log_path: str = ""
    log_limits: LogLimits = LogLimits()
    log_format: str = "text"
    tracing: Tracing = Tracing()
    prompt_cache_dir: str = ""
    prompt_cache_limits: PromptCacheLimits = field(default_factory=PromptCacheLimits)
    responses_dir: str = ""
    responses_max_bytes: int = 0
    allowlist: Allowlist = Allowlist()
    engine_settings: Mapping[str, Any] = field(default_factory=dict)
    python: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """How far a load is. ``estimated`` says that the fraction is inferred, not reported."""

    stage: str
    fraction: float | None = None
    bytes_done: int | None = None
    bytes_total: int | None = None
    eta_seconds: float | None = None
    estimated: bool = True


@dataclass(frozen=True)
class Failure:
    """Why a load or a worker failed: a code (``errors.LOAD_CODES`` or the like), last words."""

    code: str
    message: str
    lines: tuple[str, ...] = ()
    exit_code: int | None = None


class EndedRequest(NamedTuple):
    """A request that is over, as the front of its worker has seen it; goes as a list of its values,
    for there may be many.

    Attributes:
        number: of a worker's, from 1 on; 0: of none.
        path: the surface, without names.
        model: as the request named it; ``served`` is the one that the worker served it by.
        started_at: seconds since 1970; all others are lengths of time, from then on.
        waited_seconds: until the engine was asked.
        first_seconds: until the engine gave anything, of a stream; None: it gave nothing, or the
            answer came in one piece.
        is_estimated: tokens were counted by pieces and bytes.
        status: of the answer; 499: its client has left. Of a stream that broke off the error's.
        is_direct: it came straight to the worker's port.
        via: the virtual model, and its version, that had it sent here.
        trace: its spans, see ``tracing.context.WorkerTrace``; empty where it is not traced.
    """

    number: int = 0
    request_id: str = ""
    path: str = ""
    model: str = ""
    served: str = ""
    started_at: float = 0.0
    waited_seconds: float = 0.0
    first_seconds: float | None = None
    seconds: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    is_estimated: bool = False
    status: int = 200
    code: str = ""
    is_stream: bool = False
    is_direct: bool = False
    via: str = ""
    trace: str = ""

    @property
    def is_error(self) -> bool:
        """It failed, or was refused; a client that leaves is no error."""
        return self.status >= 400 and self.status != CLIENT_LEFT


@dataclass(frozen=True)
class UsageRow:
    """All that a model was used for in an hour (since 1970) by one worker, so far. ``number`` grows
    with every change of any of a worker's; ``estimated`` of the requests have estimated tokens.
    ``seconds`` are the sum of the requests' own."""

    hour: int
    model: str
    number: int = 0
    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    estimated: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Message:
    """A request or an answer that was captured: what looked like a key is taken out, and it is cut.

    Attributes:
        headers: names in lower case, and values.
        text: of the body; of one that is no text what it is.
        size: bytes of the whole body.
        is_whole: ``text`` is the body as it came.
    """

    headers: tuple[tuple[str, str], ...] = ()
    text: str = ""
    size: int = 0
    is_whole: bool = True


@dataclass(frozen=True)
class Captured:
    """What was said in the request of that number, as its worker saw it."""

    number: int
    method: str
    target: str
    request: Message
    answer: Message


@dataclass(frozen=True)
class CaptureOrder:
    """Capture what is said for so many seconds from now on, at most ``max_bytes`` of each body; 0
    seconds: do not, and forget what was not told yet."""

    seconds: float = 0.0
    max_bytes: int = 0


@dataclass(frozen=True)
class Ended:
    """What a worker tells of requests that are over: those ``after`` a number, of which the last
    has the number ``last``; some may be missing, for only the newest are kept. ``usage`` has the
    rows that have changed since the manager has written them down, ``captured`` what was said in
    requests among these, where that was wanted."""

    after: int = 0
    last: int = 0
    requests: tuple[Any, ...] = ()
    usage: tuple[UsageRow, ...] = ()
    captured: tuple[Captured, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What a worker reports; the manager decides. Posted on every edge and every beat.

    ``idle_seconds`` counts from the end of the last request (or from ready); 0 while any is in
    flight. ``progress_seconds`` counts from the engine's last sign of work on a request, or from
    when the oldest one began that it has given nothing since, even if that client has left; 0 where
    it has nothing to give one for. ``silent_seconds`` is the longest that a request in flight has
    waited for anything from the engine.
    ``lease_left_seconds`` is what the worker knows to be left of its lease, None where it never
    expires: a manager that adopts it does not know what a former one granted.
    ``direct`` of the requests in flight came straight to its port, not from the gateway. ``slots``
    is how many requests its engine works on at once; 0: any number, None: it does not say.
    ``memory_bytes`` is the proportional share of its processes, and ``memory_peak_bytes`` the most
    that it ever was; ``memory_held_bytes`` of it come back only with their end, the rest are pages
    of files. ``memory_requests`` had been answered when that was measured, None: it does not say.
    ``device_memory_bytes`` are bytes by device, where that is known. ``runs`` is which engine was
    taken, and why, where the model's is one that chooses. ``sleep_level``: how it sleeps, which is
    to let go of device memory without its end; 1: weights stay in the host's memory, 2: they are
    read again, 0: it cannot.
    ``chat_error``: what is wrong with the chat template in its file.
    ``upstream`` is what a server elsewhere has said of its limits, by its names of models.
    ``ended`` goes with posts only.
    """

    worker_id: str
    pool_id: str
    epoch: int
    sequence: int
    phase: Phase
    port: int
    pid: int
    in_flight: int = 0
    direct: int = 0
    idle_seconds: float = 0.0
    progress_seconds: float = 0.0
    silent_seconds: float = 0.0
    lease_left_seconds: float | None = 0.0
    requests_total: int = 0
    errors_total: int = 0
    tokens_total: int = 0
    uptime_seconds: float = 0.0
    engine_pid: int | None = None
    engine_started: float | None = None
    rss_bytes: int | None = None
    memory_bytes: int | None = None
    memory_held_bytes: int | None = None
    memory_peak_bytes: int | None = None
    memory_requests: int | None = None
    device_memory_bytes: Mapping[str, int] = field(default_factory=dict)
    context_length: int | None = None
    slots: int | None = None
    progress: Progress | None = None
    failure: Failure | None = None
    version: str = ""
    runs: str = ""
    chat_error: str = ""
    sleep_level: int = 0
    upstream: Mapping[str, Any] = field(default_factory=dict)
    ended: Ended | None = None

    @property
    def taken_bytes(self) -> int | None:
        """The best figure there is of the memory that its processes take now."""
        return self.memory_bytes if self.memory_bytes is not None else self.rss_bytes


@dataclass(frozen=True)
class FactsReply:
    """The manager's answer to facts. ``known`` False: no such worker here, drain and exit.

    ``lease_seconds`` is what is left of the lease, None if it never expires. ``aliases``,
    ``drain_seconds``, ``prompt_cache_limits`` and ``allowlist`` take the place of the assignment's,
    ``served`` that of the models that its options name; None where they stay as they are.
    ``ended_after`` is the number of the last request of which the manager has heard, 0 if of none
    yet; ``usage_saved`` that of the newest row of usage up to which all are written down.
    ``request_log``: whether single requests are wanted; ``tracing``: which of them are traced;
    ``capture``: whether what is said is wanted.
    """

    known: bool
    pool_id: str
    lease_seconds: float | None = None
    aliases: tuple[str, ...] | None = None
    drain_seconds: float | None = None
    prompt_cache_limits: PromptCacheLimits | None = None
    allowlist: Allowlist | None = None
    served: ServedModels | None = None
    ended_after: int | None = None
    usage_saved: int | None = None
    request_log: bool | None = None
    tracing: Tracing | None = None
    capture: CaptureOrder | None = None


@dataclass(frozen=True)
class DrainRequest:
    """Stop taking work. With ``if_idle_for`` only when idle for at least that many seconds."""

    if_idle_for: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class DrainReply:
    """``drained`` False: busy or used too recently; nothing changed. True with ``in_flight`` > 0:
    new work is refused and the worker is still finishing that many."""

    drained: bool
    facts: Facts


@dataclass(frozen=True)
class ProbeRequest:
    """Ask the engine for one token, within ``timeout_seconds``.

    If it gives one, and gave one to the probes before it too, requests for which it has given
    nothing for ``silent_seconds`` are ended: it lives, and has forgotten them.
    """

    timeout_seconds: float = 10.0
    silent_seconds: float | None = None


@dataclass(frozen=True)
class ProbeReply:
    """Whether the engine gave a token, and after how many ``seconds``.

    ``cpu_seconds`` is the processor time that it used meanwhile, None where that is not known.
    ``message`` says what came instead.
    """

    answered: bool
    seconds: float
    facts: Facts
    cpu_seconds: float | None = None
    message: str = ""
