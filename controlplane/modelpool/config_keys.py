"""Every key of the configuration, with its default and bounds. PURE but for the two defaults that
ask the machine. How keys are checked is in ``config_checks``. Import from ``modelpool.config``.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from modelpool_client.http1.timeouts import Timeouts
from modelpool_client.origins import read_host_pattern, read_origin_pattern
from modelpool_client.wire import Allowlist, LogLimits, PromptCacheLimits, Tracing
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    InstanceOf,
    PlainValidator,
    PrivateAttr,
    StrictStr,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema

from .alerts.settings import AlertsSettings
from .catalog.entry_schema import CONCURRENCY_LIMIT, ENVIRONMENT_NAME, model_entry_schema
from .catalog.model import ConcurrencyLimit, Model
from .catalog.sources.registry import sources
from .catalog.variables import template
from .discovery.roots import given_path
from .homes import expanded
from .observe.trace_settings import tracing
from .pool.memory import read_pressure
from .providers.settings import ProviderSettings, RemoteModelSettings, check_names
from .registrars.settings import RegistrarSettings, each_once
from .routing.configured import check_auto, check_presets, check_virtual_models

DEFAULT_MEMORY_LIMIT_MB = 32_000
BYTES_PER_MB = 1_000_000
# Whose name no preset may have: it would never be used.
ENGINES_OF_THEIR_OWN = frozenset(
    {"anthropic", "auto", "command", "coreml", "espeak-ng", "fake", "faster-whisper"}
    | {"http", "kokoro", "llama-cpp-python", "llama-server", "llama.cpp", "mlx"}
    | {"ollama", "onnx", "openai", "piper", "pocketsphinx", "transformers"}
)


def machine_memory_mb() -> int:
    """Memory of this machine, or of the container that it is run in, in MB of 1,000,000 bytes."""
    return read_pressure().total // BYTES_PER_MB


def default_memory_limit_mb() -> int:
    """32000, or what the machine has where that is less."""
    return min(DEFAULT_MEMORY_LIMIT_MB, machine_memory_mb())


def default_state_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the state lies without a config file: XDG's folder for it."""
    base = environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(os.path.expanduser(base)) / "modelpool"


def _loopback(host: str) -> str:
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ValueError(
            "only loopback (127.0.0.1, ::1, localhost) is served: "
            "this version has no API keys to let other machines in with"
        )
    return host


def _or_machine(value: Any) -> Any:
    return default_memory_limit_mb() if value is None else value


def _limit(value: Any) -> int | str:
    """A number may come as text, from a variable."""
    if value in ("adaptive", "unlimited"):
        return str(value)
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError("must be a whole number from 1, adaptive or unlimited")
    return number


def _origin(text: str) -> str:
    read_origin_pattern(text)
    return text


def _web_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ValueError("must be the URL of a server, https://…, without a password")
    return text


def _host(text: str) -> str:
    read_host_pattern(text)
    return text


def _preset_name(name: str) -> str:
    if name in ENGINES_OF_THEIR_OWN:
        raise ValueError("is the name of an engine that is started in another way")
    return name


def engine_settings(
    presets: Mapping[str, Any], llama_server: str | None, state_dir: Path
) -> dict[str, Any]:
    """What workers and their engines are told of the configuration."""
    folders = {"native_dir": str(state_dir / "native"), "notes_dir": str(state_dir / "engines")}
    told = {**folders, "presets": presets}
    return told | ({"llama_server": llama_server} if llama_server else {})


def _absolute(text: str) -> str:
    path = Path(expanded(text))
    if not path.is_absolute():
        raise ValueError(f"must be an absolute path, not {text!r}")
    return str(path)


def _discovery_path(text: str | None) -> str | None:
    return None if text is None else _folder(text)


def _folder(text: str) -> str:
    return given_path(expanded(text), str(Path.home()))


