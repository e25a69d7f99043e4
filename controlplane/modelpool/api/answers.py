"""PURE. The answers of the management API, as its OpenAPI document describes them; the type checker
holds the code that makes them to it.

Sizes in MB are of 1,000,000 bytes, times are ISO 8601 in UTC.
"""

from __future__ import annotations

from typing import Any, NotRequired

# Pydantic reads no other before Python 3.12.
from typing_extensions import TypedDict

from modelpool.pool.capacity import Verdict

Json = dict[str, Any]


class Lease(TypedDict):
    ttl_remaining_minutes: float
    expires_at: str | None


class Sleeping(TypedDict):
    level: int
    since: str | None
    until: str | None
    port: int | None
    memory_mb: float | None


class Copy(Lease):
    state: str
    reason: str
    since: str | None
    generation: int
    port: int | None
    endpoint: str | None
    in_flight: int
    waiting: int
    concurrency_limit: int | None
    slots: int | None
    requests_total: int
    tokens_total: int
    worker_pid: int | None
    engine_pid: int | None
    engine_runs: str | None
    memory_measured_mb: float | None
    memory_reserved_mb: float | None
    progress: Json | None
    failure: Json | None
    sleeping: Sleeping | None


class Replica(Copy):
    replica: str


class RequestView(TypedDict):
    number: int
    request_id: str
    at: str | None
    model: str
    model_id: str | None
    virtual_model: str | None
    surface: str
    status: int
    code: str | None
    seconds: float
    waited_seconds: float
    first_token_seconds: float | None
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    tokens_estimated: bool
    stream: bool
    by: str
    worker_id: str | None
    captured: bool


class CapturedMessage(TypedDict):
    headers: dict[str, str]
    body: str
    size_bytes: int
    is_whole: bool


class CapturedContent(TypedDict):
    method: str
    target: str
    request: CapturedMessage
    answer: CapturedMessage
    curl: str | None


class RequestDetails(RequestView):
    content: CapturedContent | None


class CaptureView(TypedDict):
    on: bool
    ends_at: str | None
    seconds_left: float
    models: list[str] | None
    max_body_bytes: int | None
    max_minutes: float
    captured: int


class RequestList(TypedDict):
    log: str
    capture: CaptureView
    requests: list[RequestView]
    next_before: int | None
    kept: int
    missing: int


class UsageView(TypedDict):
    model: NotRequired[str]
    day: NotRequired[str]
    hour: NotRequired[str]
    requests: int
    errors: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    estimated_requests: int
    seconds: float
    cost: float
    currency: str


class UsageReport(TypedDict):
    by: list[str]
    since: str | None
    until: str | None
    rows: list[UsageView]
    totals: list[UsageView]


class Queue(TypedDict):
    position: int
    length: int
    estimated_wait_seconds: float


class Concurrency(TypedDict):
    setting: int | str
    limit: int | None
    in_flight: int
    waiting: dict[str, int]
    oldest_wait_seconds: float


class Memory(TypedDict):
    estimated_mb: float | None
    declared_mb: float | None
    measured_peak_mb: float | None
    current_mb: float | None
    current_peak_mb: float | None
    reserved_mb: float | None
    source_of_reservation: str
    devices_mb: dict[str, float | None]


class Fits(TypedDict):
    verdict: Verdict
    context_length: int | None
    gpu_layers: int | None


class FitsHow(Fits):
    parallel: int | None
    layers: int | None
    largest_context: int | None
    largest_context_now: int | None
    most_gpu_layers: int | None
    most_gpu_layers_now: int | None


class ProfileView(TypedDict):
    at: str | None
    form: str
    levels: list[Json]
    conditions: Json
    prompt_tokens: int
    output_tokens: int
    requests: int
    failed: int
    load_seconds: float | None
    memory_bytes: dict[str, int]
    is_stale: bool
    stale: str


class ModelView(Copy):
    model_id: str
    display_name: str
    model_type: str | None
    engine: str
    engine_problem: str
    environment: str
    devices: list[int | str] | None
    source: str
    concurrency: Concurrency
    waiting_for: str
    queue: Queue | None
    warmup: bool
    pinned: bool
    auto_unload: bool | None
    ttl_minutes: float | None
    min_replicas: int
    max_replicas: int
    priority: str
    coalesce: str
    balance: str
    fallbacks: list[str]
    missing_fallbacks: list[str]
    breakers: list[BreakerView]
    tags: list[str]
    aliases: list[str]
    capabilities: list[str]
    options: Json
    effective_options: Json
    memory_estimate_mb: float | None
    memory: Memory
    fits: Fits
    size_mb: float | None
    context_length: int | None
    quantization: str | None
    architecture: str | None
    origin: str
    places: list[str]
    companions: Json
    companion_reasons: Json
    served_by: str | None
    prices: Json
    upstream: Json
    replicas: list[Replica]


