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
class Breaker:
    """Whether a worker or a server elsewhere that has failed is asked for now.

    Attributes:
        breaker: ``worker:REPLICA`` or ``upstream:MODEL``.
        model_id: of the entry whose worker or server it is.
        state: CLOSED, OPEN or HALF_OPEN.
        recent_failures: those that count, while it is CLOSED.
        successes, trials: of the requests that find out, while it is HALF_OPEN: good ones, and
            those under way.
        is_shut_out: it gets no requests now; the only copy of a local model always does.
        retry_seconds: until requests find out; None where it is not OPEN.
    """

    breaker: str
    model_id: str = ""
    state: str = "CLOSED"
    reason: str = ""
    recent_failures: int = 0
    successes: int = 0
    trials: int = 0
    is_shut_out: bool = False
    retry_seconds: float | None = None


@dataclass(frozen=True)
class AlertView:
    """Something that deserves a look.

    Attributes:
        alert: the rule's name.
        status: pending, firing or resolved.
        severity: info, warning or critical.
        labels: whose it is: ``model``, or ``currency``; empty: the pool's.
        summary, reason: what it means, and the figures.
        active_at, fired_at, resolved_at: since when it is pending or fires; None: never.
        told_at: when targets were last told that it fires.
        silenced_by: the silence for which nobody is told.
    """

    alert: str = ""
    status: str = ""
    severity: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    summary: str = ""
    reason: str = ""
    value: float = 0.0
    active_at: str = ""
    fired_at: str | None = None
    resolved_at: str | None = None
    told_at: str | None = None
    silenced_by: str | None = None
    fingerprint: str = ""


@dataclass(frozen=True)
class SilenceView:
    """Alerts of which nobody is told until ``ends_at``: those whose labels fit all patterns of
    ``matchers``."""

    silence_id: str = ""
    matchers: Mapping[str, str] = field(default_factory=dict)
    created_at: str = ""
    ends_at: str = ""
    comment: str = ""


@dataclass(frozen=True)
class AlertRuleView:
    """A rule that is evaluated; ``not_measured`` says why nothing is known of its signal."""

    name: str = ""
    signal: str = ""
    unit: str = ""
    above: float = 0.0
    window_seconds: float | None = None
    min_count: int = 1
    for_seconds: float = 0.0
    keep_firing_for_seconds: float = 0.0
    severity: str = ""
    models: tuple[str, ...] = ()
    summary: str = ""
    not_measured: str | None = None


@dataclass(frozen=True)
class AlertTargetView:
    """Who is told of alerts. ``problem``: why the last message did not arrive."""

    name: str = ""
    kind: str = ""
    min_severity: str = ""
    send_resolved: bool = True
    waiting: int = 0
    sent: int = 0
    lost: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class AlertReport:
    """Alerts that fire, are pending or were resolved lately, and all that belongs to them."""

    enabled: bool = True
    alerts: tuple[AlertView, ...] = ()
    silences: tuple[SilenceView, ...] = ()
    rules: tuple[AlertRuleView, ...] = ()
    targets: tuple[AlertTargetView, ...] = ()


@dataclass(frozen=True)
class VirtualModel:
    """A name that is no model.

    Attributes:
        kind: ``alias``, ``weighted``, ``fallback``, ``by_class`` …
        version: to be named by who wants to change just this.
        targets: every name that it may ask; ``missing`` are those that nobody has now.
        is_shadowed: a model is called so, too, which is asked in its place.
        entry: as it is written.
    """

    name: str
    kind: str = ""
    version: int = 0
    origin: str = ""
    updated_at: str = ""
    targets: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    is_shadowed: bool = False
    entry: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class VirtualModelVersion:
    """What a name stood for until ``until``; an entry of None: nothing."""

    version: int = 0
    until: str = ""
    entry: Mapping[str, Any] | None = None
    reason: str = ""


@dataclass(frozen=True)
class VirtualModelChange:
    """A change that was made; ``virtual_model`` is None where it was a deletion."""

    message: str = ""
    virtual_model: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Route:
    """Who would answer a request.

    Attributes:
        selected_model: is asked first; ``fallbacks`` would follow.
        virtual_models: that were followed, each with its kind, version and reasons.
        plan: all that would be done.
        changes: of the request, each as a phrase.
        confidence: from 0 to 1.
        complexity, difficulty, task_type, scores, runners_up, excluded: where ``auto`` decided.
        rule: of a policy, that which the request met; ``trace``: those before, and why not they.
        error: why there is none, of a request of a list.
    """

    model: str = ""
    selected_model: str = ""
    state: str | None = None
    fallbacks: tuple[str, ...] = ()
    virtual_models: tuple[Mapping[str, Any], ...] = ()
    plan: Mapping[str, Any] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    reasoning: str = ""
    reasons: tuple[str, ...] = ()
    confidence: float = 1.0
    complexity: str | None = None
    difficulty: float | None = None
    task_type: str | None = None
    scores: Mapping[str, Any] | None = None
    runners_up: tuple[Mapping[str, Any], ...] = ()
    excluded: Mapping[str, Any] = field(default_factory=dict)
    rule: str | None = None
    trace: tuple[Mapping[str, Any], ...] = ()
    decision: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Taught:
    """What outcomes have taught of a model at a kind of work.

    Attributes:
        offset: of its skill, by so many ``outcomes``.
        message: after a report.
    """

    model: str
    task_type: str = ""
    offset: float = 0.0
    outcomes: int = 0
    message: str = ""