Minutes = Annotated[float, Field(ge=0, le=525_600)]
Seconds = Annotated[float, Field(ge=0, le=31_536_000)]
SomeSeconds = Annotated[float, Field(gt=0, le=31_536_000)]
Megabytes = Annotated[int, Field(ge=1, le=1_000_000_000), BeforeValidator(_or_machine)]
DeviceId = Annotated[StrictStr, Field(pattern=r"^[a-z]+:\d+$")]
DeviceMegabytes = Annotated[int, Field(ge=1, le=1_000_000_000)]
EnvironmentName = Annotated[StrictStr, Field(pattern=ENVIRONMENT_NAME)]
Extra = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Extras = Annotated[tuple[Extra, ...], Field(strict=False)]
Limit = Annotated[ConcurrencyLimit, PlainValidator(_limit), WithJsonSchema(CONCURRENCY_LIMIT)]
PortNumber = Annotated[int, Field(ge=1, le=65_535)]
AttachedKinds = Annotated[tuple[Literal["projector", "draft"], ...], Field(strict=False)]
ModelIds = Annotated[tuple[StrictStr, ...], Field(strict=False)]
AllowedOrigins = Annotated[
    tuple[Annotated[StrictStr, AfterValidator(_origin)], ...], Field(strict=False)
]
AllowedHosts = Annotated[
    tuple[Annotated[StrictStr, AfterValidator(_host)], ...], Field(strict=False)
]
PresetName = Annotated[
    StrictStr, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$"), AfterValidator(_preset_name)
]
ModelEntry = Annotated[InstanceOf[Model], WithJsonSchema(model_entry_schema())]