class ModelDetails(ModelView):
    facts: Json
    request: Json
    profile: ProfileView | None


class ModelList(TypedDict):
    models: list[ModelView]
    total: int
    next_offset: int | None


class SomeFields(TypedDict):
    """Of each model only what was asked for."""

    models: list[Json]
    total: int
    next_offset: int | None


class Registered(TypedDict):
    model: ModelView


class Changed(Registered):
    message: str


class JobProgress(TypedDict):
    done: float
    total: float | None
    unit: str
    text: str
    fraction: float | None


class JobLine(TypedDict):
    at: str | None
    text: str


class JobView(TypedDict):
    job_id: str
    kind: str
    subject: str
    state: str
    reason: str
    code: str
    params: Json
    progress: JobProgress
    result: Json
    attempts: int
    created_at: str | None
    started_at: str | None
    ended_at: str | None
    log: list[JobLine]


class JobList(TypedDict):
    jobs: list[JobView]


class JobForgotten(TypedDict):
    deleted: str


class RootView(TypedDict):
    path: str
    source: str | None
    state: str
    reason: str
    asked: bool
    looked_at: str | None
    tried_at: str | None
    seconds: float
    folders: int
    files: int
    files_read: int


class FindingView(TypedDict):
    path: str
    root: str
    kind: str
    format: str | None
    model_id: str | None
    companion: str | None
    reason: str
    size_mb: float | None
    quantization: str | None
    context_length: int | None


class DiscoveryList(TypedDict):
    roots: list[RootView]
    counts: dict[str, int]
    findings: list[FindingView]
    total: int


class RootForgotten(TypedDict):
    deleted: str
    vanished: list[str]
    waiting: list[str]


class FileRemoval(TypedDict):
    files: list[str]
    freed_bytes: int
    kept: list[str]


class Profiles(TypedDict):
    model_id: str
    profiles: list[ProfileView]
    changes: list[Json]


class TunedView(TypedDict):
    options: Json
    goal: str
    gain: float
    low: float
    high: float
    at: str | None
    engine_version: str
    tried: list[Json]


class OptionsView(TypedDict):
    model_id: str
    engine: str
    options: list[Json]
    tuned: TunedView | None
    tuned_unused: str
    tuned_doubtful: str
    is_running: bool
    needs_reload: bool
    message: str


class Untuned(TypedDict):
    model_id: str
    undone: TunedView | None


class Deleted(TypedDict):
    deleted: str
    removal: NotRequired[FileRemoval]
    virtual_models: NotRequired[list[str]]


class PulledHolding(TypedDict):
    reference: str
    models: list[str]
    bytes: int
    files: list[str]
    revision: str
    pulled_at: str | None


class UnfinishedDownload(TypedDict):
    file: str
    bytes: int
    reference: str
    is_wanted: bool


class ModelOnDisk(TypedDict):
    model_id: str
    source: str
    bytes: int | None
    is_pulled: bool


class DiskView(TypedDict):
    models_dir: str
    total_bytes: int
    free_bytes: int
    pulled_bytes: int
    pulls: list[PulledHolding]
    unfinished: list[UnfinishedDownload]
    models: list[ModelOnDisk]


class Extended(Lease):
    model_id: str
    granted_minutes: float
    capped: bool
    message: NotRequired[str]


class Endpoint(TypedDict):
    model_id: str
    endpoint: str
    base_url: str
    port: int
    state: str


class History(TypedDict):
    model_id: str
    events: list[Json]
    next_before: int | None


class CapabilityFinding(TypedDict):
    source: str
    is_able: bool
    certainty: str
    reason: str


class CapabilityDecision(TypedDict):
    capability: str
    source: str
    certainty: str
    reason: str
    also: list[CapabilityFinding]


class CapabilityProbe(TypedDict):
    capability: str
    outcome: str
    reason: str
    milliseconds: float
    probed_at: str | None
    is_stale: bool


class Capabilities(TypedDict):
    model_id: str
    capabilities: list[str]
    presumed: list[str]
    declared: list[str]
    found: list[CapabilityDecision]
    ruled_out: list[CapabilityDecision]
    probes: list[CapabilityProbe]


