"""What the pool answers to those who run it: plans, history, reloads and restarts.

As in ``types``: every field has a default, times are ISO 8601 in UTC, MB are 1,000,000 bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelpool_client.types import ModelView, view


@dataclass(frozen=True)
class Eviction:
    """A model that would have to go, and why it is the one."""

    model_id: str = ""
    state: str = ""
    memory_mb: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Match:
    """A model that meets the conditions, and what speaks for it."""

    model_id: str = ""
    reasons: tuple[str, ...] = ()
    memory_mb: float | None = None
    latency_ms: float | None = None
    is_loaded: bool = False


@dataclass(frozen=True)
class Findings:
    """The model that suits best, the next ones, and why each of the others does not."""

    best: Match | None = None
    runners_up: tuple[Match, ...] = ()
    excluded: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Version:
    """What a model's entry said until it was changed."""

    version: int = 0
    until: str = ""
    entry: Mapping[str, Any] = field(default_factory=dict)
    can_be_restored: bool = False


@dataclass(frozen=True)
class LoadPlan:
    """What a load would do right now.

    Attributes:
        action: ``loaded`` (it is already), ``join`` (a load is under way), ``start`` (after those
            in ``evict`` are gone, in that order), ``wait`` (for those in ``waits_for``, at most
            until ``until`` where that is known) or ``refuse``.
        port: where it stands or would stand, as far as that is decided.
        needs, memory, models, queue: the figures behind it.
        fits: whether it fits on this machine, with which context and how many layers on the GPU,
            and the most of both that there is room for.
    """

    model_id: str = ""
    state: str = ""
    action: str = ""
    reason: str = ""
    evict: tuple[Eviction, ...] = ()
    waits_for: tuple[str, ...] = ()
    until: str | None = None
    port: int | None = None
    queue: Mapping[str, Any] = field(default_factory=dict)
    needs: Mapping[str, Any] = field(default_factory=dict)
    fits: Mapping[str, Any] = field(default_factory=dict)
    memory: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Happening:
    """One event of a model's past. ``lasted_seconds``: how long the state lasted that it began,
    None where it lasts still, or where it began none."""

    number: int = 0
    id: str = ""
    at: str = ""
    event: str = ""
    state: str = ""
    previous: str = ""
    reason: str = ""
    generation: int | None = None
    port: int | None = None
    lasted_seconds: float | None = None

    @property
    def is_move(self) -> bool:
        """Whether the model came into another state."""
        return self.state != self.previous


@dataclass(frozen=True)
class CapabilityFinding:
    """What one method says of a capability: ``probe``, ``declared``, ``engine``, ``metadata`` or
    ``name``. ``certainty`` is ``proven``, ``stated``, ``likely`` or ``guessed``."""

    source: str = ""
    is_able: bool = False
    certainty: str = ""
    reason: str = ""


@dataclass(frozen=True)
class CapabilityDecision:
    """What counts of one capability; ``also`` is what other methods say of it."""

    capability: str = ""
    source: str = ""
    certainty: str = ""
    reason: str = ""
    also: tuple[CapabilityFinding, ...] = ()


@dataclass(frozen=True)
class CapabilityProbe:
    """How a model did when it was asked for a capability: ``works``, ``refused``, ``wrong``, or
    ``failed`` where nothing follows. Stale: its files, options or engine are others now."""

    capability: str = ""
    outcome: str = ""
    reason: str = ""
    milliseconds: float = 0.0
    probed_at: str | None = None
    is_stale: bool = False


@dataclass(frozen=True)
class CapabilityReport:
    """What a model can do and cannot, with what every method says of it.

    Attributes:
        capabilities: what it can do; none: nothing is known.
        presumed: those of them that only its name tells: nothing is refused on their account.
        declared: what its entry says.
    """

    model_id: str = ""
    capabilities: tuple[str, ...] = ()
    presumed: tuple[str, ...] = ()
    declared: tuple[str, ...] = ()
    found: tuple[CapabilityDecision, ...] = ()
    ruled_out: tuple[CapabilityDecision, ...] = ()
    probes: tuple[CapabilityProbe, ...] = ()


@dataclass(frozen=True)
class History:
    """A page of a model's past, newest first. ``next_before`` asks for the next page, if any."""

    model_id: str = ""
    events: tuple[Happening, ...] = ()
    next_before: int | None = None


@dataclass(frozen=True)
class ConfigReload:
    """What the config file, read again, changed; ``needs_restart``: what it could not."""

    file: str = ""
    changed: Mapping[str, Any] = field(default_factory=dict)
    needs_restart: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkerView:
    """A worker process, by the pid of its front."""

    model_id: str = ""
    state: str = ""
    port: int | None = None
    worker_pid: int | None = None