class _Frozen(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class PortRange(_Frozen):
    """Ports that workers may stand on, both ends included."""

    start: PortNumber = 8051
    end: PortNumber = 8099

    def __contains__(self, port: object) -> bool:
        return isinstance(port, int) and self.start <= port <= self.end

    def __len__(self) -> int:
        return max(0, self.end - self.start + 1)

    @property
    def ports(self) -> range:
        """Every port, lowest first."""
        return range(self.start, self.end + 1)


class EnvironmentSettings(_Frozen):
    """A virtual environment that workers may run from: one that is there, by its ``python``, or one
    that `poolctl engines install NAME` makes, with ``extras`` of modelpool and ``packages``."""

    python: Annotated[StrictStr, AfterValidator(_absolute)] | None = Field(
        None, description="Its interpreter, an absolute path; modelpool is installed there"
    )
    extras: Extras = Field((), description="Of modelpool, as transformers, onnx, llama")
    packages: Annotated[tuple[StrictStr, ...], Field(strict=False)] = Field(
        (), description='What pip is to install beside them, as "torch==2.13.0"'
    )

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> EnvironmentSettings:
        if self.python is not None and (self.extras or self.packages):
            raise ValueError("has a python of its own: extras and packages are installed by you")
        if any(package.startswith("-") for package in self.packages):
            raise ValueError("packages must not begin with '-': options of pip stand in its config")
        return self


class DiscoveryPath(_Frozen):
    """A folder to look for models in, or a single file; without ``path`` wherever programs with
    that layout have theirs. A text is the path."""

    path: Annotated[StrictStr | None, AfterValidator(_discovery_path)] = Field(
        None, description="Absolute, or relative to this file's folder; ~ and C:\\ are understood"
    )
    source: StrictStr | None = Field(
        None,
        description="Its layout: folder, huggingface, lm_studio, llama_cpp, ollama, external;"
        " null: what it looks like",
    )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        own = handler.resolve_ref_schema(handler(core))
        return {"anyOf": [{"type": "string"}, own], "description": own.pop("description")}

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _is_something(self) -> DiscoveryPath:
        if self.source is not None and self.source not in sources():
            raise ValueError(f"source {self.source!r} is unknown; there are {', '.join(sources())}")
        if self.path is None and self.source is None:
            raise ValueError("should have a path, a source, or both")
        return self


class PoolConfig(_Frozen):
    """Everything that can be set. Names say the unit; MB are 1,000,000 bytes."""

    host: Annotated[str, AfterValidator(_loopback)] = Field(
        "127.0.0.1", description="Address that the manager and its workers listen on; loopback only"
    )
    port: PortNumber = Field(8050, description="The manager's own port")
    ollama_port: PortNumber | None = Field(
        None,
        description="One more port that the manager answers on, for tools that look for Ollama at"
        " its own (11434) and cannot be told another; null: none",
    )
    port_range: PortRange = Field(PortRange(), description="Ports of the workers")
    default_ttl_minutes: Minutes = Field(15, description="Idle time until COOLING; 0 is never")
    min_ttl_minutes: Minutes = Field(5, description="Least TTL that a model may ask for")
    max_ttl_minutes: Minutes = Field(60, description="Most TTL that a model may ask for")
    grace_minutes: Minutes = Field(2, description="COOLING: idle, still serving, until unloading")
    sleep_minutes: Minutes = Field(
        60,
        description="Engines that can sleep do so in place of an idle unload or an eviction, for so"
        " long at most; 0: never",
    )
    max_sleeping_models: Annotated[int, Field(ge=0, le=65_535)] = Field(
        3, description="Models asleep at the same time, which count as none in memory; 0: none"
    )
    check_interval_seconds: SomeSeconds = Field(30, description="Between two repair sweeps")
    warmup_models: ModelIds = Field((), description="Ids of models to load at start and keep")
    max_concurrent_models: Annotated[int, Field(ge=1, le=65_535)] = Field(
        5, description="Models in memory at the same time"
    )
    memory_limit_mb: Megabytes = Field(
        default_factory=default_memory_limit_mb,
        description="Host memory for all workers; null is 32000, or what the machine has if less",
        json_schema_extra={"type": ["integer", "null"]},
    )
    device_memory_mb: Mapping[DeviceId, DeviceMegabytes] = Field(
        {}, description='Memory for all workers on each device, as {"cuda:0": 20000}'
    )
    environments: Mapping[EnvironmentName, EnvironmentSettings] = Field(
        {},
        description="Virtual environments that workers may run from, named by models' environment:"
        ' {"new-torch": {"extras": ["transformers"]}, "mine": {"python": "/opt/x/bin/python"}}',
    )
    request_log: Literal["off", "facts"] = Field(
        "facts",
        description="What is remembered of requests that are over: facts (times, tokens, errors;"
        " nothing that was said), or nothing",
    )
    request_log_entries: Annotated[int, Field(ge=1, le=100_000)] = Field(
        2000, description="Requests in the log at most, in memory; the oldest go first"
    )
    capture_max_minutes: Minutes = Field(
        60,
        description="Minutes that what is said in requests may be captured at a time, for whoever"
        " looks for a fault (`poolctl requests capture`); 0: never",
    )
    usage_keep_days: Annotated[int, Field(ge=1, le=100_000)] = Field(
        400, description="Days that usage and cost are kept; by hour for the last 7, then by day"
    )
    prompt_cache_disk_mb: Annotated[int, Field(ge=0, le=1_000_000_000)] = Field(
        2000,
        description="Disk for the prompt caches of unloaded models, which hold what was said to"
        " them; the oldest go first, 0 keeps none and removes what was kept",
    )
    prompt_cache_seconds: Seconds = Field(
        2, description="Most that a prompt cache may add to an unload, and to the load after it"
    )
    response_store_mb: Annotated[int, Field(ge=0, le=1_000_000_000)] = Field(
        200,
        description="Disk for answers of /v1/responses that clients may ask for again or go on"
        " from; the oldest go first, 0 keeps none and removes what was kept",
    )
    auto_unload: bool = Field(True, description="Unload what is idle (eviction happens anyway)")
    graceful_shutdown_seconds: Seconds = Field(30, description="For current work to end in")
    load_wait_seconds: SomeSeconds = Field(300, description="Most that a request waits for a load")
    max_queue_wait_seconds: Seconds = Field(
        30, description="A start that waited for room that long: those that have room yield to it"
    )
    priority_ageing_seconds: SomeSeconds = Field(
        30, description="Waiting that long, for room or for a place, is worth one class of priority"
    )
    concurrency_limit: Limit = Field(
        "adaptive",
        description="Requests that a worker is given at a time, more wait by priority; adaptive:"
        " its engine's slots and up to twice as many, or as many as serve best where it has none",
    )
    max_waiting_requests: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        1000, description="Requests that may wait for a model: for its load, or for a place"
    )
    enable_speculative_loading: bool = Field(
        False, description="Load what is usually used soon, into spare memory only"
    )
    preload_threshold: Annotated[float, Field(gt=0, le=1_000_000)] = Field(
        10, description="Uses usual for an hour of the week from which on a model is preloaded"
    )
    pressure_available_mb: Annotated[float, Field(ge=0, le=1_000_000_000)] = Field(
        256, description="Idle models go while the host has less memory available; 0 is off"
    )
    pressure_percent: Annotated[float, Field(ge=0, le=100)] = Field(
        20, description="... or while so much of the time something waits for memory; 0 is off"
    )
    profile_when_idle: bool = Field(
        False, description="Measure loaded models again whose profile is missing or stale"
    )
    tune_when_idle: Literal["off", "first-token", "one-stream", "many-streams"] = Field(
        "off", description="Try options of loaded models that were not tuned for this goal"
    )
    measure_idle_minutes: Minutes = Field(
        10, description="... once nobody has used any model for that long"
    )
    eviction_policy: Literal["loss", "lru"] = Field(
        "loss", description="Who goes first: the least (use x reload time / bytes), or the oldest"
    )
    load_stall_seconds: SomeSeconds = Field(
        300, description="A load without progress for that long is given up"
    )
    hang_seconds: SomeSeconds = Field(
        60, description="Work in flight without progress for that long: the engine is probed"
    )
    port_rest_seconds: Seconds = Field(60, description="A freed port rests, unless none is left")
    failed_retry_seconds: Seconds = Field(10, description="FAILED until requests may load again")
    restart_backoff_seconds: Seconds = Field(1, description="First delay after a crash; doubles")
    restart_backoff_max_seconds: Seconds = Field(60, description="Longest delay after a crash")
    crash_budget: Annotated[int, Field(ge=0, le=1000)] = Field(
        3, description="Crashes within the window until no restart is tried"
    )
    crash_window_seconds: SomeSeconds = Field(600, description="In which crashes are counted")
    breaker_failures: Annotated[int, Field(ge=0, le=1000)] = Field(
        5, description="Failures of a worker or a server elsewhere that open its breaker; 0: never"
    )
    breaker_failure_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.2, description="... where they are that share of the requests meanwhile"
    )
    breaker_window_seconds: SomeSeconds = Field(60, description="... and all within so long")
    breaker_open_seconds: SomeSeconds = Field(
        60, description="An open breaker lets nothing pass for so long, then a few requests"
    )
    breaker_successes: Annotated[int, Field(ge=1, le=1000)] = Field(
        3, description="Of these, so many must be answered until it closes"
    )
    retry_attempts: Annotated[int, Field(ge=0, le=10)] = Field(
        2, description="How often a request is sent again, before the first byte, after a failure"
    )
    retry_budget: Annotated[float, Field(ge=0, le=1)] = Field(
        0.2, description="Requests sent again, as a share of all; 2 a second are always granted"
    )
    min_residency_seconds: Seconds = Field(2, description="A loaded model is no victim that long")
    beat_seconds: SomeSeconds = Field(10, description="Between two heartbeats of a worker")
    enable_spare_worker: bool = Field(
        True,
        description="Keep a started process without a model, 30 MB: a load is 0.1 s quicker",
    )
    orphan_seconds: Seconds = Field(600, description="A worker outlives its manager's lease by it")
    stream_ping_seconds: SomeSeconds = Field(
        5, description="Silence of a stream until it gets a comment"
    )
    client_header_timeout_seconds: SomeSeconds = Field(
        60, description="For the head of a request (nginx: 60)"
    )
    client_body_timeout_seconds: SomeSeconds = Field(
        60, description="Between two parts of a request's body (nginx: 60)"
    )
    send_timeout_seconds: SomeSeconds = Field(
        60, description="In which a client must take something of its answer (nginx: 60)"
    )
    allowed_origins: AllowedOrigins = Field(
        (),
        description="Origins whose pages may ask, besides loopback: https://app.example,"
        " https://*.app.example, app://obsidian.md, chrome-extension://ID, vscode-webview://*,"
        " null for sandboxed pages and files, * for all but those",
    )
    allowed_hosts: AllowedHosts = Field(
        (),
        description="Hosts by which requests may come, besides loopback, as behind a proxy:"
        " pool.example, *.pool.example; any port",
    )
    max_body_mb: Annotated[float, Field(gt=0, le=4096)] = Field(64, description="Largest request")
    state_dir: Annotated[Path, Field(strict=False)] = Field(
        default_factory=default_state_dir,
        description="Database, logs and run time files; relative to this file's folder",
    )
    providers: Annotated[Mapping[StrictStr, ProviderSettings], AfterValidator(check_names)] = Field(
        {}, description="Servers of models elsewhere, by name; see docs/remote.md"
    )
    remote_models: Mapping[StrictStr, RemoteModelSettings] = Field(
        {},
        description="What is known of models at providers, by PROVIDER:NAME, before our own table",
    )
    registrars: Annotated[
        tuple[RegistrarSettings, ...], Field(strict=False), AfterValidator(each_once)
    ] = Field((), description="Registries that are told about HOT workers")
    alerts: AlertsSettings = Field(
        AlertsSettings.model_validate({}),
        description="Alerts: own rules and changes to ours, and who is told (docs/alerts.md);"
        " targets are set in the config file only",
    )
    discovery_paths: Annotated[tuple[DiscoveryPath, ...], Field(strict=False)] = Field(
        (),
        description="Where models are looked for: folders, or layouts of other programs"
        " ({source: ollama}); what is there is in the catalog",
    )
    attach_companions: AttachedKinds = Field(
        ("projector", "draft"),
        description="What a GGUF model is run with from when it is found, if it goes with it; an"
        " adapter never is (docs/discovery.md, Companions); []: nothing",
    )
    watch_discovery_paths: bool = Field(
        True, description="Look again as soon as something changes there, where the system tells"
    )
    discovery_calm_seconds: Annotated[float, Field(ge=0, le=3600)] = Field(
        5, description="Without a change until a file, or a folder, is looked at: downloads grow"
    )
    discovery_interval_seconds: Seconds = Field(
        300, description="Between two looks where nothing tells of changes (networks); 0 is never"
    )
    discovery_stall_seconds: SomeSeconds = Field(
        30, description="A disk that does not answer for that long is given up for now"
    )
    external_models_dir: Annotated[StrictStr | None, AfterValidator(_discovery_path)] = Field(
        None, description="A folder of providers' folders of models (EXTERNAL_MODELS_DIR)"
    )
    option_file_paths: Annotated[
        tuple[Annotated[StrictStr, AfterValidator(_folder)], ...], Field(strict=False)
    ] = Field(
        (),
        description="Folders whose files requests may name in options (chat_template_file,"
        " draft_model, lora, mmproj …), beside models_dir, discovery_paths and each model's own"
        " folder, and as models (docs/operations.md, Safety); the config file may name any",
    )
    enable_gguf_models: bool = Field(
        True, description="Look for GGUF files, too (ENABLE_GGUF_MODELS)"
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = Field(
        "text",
        description="Lines of pool.log and of workers' logs: text, or an object each, with the id"
        " of the request that it is about (docs/observability.md)",
    )
    log_max_mb: Annotated[float, Field(gt=0, le=1_000_000)] = Field(
        10, description="A log file of that size, a worker's or pool.log, is rotated (kubelet: 10)"
    )
    log_max_files: Annotated[int, Field(ge=2, le=1000)] = Field(
        5, description="Files of one log, the one that is written too (kubelet: 5)"
    )
    access_log: Literal["off", "json", "combined"] = Field(
        "off",
        description="A line for every request to the manager's port and the workers': an object, or"
        " as Apache and nginx write it (docs/observability.md)",
    )
    access_log_file: StrictStr | None = Field(
        None,
        description='Where it goes: a file, relative to state_dir, or "-" for standard output;'
        " null: access.log in state_dir. Rotated as the other logs are",
    )
    traces: Literal["off", "otlp"] = Field(
        "off",
        description="OpenTelemetry traces of requests, sent by OTLP over HTTP; needs the extra"
        " otel: pip install 'modelpool[otel]' (docs/observability.md)",
    )
    traces_endpoint: Annotated[str, AfterValidator(_web_url)] | None = Field(
        None,
        description="Where traces are sent, the whole URL; null:"
        " OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT with /v1/traces, or"
        " http://localhost:4318/v1/traces",
    )
    traces_sample_ratio: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="Share of requests that are traced; one with a traceparent is if that says so."
        " null: OTEL_TRACES_SAMPLER with OTEL_TRACES_SAMPLER_ARG, or all",
    )
    traces_per_second: Annotated[float, Field(ge=0, le=1_000_000)] = Field(
        20,
        description="Requests without a traceparent that are traced in a second at most, so that it"
        " costs little however many come; 0: any number",
    )
    traces_to_remote: bool = Field(
        False,
        description="Servers elsewhere are sent traceparent and tracestate, as engines here are",
    )
    engine_presets: Annotated[dict[PresetName, dict[str, Any]], Field(strict=False)] = Field(
        {},
        description="Engines of your own: servers that a command starts, by name (docs/engines.md)",
    )
    llama_server: StrictStr | None = Field(
        None,
        description="The program of engine llama-server, a path or a name on PATH; null: the one"
        " that make native built, or the one on PATH",
    )
    allow_commands_by_api: bool = Field(
        False,
        description="Clients of the API may say which programs are started (docs/engines.md), and"
        " which servers are asked for which models with which key (docs/remote.md): whoever reaches"
        " it can then do whatever the pool can",
    )
    models: Annotated[tuple[ModelEntry, ...], Field(strict=False)] = Field(
        (), description="Models that exist from the start; files relative to this file's folder"
    )
    virtual_models: Annotated[Mapping[StrictStr, Any], AfterValidator(check_virtual_models)] = (
        Field(
            {},
            description="Names that are no models, by name: what each stands for (docs/routing.md);"
            " what was changed at run time stays where this file says what it said before",
        )
    )
    aliases: Annotated[Mapping[StrictStr, Any], AfterValidator(check_virtual_models)] = Field(
        {},
        description='The same, written shortly: {"gpt-*": MODEL}, {fast: [MODEL, the next one]},'
        " {mix: {MODEL: 90, OTHER: 10}}",
    )
    routing: Annotated[Mapping[StrictStr, Any], AfterValidator(check_auto)] = Field(
        {},
        description="How auto chooses (docs/router.md): strategy, weights, complexity_mapping,"
        " constraints, candidates, tags, default_model, request, fallbacks",
    )
    learn_from_outcomes: bool = Field(
        False,
        description="Outcomes that callers report of what auto decided move the skill of models at"
        " kinds of work, by 0.15 at most (docs/router.md)",
    )
    outcome_half_life_days: Annotated[float, Field(ge=0, le=3650)] = Field(
        30, description="... and half of it is forgotten after so long; 0: nothing is"
    )
    presets: Annotated[Mapping[StrictStr, Any], AfterValidator(check_presets)] = Field(
        {},
        description="Named sets of parameters beside Conservative, Balanced and Creative:"
        " {precise: {temperature: 0}}",
    )
    models_dir: Annotated[Path, Field(strict=False)] | None = Field(
        None,
        description="Where pulled models are kept; relative to this file's folder; null: models in"
        " state_dir",
    )
    pull_max_mb_per_second: Annotated[float, Field(ge=0, le=1_000_000)] = Field(
        0, description="Speed of all pulls together; 0: as fast as it goes"
    )
    pull_private_addresses: bool = Field(
        False,
        description="Whether clients may have files fetched from addresses of this machine and its"
        " networks (https://…, ollama:host/…); hub_url and ollama_registry_url may be such",
    )
    hub_url: Annotated[str, AfterValidator(_web_url)] | None = Field(
        None,
        description="The hub that hf: stands for, or a mirror of it, which is sent the token of the"
        " environment; null: HF_ENDPOINT, or Hugging Face's",
    )
    ollama_registry_url: Annotated[str, AfterValidator(_web_url)] = Field(
        "https://registry.ollama.ai", description="The registry that ollama: stands for"
    )
    ollama_base_url: Annotated[str, AfterValidator(_web_url)] | None = Field(
        None,
        description="The server of Ollama that models of engine ollama are asked of; null:"
        " OLLAMA_HOST, or http://127.0.0.1:11434",
    )
    ollama_base_urls: Annotated[
        tuple[Annotated[StrictStr, AfterValidator(_web_url)], ...], Field(strict=False)
    ] = Field((), description="Further servers of Ollama: they share the requests of a model")

    _warnings: tuple[str, ...] = PrivateAttr(())
    _templates: Mapping[str, Any] = PrivateAttr({})
    _file: Path | None = PrivateAttr(None)
    _origins: Mapping[str, str] = PrivateAttr({})

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was understood but deserves a word; to be logged at the start."""
        return self._warnings

    @property
    def templates(self) -> Mapping[str, Any]:
        """What the file says for each key with values from the environment, but ``models``."""
        return self._templates

    @property
    def file(self) -> Path | None:
        """The file that it was read from."""
        return self._file

    @property
    def origins(self) -> Mapping[str, str]:
        """Which file or variable set what of it, by key, as ``port_range.start``; the others have
        their defaults. Of what was read, not of what was changed since."""
        return self._origins

    @property
    def database(self) -> Path:
        """The SQLite file in ``state_dir``."""
        return self.state_dir / "pool.db"

    @property
    def readable_folders(self) -> tuple[str, ...]:
        """Whose files the options of a request may name."""
        given = (p.path for p in self.discovery_paths if p.path is not None)
        external = () if self.external_models_dir is None else (self.external_models_dir,)
        return (str(self.models_folder), *given, *external, *self.option_file_paths)

    @property
    def engine_settings(self) -> Mapping[str, Any]:
        """What workers and their engines are told."""
        return engine_settings(self.engine_presets, self.llama_server, self.state_dir)

    @property
    def ollama_servers(self) -> tuple[str, ...]:
        """``ollama_base_url`` and ``ollama_base_urls``, each once."""
        first = () if self.ollama_base_url is None else (self.ollama_base_url,)
        return tuple(dict.fromkeys((*first, *self.ollama_base_urls)))

    @property
    def named_virtual_models(self) -> Mapping[str, Any]:
        """``virtual_models`` and ``aliases``."""
        return {**self.aliases, **self.virtual_models}

    @property
    def models_folder(self) -> Path:
        """Where pulled models are kept."""
        return self.models_dir or self.state_dir / "models"

    @property
    def pull_max_bytes_per_second(self) -> float:
        """``pull_max_mb_per_second`` in bytes."""
        return self.pull_max_mb_per_second * BYTES_PER_MB

    @property
    def memory_limit_bytes(self) -> int:
        """``memory_limit_mb`` in bytes."""
        return self.memory_limit_mb * BYTES_PER_MB

    @property
    def may_sleep(self) -> bool:
        """Models are put to sleep, where their engines can."""
        return self.sleep_minutes > 0 and self.max_sleeping_models > 0

    @property
    def device_budgets(self) -> dict[str, int]:
        """``device_memory_mb`` in bytes."""
        return {device: size * BYTES_PER_MB for device, size in self.device_memory_mb.items()}

    @property
    def max_body_bytes(self) -> int:
        """``max_body_mb`` in bytes."""
        return int(self.max_body_mb * BYTES_PER_MB)

    @property
    def client_timeouts(self) -> Timeouts:
        """How long clients of manager and workers may take."""
        return Timeouts(
            self.client_header_timeout_seconds,
            self.client_body_timeout_seconds,
            self.send_timeout_seconds,
            self.stream_ping_seconds,
        )

    @property
    def prompt_cache_root(self) -> Path:
        """Where a folder for each model holds its prompt cache while it is unloaded."""
        return self.state_dir / "prompts"

    @property
    def prompt_cache_limits(self) -> PromptCacheLimits:
        """``prompt_cache_disk_mb`` in bytes, and ``prompt_cache_seconds``."""
        return PromptCacheLimits(
            self.prompt_cache_disk_mb * BYTES_PER_MB, self.prompt_cache_seconds
        )

    @property
    def responses_dir(self) -> Path:
        """Where answers are kept, each in a file of its own."""
        return self.state_dir / "responses"

    @property
    def responses_max_bytes(self) -> int:
        """``response_store_mb`` in bytes."""
        return self.response_store_mb * BYTES_PER_MB

    @property
    def ports_of_its_own(self) -> list[int]:
        """The manager's: ``port`` and, where it is set, ``ollama_port``."""
        return [self.port, *([] if self.ollama_port is None else [self.ollama_port])]

    @property
    def allowlist(self) -> Allowlist:
        """``allowed_origins`` and ``allowed_hosts``."""
        return Allowlist(self.allowed_origins, self.allowed_hosts)

    @property
    def log_limits(self) -> LogLimits:
        """When logs are rotated."""
        return LogLimits(int(self.log_max_mb * BYTES_PER_MB), self.log_max_files)

    @property
    def worker_tracing(self) -> Tracing:
        """What workers are told of traces."""
        wanted = tracing(self.traces, self.traces_sample_ratio, self.traces_to_remote, os.environ)
        return replace(wanted, per_second=self.traces_per_second) if wanted.is_on else wanted

    @property
    def access_log_path(self) -> Path | None:
        """None for standard output."""
        name = self.access_log_file or "access.log"
        return None if name == "-" else self.state_dir / Path(name).expanduser()

    @property
    def log_file(self) -> Path:
        """The manager's own, where ``up`` started it."""
        return self.state_dir / "pool.log"

    @property
    def ttl_range(self) -> tuple[float, float]:
        """Least and most TTL in minutes, for ``parse_model``."""
        return (self.min_ttl_minutes, self.max_ttl_minutes)

    def as_dict(self) -> dict[str, Any]:
        """Every key as plain JSON values, to be shown: what came from the environment is as the
        file has it."""
        models = [m.shown_entry() for m in self._own_models]
        return self._plain() | {"models": models} | dict(self._templates)

    def as_file(self) -> dict[str, Any]:
        """What a config file with the same effect holds."""
        own: dict[str, Any] = template(self._plain())
        models = [m.as_file_entry() for m in self._own_models]
        return own | {"models": models} | dict(self._templates)

    @property
    def _own_models(self) -> list[Model]:
        """Without those that ``providers`` makes."""
        return [m for m in self.models if (m.served_by or m.model_id) not in self.providers]

    def _plain(self) -> dict[str, Any]:
        """Every key but ``models``."""
        plain = {key: getattr(self, key) for key in type(self).model_fields if key != "models"}
        plain["port_range"] = self.port_range.model_dump()
        plain["device_memory_mb"] = dict(self.device_memory_mb)
        plain["environments"] = {n: e.model_dump(mode="json") for n, e in self.environments.items()}
        for key in (
            "warmup_models",
            "allowed_origins",
            "allowed_hosts",
            "option_file_paths",
            "ollama_base_urls",
            "attach_companions",
        ):
            plain[key] = list(plain[key])
        plain["discovery_paths"] = [p.model_dump() for p in self.discovery_paths]
        plain["alerts"] = _said(self.alerts)
        plain["registrars"] = [r.model_dump() for r in self.registrars]
        plain["providers"] = {k: _said(p) for k, p in self.providers.items()}
        plain["remote_models"] = {k: _said(m) for k, m in self.remote_models.items()}
        for key in ("virtual_models", "aliases", "routing", "presets"):
            plain[key] = dict(plain[key])
        plain["state_dir"] = str(self.state_dir)
        plain["models_dir"] = None if self.models_dir is None else str(self.models_dir)
        return plain

    def with_notes(
        self,
        file: Path | None,
        warnings: tuple[str, ...],
        templates: Mapping[str, Any],
        origins: Mapping[str, str] = MappingProxyType({}),
    ) -> PoolConfig:
        """This object, told where it comes from; for those who have just built it."""
        self._file, self._warnings, self._templates = file, warnings, templates
        self._origins = origins
        return self