class WorkerHealth(TypedDict):
    model: str
    status: str
    port: int | None


class Victim(TypedDict):
    model_id: str
    state: str
    memory_mb: float | None
    reason: str


class DeviceNeeds(TypedDict):
    estimated_mb: float | None
    measured_peak_mb: float | None
    reserved_mb: float | None
    source: str


class Needs(TypedDict):
    memory_mb: float | None
    estimated_mb: float | None
    measured_peak_mb: float | None
    source: str
    devices_mb: dict[str, float | None]
    devices: dict[str, DeviceNeeds]
    parts_mb: dict[str, dict[str, float | None]]


class Room(TypedDict):
    limit_mb: float
    held_mb: float | None
    free_mb: float | None
    host_available_mb: float | None


class ModelCount(TypedDict):
    limit: int
    held: int


class Plan(TypedDict):
    model_id: str
    state: str
    action: str
    reason: str
    evict: list[Victim]
    waits_for: list[str]
    until: str | None
    queue: Queue | None
    port: int | None
    needs: Needs
    fits: FitsHow
    memory: Room
    models: ModelCount
    failure: Json | None


class SetStep(TypedDict):
    model_id: str
    state: str
    action: str
    reason: str
    evict: list[str]
    waits_for: list[str]
    until: str | None
    memory_mb: float | None
    devices_mb: dict[str, float | None]


class SetPlan(TypedDict):
    action: str
    reason: str
    steps: list[SetStep]
    evict: list[Victim]
    memory: Room
    models: ModelCount


class LoadOutcome(TypedDict):
    model_id: str
    outcome: str
    reason: str
    error: Json | None
    model: ModelView


class SetLoaded(TypedDict):
    message: str
    models: list[LoadOutcome]


class PoolHealth(TypedDict):
    status: str
    active_models: int
    total_models: int
    total_memory_mb: float
    available_ports: int
    failed_models: int
    memory_limit_mb: float
    version: str
    memory_pressure: str | None
    pool_id: str
    run: str
    pid: int
    hostname: str
    uptime_seconds: float
    host_memory_mb: float
    host_available_mb: float


class Found(TypedDict):
    model_id: str
    reasons: list[str]
    memory_mb: float | None
    latency_ms: float | None
    is_loaded: bool


class Findings(TypedDict):
    best: Found | None
    runners_up: list[Found]
    excluded: dict[str, list[str]]
    warnings: list[str]


class ManagedModel(TypedDict):
    id: str
    name: str
    provider: str
    contextWindow: int | None
    maxTokens: int | None
    capabilities: list[str]
    status: str


class ManagedModels(TypedDict):
    models: list[ManagedModel]
    count: int


class ManagedPage(ManagedModels):
    """``count`` of ``models``; ``total`` is that of all pages, where one was asked for."""

    total: NotRequired[int]


class LoadedModels(ManagedModels):
    currentModel: ManagedModel | None


class Performance(TypedDict):
    averageLatency: float
    tokensPerSecond: float
    successRate: float


class CurrentModel(TypedDict):
    key: str
    model: ManagedModel
    loadedAt: str | None
    totalInferences: int
    performanceMetrics: Performance


class Current(TypedDict):
    model: CurrentModel | None


class Managed(TypedDict):
    message: str
    provider: str
    model: str


class Switched(Managed):
    currentModel: ManagedModel


class Profiled(TypedDict):
    success: bool
    message: str
    job_id: str
    metrics: Json | None


class ManagedCapabilities(TypedDict):
    success: bool
    key: str
    capabilities: list[str]


class ManagedStatistics(TypedDict):
    success: bool
    statistics: Json


class Discovered(TypedDict):
    success: bool
    message: str
    job_id: str
    models: list[ManagedModel]
    count: int


class StateSavedToo(TypedDict):
    success: bool
    message: str
    path: str


class Version(TypedDict):
    version: int
    until: str | None
    entry: Json
    can_be_restored: bool


class Versions(TypedDict):
    model_id: str
    versions: list[Version]


class StateSaved(TypedDict):
    message: str
    path: str


class Status(TypedDict):
    status: str


class Engines(TypedDict):
    engines: list[Json]
    environments: list[Json]
    providers: list[Json]


class Devices(TypedDict):
    devices: list[Json]
    vendors: list[Json]
    budgets_mb: dict[str, int]


class ConfigChange(TypedDict):
    changed: Json
    live_keys: list[str]
    config: Json