@dataclass(frozen=True)
class OutcomeReport:
    """What outcomes have taught.

    Attributes:
        is_on: they count (``learn_from_outcomes``).
        half_life_days: half of it is forgotten after so many; 0: nothing is.
    """

    is_on: bool = False
    half_life_days: float = 0.0
    learned: tuple[Taught, ...] = ()


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
class SetStep:
    """One model of a set: what would become of it, as in ``LoadPlan``, and what it takes."""

    model_id: str = ""
    state: str = ""
    action: str = ""
    reason: str = ""
    evict: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()
    until: str | None = None
    memory_mb: float | None = None
    devices_mb: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class SetPlan:
    """What loading several models as one would do right now.

    Attributes:
        action: that of the member that has most in its way: ``refuse`` before ``wait``, ``start``,
            ``join`` and ``loaded``.
        steps: in the order in which they would begin; those that need no start come first.
        evict: who would go for any of them.
        memory, models: the figures behind it.
    """

    action: str = ""
    reason: str = ""
    steps: tuple[SetStep, ...] = ()
    evict: tuple[Eviction, ...] = ()
    memory: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadOutcome:
    """What became of one model of a set.

    Attributes:
        outcome: ``already_loaded``, ``loaded``, ``loading``, ``waiting`` (for room) or ``failed``.
        error: why it failed, as the pool says it to who loads only this one.
    """

    model_id: str = ""
    outcome: str = ""
    reason: str = ""
    error: Mapping[str, Any] | None = None
    model: ModelView = field(default_factory=ModelView)


@dataclass(frozen=True)
class SetLoaded:
    """What became of the models of a set, in the order in which they were asked for."""

    message: str = ""
    models: tuple[LoadOutcome, ...] = ()

    @property
    def failed(self) -> tuple[LoadOutcome, ...]:
        """Those that could not be loaded."""
        return tuple(each for each in self.models if each.outcome == "failed")


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
class RequestView:
    """A request that is over: facts, nothing that was said. All lengths of time are seconds;
    ``first_token_seconds`` is None where its answer came in one piece, or never. ``by`` says whom
    the client asked, ``gateway`` or ``worker``; ``worker_id`` is None where no worker had it."""

    number: int = 0
    request_id: str = ""
    at: str = ""
    model: str = ""
    model_id: str | None = None
    virtual_model: str | None = None
    surface: str = ""
    status: int = 0
    code: str | None = None
    seconds: float = 0.0
    waited_seconds: float = 0.0
    first_token_seconds: float | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    tokens_estimated: bool = False
    stream: bool = False
    by: str = ""
    worker_id: str | None = None
    captured: bool = False


@dataclass(frozen=True)
class CapturedMessage:
    """A request or an answer that was captured: without what looks like a key, and perhaps cut.
    ``size_bytes`` is that of the whole body, which ``body`` is if it ``is_whole``."""

    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    size_bytes: int = 0
    is_whole: bool = True


@dataclass(frozen=True)
class CapturedContent:
    """What was said in a request; ``curl`` is a command that asks the same again, None where the
    request is not known as a whole."""

    method: str = ""
    target: str = ""
    request: CapturedMessage = CapturedMessage()
    answer: CapturedMessage = CapturedMessage()
    curl: str | None = None


@dataclass(frozen=True)
class RequestDetails(RequestView):
    """A request that is over, with what was said in it where that was captured."""

    content: CapturedContent | None = None


@dataclass(frozen=True)
class CaptureView:
    """Whether what is said in requests is captured, of which models (None: all) and until when;
    ``captured`` is of how many requests it is known."""

    on: bool = False
    ends_at: str | None = None
    seconds_left: float = 0.0
    models: tuple[str, ...] | None = None
    max_body_bytes: int | None = None
    max_minutes: float = 0.0
    captured: int = 0


@dataclass(frozen=True)
class RequestPage:
    """Of the request log, newest first. ``log`` is what is kept (``facts``, ``off``), ``missing``
    how many were dropped by workers, ``next_before`` asks for the next page, if any."""

    log: str = ""
    capture: CaptureView = CaptureView()
    requests: tuple[RequestView, ...] = ()
    next_before: int | None = None
    kept: int = 0
    missing: int = 0


@dataclass(frozen=True)
class UsageView:
    """What was used; by model, day and hour (ISO 8601, UTC) as far as that was asked for. Prompts
    have the cached tokens in them; of ``estimated_requests`` they were not told, but counted by
    pieces and bytes. ``seconds`` are the sum of the requests' own."""

    model: str = ""
    day: str = ""
    hour: str = ""
    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    estimated_requests: int = 0
    seconds: float = 0.0
    cost: float = 0.0
    currency: str = ""


@dataclass(frozen=True)
class UsageReport:
    """Usage and cost, newest first; ``totals`` over all rows, one for each currency."""

    by: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None
    rows: tuple[UsageView, ...] = ()
    totals: tuple[UsageView, ...] = ()


@dataclass(frozen=True)
class KeySource:
    """Where a key's value comes from: ``source`` is ``default``, ``file``, ``environment`` or
    ``runtime``, ``place`` which one. One that is not ``live`` changes with a restart only."""

    value: Any = None
    source: str = ""
    place: str = ""
    default: Any = None
    live: bool = False
    after_restart: Any = None


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
