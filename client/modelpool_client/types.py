"""What the pool answers, as frozen dataclasses, and how they are read.

Every field has a default: a pool of another version may leave keys out (or null) and send
keys that are not known here. Times are ISO 8601 strings in UTC unless a unit is in the name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, TypeVar

from modelpool_client.errors import BadGateway
from modelpool_client.wire import DecodeError, Progress, decode

T = TypeVar("T")


@dataclass(frozen=True)
class FailureView:
    """Why a load or a worker failed: a code (``oom``, ``bad_file`` …) and its last log lines."""

    code: str = ""
    message: str = ""
    lines: tuple[str, ...] = ()
    exit_code: int | None = None
    retry_at: Any = None


@dataclass(frozen=True)
class Concurrency:
    """Requests in flight on all copies, how many there may be at a time (None: any number), and who
    waits, by priority; the first of them for ``oldest_wait_seconds``."""

    limit: int | None = None
    in_flight: int = 0
    waiting: Mapping[str, int] = field(default_factory=dict)
    oldest_wait_seconds: float = 0.0


@dataclass(frozen=True)
class ModelView:
    """One model of the catalog and what its best replica is doing.

    ``reason`` says in words why the model is in its state. ``ttl_remaining_minutes`` 0 means that
    it never expires, or is not loaded. ``memory_measured_mb`` is what it takes now. ``fits``:
    whether there is room for it (``verdict``), with which ``context_length`` and ``gpu_layers``.
    ``facts``: what else its files say, only where one model is asked for. ``engine_problem``: why
    its engine cannot be used, with what to install; empty where it can. ``sleeping``: since when
    its worker waits without the memory of its devices, and what it holds; empty where none does.
    """

    model_id: str = ""
    display_name: str = ""
    model_type: str = ""
    engine: str = ""
    engine_problem: str = ""
    environment: str = ""
    source: str = ""
    state: str = "COLD"
    reason: str = ""
    since: str = ""
    generation: int = 0
    port: int | None = None
    endpoint: str | None = None
    ttl_remaining_minutes: float = 0.0
    expires_at: str | None = None
    warmup: bool = False
    pinned: bool = False
    priority: str = ""
    tags: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    in_flight: int = 0
    concurrency: Concurrency = Concurrency()
    requests_total: int = 0
    tokens_total: int = 0
    memory_estimate_mb: float | None = None
    memory_measured_mb: float | None = None
    fits: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    size_mb: float | None = None
    context_length: int | None = None
    quantization: str | None = None
    architecture: str | None = None
    waiting_for: str = ""
    progress: Progress | None = None
    failure: FailureView | None = None
    replicas: tuple[Mapping[str, Any], ...] = ()
    sleeping: Mapping[str, Any] | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether it answers now: HOT, or COOLING (idle, still serving)."""
        return self.state in ("HOT", "COOLING")


class ModelFields(TypedDict, total=False):
    """What a registration may say of a model, besides id and source.

    ``engine``: needed where it does not follow from the source, as it does for a GGUF file.
    ``options`` are the engine's load options. ``ttl_minutes`` 0: never unloaded for being idle.
    ``priority``: who has to go first. ``memory_mb``: an estimate; a measurement overrules it.
    ``environment``: of which its workers run. ``devices``: that they see, by number, id or UUID.
    """

    engine: str | None
    options: Mapping[str, Any]
    display_name: str
    model_type: str
    warmup: bool
    pinned: bool
    ttl_minutes: float
    priority: Literal["high", "normal", "low"]
    tags: Sequence[str]
    aliases: Sequence[str]
    capabilities: Sequence[str]
    memory_mb: float
    context_length: int
    environment: str
    devices: Sequence[int | str]


class Wanted(TypedDict, total=False):
    """Conditions of ``find_best``; what is left out is none.

    ``model_type``: a model's own type, or ``llm``, ``embedding``, ``vision``, ``speech``.
    ``max_memory_gb`` (of 1000 MB) is of a load; ``max_latency_ms`` of a request, on average.
    ``repository``: where it comes from, as the owner in its id.
    """

    model_type: str
    max_memory_gb: float
    max_latency_ms: float
    required_capabilities: Sequence[str]
    tags: Sequence[str]
    repository: str


@dataclass(frozen=True)
class Endpoint:
    """Where a model answers: ``base_url`` is what OpenAI clients want (``…/v1``)."""

    model_id: str = ""
    endpoint: str | None = None
    base_url: str | None = None
    port: int | None = None
    state: str = ""