def _said(settings: BaseModel) -> dict[str, Any]:
    """Without what is as it is by default."""
    return settings.model_dump(mode="json", exclude_defaults=True)


_TOLD_AT_THE_START = {
    "access_log",
    "beat_seconds",
    "client_body_timeout_seconds",
    "client_header_timeout_seconds",
    "enable_spare_worker",
    "log_format",
    "log_level",
    "log_max_files",
    "log_max_mb",
    "models",
    "aliases",
    "orphan_seconds",
    "presets",
    "providers",
    "remote_models",
    "response_store_mb",
    "routing",
    "send_timeout_seconds",
    "traces",
    "traces_per_second",
    "traces_sample_ratio",
    "traces_to_remote",
    "virtual_models",
    "warmup_models",
}
_PLACES = {
    "access_log_file",  # whoever reaches the API could have any file written
    "allow_commands_by_api",  # or it would be no obstacle
    "engine_presets",
    "environments",  # whoever reaches the API could have any program run
    "host",
    "llama_server",
    "hub_url",  # is sent a token: whoever reaches the API could have it sent anywhere
    "max_body_mb",
    "models_dir",
    "ollama_base_url",
    "ollama_base_urls",
    "ollama_port",
    "ollama_registry_url",
    "option_file_paths",  # whoever reaches the API could have any file read
    "port",
    "port_range",
    "pull_private_addresses",  # who reaches the API could reach all that this machine does
    "state_dir",
    "traces_endpoint",  # who reaches the API could have what is said of requests sent anywhere
}
LIVE_KEYS = frozenset(PoolConfig.model_fields) - _TOLD_AT_THE_START - _PLACES