class ModelChanges(TypedDict):
    added: list[str]
    updated: list[str]
    removed: list[str]


class KeySourceView(TypedDict):
    value: Any
    source: str
    place: str
    default: Any
    live: bool
    after_restart: NotRequired[Any]


class ConfigSources(TypedDict):
    file: str | None
    keys: dict[str, KeySourceView]


class ConfigReload(TypedDict):
    file: str
    changed: Json
    needs_restart: Json
    models: ModelChanges


class GoingOn(TypedDict):
    model_id: str
    state: str
    port: int | None
    worker_pid: int


class Restarting(TypedDict):
    message: str
    run: str
    wait_seconds: float
    workers: list[GoingOn]


class Registry(TypedDict):
    models: list[Json]


class Imported(TypedDict):
    added: list[str]
    updated: list[str]
    unchanged: list[str]
    deleted: list[str]


class Targets(TypedDict):
    targets: list[str]
    labels: dict[str, str]


class Registrars(TypedDict):
    registrars: list[Json]


class VirtualModelView(TypedDict):
    name: str
    kind: str
    version: int
    origin: str
    updated_at: str | None
    targets: list[str]
    missing: list[str]
    is_shadowed: bool
    entry: Json


class VirtualModelList(TypedDict):
    virtual_models: list[VirtualModelView]
    kinds: dict[str, str]
    unreadable: dict[str, str]


class VirtualModelChanged(TypedDict):
    message: str
    virtual_model: VirtualModelView | None
    warnings: list[str]


class VirtualModelVersion(TypedDict):
    version: int
    until: str | None
    entry: Json | None
    reason: str


class VirtualModelVersions(TypedDict):
    name: str
    current: VirtualModelView | None
    versions: list[VirtualModelVersion]


class BreakerView(TypedDict):
    breaker: str
    model_id: str
    state: str
    reason: str
    recent_failures: int
    successes: int
    trials: int
    is_shut_out: bool
    retry_seconds: float | None


class BreakerList(TypedDict):
    breakers: list[BreakerView]
    paused_seconds: dict[str, float]


class AlertView(TypedDict):
    alert: str
    status: str
    severity: str
    labels: dict[str, str]
    summary: str
    reason: str
    value: float
    active_at: str
    fired_at: str | None
    resolved_at: str | None
    told_at: str | None
    silenced_by: str | None
    fingerprint: str


class SilenceView(TypedDict):
    silence_id: str
    matchers: dict[str, str]
    created_at: str
    ends_at: str
    comment: str


class AlertRuleView(TypedDict):
    name: str
    signal: str
    unit: str
    above: float
    window_seconds: float | None
    min_count: int
    for_seconds: float
    keep_firing_for_seconds: float
    severity: str
    models: list[str]
    summary: str
    not_measured: str | None


class AlertTargetView(TypedDict):
    name: str
    kind: str
    min_severity: str
    send_resolved: bool
    waiting: int
    sent: int
    lost: int
    problem: str | None


class AlertList(TypedDict):
    enabled: bool
    alerts: list[AlertView]
    silences: list[SilenceView]
    rules: list[AlertRuleView]
    targets: list[AlertTargetView]


class AlertTested(TypedDict):
    target: str
    arrived: bool
    problem: str


class AlertTest(TypedDict):
    targets: list[AlertTested]


class Presets(TypedDict):
    presets: dict[str, Json]
    built_in: list[str]


class PassedView(TypedDict):
    name: str
    kind: str
    version: int
    reasons: list[str]


class RouteView(TypedDict):
    model: str
    selected_model: str
    state: str | None
    fallbacks: list[str]
    virtual_models: list[PassedView]
    plan: Json
    changes: list[str]
    reasoning: str
    reasons: list[str]
    confidence: float
    complexity: str | None
    difficulty: float | None
    task_type: str | None
    scores: Json | None
    runners_up: list[Json]
    excluded: Json
    rule: str | None
    trace: list[Json]
    decision: Json


class RouteFailure(TypedDict):
    model: str
    error: Json


class TaughtView(TypedDict):
    model: str
    task_type: str
    offset: float
    outcomes: int


class OutcomeTaken(TaughtView):
    message: str


class OutcomeList(TypedDict):
    is_on: bool
    half_life_days: float
    learned: list[TaughtView]


class OutcomesForgotten(TypedDict):
    message: str
    forgotten: int


class Routes(TypedDict):
    routes: list[RouteView | RouteFailure]