@dataclass(frozen=True)
class RestartBegun:
    """The manager takes its leave: ``run`` names it, ``workers`` are those that it leaves."""

    run: str = ""
    wait_seconds: float = 0.0
    workers: tuple[WorkerView, ...] = ()


@dataclass(frozen=True)
class Restarted:
    """A restart that is over. ``lost`` are workers that the new manager does not have."""

    run: str = ""
    seconds: float = 0.0
    adopted: tuple[WorkerView, ...] = ()
    lost: tuple[WorkerView, ...] = ()


def compared(
    begun: RestartBegun, run: str, models: Iterable[ModelView], seconds: float
) -> Restarted:
    """Which workers outlived the restart. PURE."""
    now = {
        copy.get("worker_pid"): view(WorkerView, {**copy, "model_id": model.model_id})
        for model in models
        for copy in model.replicas
    }
    return Restarted(
        run,
        seconds,
        tuple(now[w.worker_pid] for w in begun.workers if w.worker_pid in now),
        tuple(w for w in begun.workers if w.worker_pid not in now),
    )


@dataclass(frozen=True)
class JobProgress:
    """How far a job is: ``done`` of ``total`` in ``unit``, and what it does; ``fraction`` of 1."""

    done: float = 0.0
    total: float | None = None
    unit: str = ""
    text: str = ""
    fraction: float | None = None


@dataclass(frozen=True)
class JobView:
    """Work that outlives a request.

    Attributes:
        state: ``queued``, ``running``, ``paused``, ``succeeded``, ``failed`` or ``cancelled``.
        log: lines with ``at`` and ``text``; empty in lists.
    """

    job_id: str = ""
    kind: str = ""
    subject: str = ""
    state: str = ""
    reason: str = ""
    code: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    progress: JobProgress = JobProgress()
    result: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 0
    created_at: str = ""
    started_at: str | None = None
    ended_at: str | None = None
    log: tuple[Mapping[str, Any], ...] = ()

    @property
    def is_active(self) -> bool:
        """It waits or runs."""
        return self.state in ("queued", "running")

    @property
    def has_succeeded(self) -> bool:
        return self.state == "succeeded"


@dataclass(frozen=True)
class RootView:
    """A folder in which the pool looks for models.

    Attributes:
        source: its layout.
        state: ``new``, ``scanning``, ``ready``, ``unreadable`` or ``hung``; ``reason`` says why.
        asked: a client named it, not the configuration.
        files_read: by the last look; the others were known.
    """

    path: str = ""
    source: str | None = None
    state: str = ""
    reason: str = ""
    asked: bool = False
    looked_at: str | None = None
    tried_at: str | None = None
    seconds: float = 0.0
    folders: int = 0
    files: int = 0
    files_read: int = 0


@dataclass(frozen=True)
class FindingView:
    """What is at a path; ``reason`` says why it is no model that can be loaded."""

    path: str = ""
    root: str = ""
    kind: str = ""
    format: str | None = None
    model_id: str | None = None
    companion: str | None = None
    reason: str = ""
    size_mb: float | None = None
    quantization: str | None = None
    context_length: int | None = None


@dataclass(frozen=True)
class Found:
    """What is on the disk: a page of ``total`` findings, and how many there are of each kind."""

    roots: tuple[RootView, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[FindingView, ...] = ()
    total: int = 0


@dataclass(frozen=True)
class ProfileView:
    """One measurement of a model; figures are ``{"median", "low", "high", "count"}``. ``stale``
    says why it does not hold any more, else it is empty."""

    at: str = ""
    form: str = ""
    levels: tuple[Mapping[str, Any], ...] = ()
    conditions: Mapping[str, Any] = field(default_factory=dict)
    requests: int = 0
    failed: int = 0
    load_seconds: float | None = None
    memory_bytes: Mapping[str, int] = field(default_factory=dict)
    stale: str = ""


@dataclass(frozen=True)
class Profiles:
    """What was measured of a model, newest first. ``changes`` are those from the second to the
    first: ``streams, figure, before, now, change, is_noise``."""

    model_id: str = ""
    profiles: tuple[ProfileView, ...] = ()
    changes: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class OptionView:
    """A load option in its layers; ``source`` is the one that counts: saved, tuned, memory or
    default."""

    name: str = ""
    default: Any = None
    tuned: Any = None
    saved: Any = None
    effective: Any = None
    source: str = ""
    running: Any = None


@dataclass(frozen=True)
class ModelOptions:
    """The load options of a model. ``tuned`` is what was found by trying, None where nothing was;
    ``message`` what else there is to say."""

    model_id: str = ""
    engine: str = ""
    options: tuple[OptionView, ...] = ()
    tuned: Mapping[str, Any] | None = None
    tuned_unused: str = ""
    tuned_doubtful: str = ""
    needs_reload: bool = False
    message: str = ""