@dataclass(frozen=True)
class Extension:
    """What an extension of the lease granted; ``capped`` when less than was asked for.

    ``message`` says so where the lease never ends.
    """

    model_id: str = ""
    granted_minutes: float = 0.0
    capped: bool = False
    message: str = ""
    ttl_remaining_minutes: float = 0.0
    expires_at: str | None = None


@dataclass(frozen=True)
class PoolHealth:
    """The pool in five figures. ``version`` is empty where the pool does not tell it; ``run`` is
    another after each start of the manager."""

    status: str = ""
    active_models: int = 0
    total_models: int = 0
    total_memory_mb: float = 0.0
    available_ports: int = 0
    version: str = ""
    run: str = ""


@dataclass(frozen=True)
class EngineView:
    """An engine and whether it runs on the pool's machine; if not, why, and how to get it.

    ``environment`` names the virtual environment that has it, empty for the pool's own. ``options``
    are the load options of its models as JSON Schema properties. ``after_leaving`` says for each
    path what is still computed for a client that has left: a ``step``, a ``call``, the whole
    ``answer``, or what the ``server`` pleases. ``for_tests``: it computes nothing
    and is listed only where it is asked for.
    """

    name: str = ""
    usable: bool = False
    reason: str = ""
    install_hint: str = ""
    version: str = ""
    formats: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    after_leaving: Mapping[str, str] = field(default_factory=dict)
    environment: str = ""
    is_plugin: bool = False
    for_tests: bool = False


@dataclass(frozen=True)
class DeviceView:
    """A device of the pool's machine, in bytes; what is not known is None.

    ``ours_bytes`` of what is taken is the pool's workers', ``others_bytes`` other programs'.
    ``is_shared``: its memory is the host's. ``budget_bytes``: what the pool may use of it.
    """

    id: str = ""
    name: str = ""
    uuid: str = ""
    driver: str = ""
    is_shared: bool = False
    total_bytes: int = 0
    free_bytes: int | None = None
    ours_bytes: int = 0
    others_bytes: int | None = None
    reserved_bytes: int = 0
    budget_bytes: int | None = None


@dataclass(frozen=True)
class ConfigChange:
    """What a change of the configuration changed, and all of it afterwards."""

    changed: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RegistryChange:
    """Ids that an import of the registry added, updated and deleted."""

    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Event:
    """One thing that happened. ``data`` holds all that the pool said of it."""

    id: str = ""
    event: str = ""
    at: str = ""
    model_id: str = ""
    state: str = ""
    previous: str = ""
    reason: str = ""
    generation: int | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


class Reply(str):
    """A model's answer: its text, which is what it is as a ``str``, and ``raw``, all of it."""

    raw: Mapping[str, Any]

    def __new__(cls, text: str, raw: Mapping[str, Any] | None = None) -> Reply:
        reply = super().__new__(cls, text)
        reply.raw = raw or {}
        return reply

    @property
    def finish_reason(self) -> str | None:
        """Why the model stopped: ``stop``, ``length`` …"""
        reason = first_choice(self.raw).get("finish_reason")
        return reason if isinstance(reason, str) else None

    @property
    def usage(self) -> Mapping[str, Any]:
        """Token counts as the engine gave them; empty if it gave none."""
        usage = self.raw.get("usage")
        return usage if isinstance(usage, Mapping) else {}


def first_choice(document: object) -> Mapping[str, Any]:
    """The first choice of an OpenAI answer or chunk; empty if there is none."""
    choices = document.get("choices") if isinstance(document, Mapping) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, Mapping) else {}


def view(cls: type[T], document: object) -> T:
    """Read an answer of the pool; null counts as missing, unknown keys are ignored.

    Raises:
        BadGateway: a value has another type than it should; the text names the key.
    """
    if isinstance(document, Mapping):
        document = {k: v for k, v in document.items() if v is not None}
    try:
        return decode(cls, document)
    except DecodeError as e:
        raise unreadable(f"the pool's answer does not have the expected shape: {e}") from None


def text_of(choice: Mapping[str, Any], part: str) -> str:
    """The text of an OpenAI choice: of its ``message`` or ``delta``, or of a plain completion."""
    inner = choice.get(part)
    text = inner.get("content") if isinstance(inner, Mapping) else choice.get("text")
    return text if isinstance(text, str) else ""


def unreadable(message: str) -> BadGateway:
    """The error for an answer that makes no sense."""
    return BadGateway(message, code="bad_answer", source="client")
