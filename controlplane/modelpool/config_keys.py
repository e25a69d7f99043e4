"""Every key of the configuration, with its default and bounds. PURE but for the two defaults that
ask the machine. How keys are checked is in ``config_checks``. Import from ``modelpool.config``.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from modelpool_client.http1.timeouts import Timeouts
from modelpool_client.origins import read_host_pattern, read_origin_pattern
from modelpool_client.wire import Allowlist, LogLimits, PromptCacheLimits
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

from .catalog.entry_schema import CONCURRENCY_LIMIT, model_entry_schema
from .catalog.model import ConcurrencyLimit, Model
from .catalog.sources.registry import sources
from .catalog.variables import template
from .discovery.roots import given_path
from .pool.memory import read_pressure
from .registrars.settings import RegistrarSettings, each_once

DEFAULT_MEMORY_LIMIT_MB = 32_000
BYTES_PER_MB = 1_000_000


def machine_memory_mb() -> int:
    """Memory of this machine, or of the container that it is run in, in MB of 1,000,000 bytes."""
    return read_pressure().total // BYTES_PER_MB


def default_memory_limit_mb() -> int:
    """32000, or what the machine has where that is less."""
    return min(DEFAULT_MEMORY_LIMIT_MB, machine_memory_mb())


def default_state_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the state lies without a config file: XDG's folder for it."""
    base = environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "modelpool"


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


def _discovery_path(text: str | None) -> str | None:
    return None if text is None else given_path(text, str(Path.home()))


Minutes = Annotated[float, Field(ge=0, le=525_600)]
Seconds = Annotated[float, Field(ge=0, le=31_536_000)]
SomeSeconds = Annotated[float, Field(gt=0, le=31_536_000)]
Megabytes = Annotated[int, Field(ge=1, le=1_000_000_000), BeforeValidator(_or_machine)]
DeviceId = Annotated[StrictStr, Field(pattern=r"^[a-z]+:\d+$")]
DeviceMegabytes = Annotated[int, Field(ge=1, le=1_000_000_000)]
Limit = Annotated[ConcurrencyLimit, PlainValidator(_limit), WithJsonSchema(CONCURRENCY_LIMIT)]
PortNumber = Annotated[int, Field(ge=1, le=65_535)]
ModelIds = Annotated[tuple[StrictStr, ...], Field(strict=False)]
AllowedOrigins = Annotated[
    tuple[Annotated[StrictStr, AfterValidator(_origin)], ...], Field(strict=False)
]
AllowedHosts = Annotated[
    tuple[Annotated[StrictStr, AfterValidator(_host)], ...], Field(strict=False)
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
    min_residency_seconds: Seconds = Field(10, description="A loaded model is no victim that long")
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
    registrars: Annotated[
        tuple[RegistrarSettings, ...], Field(strict=False), AfterValidator(each_once)
    ] = Field((), description="Registries that are told about HOT workers")
    discovery_paths: Annotated[tuple[DiscoveryPath, ...], Field(strict=False)] = Field(
        (),
        description="Where models are looked for: folders, or layouts of other programs"
        " ({source: ollama}); what is there is in the catalog",
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
    enable_gguf_models: bool = Field(
        True, description="Look for GGUF files, too (ENABLE_GGUF_MODELS)"
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_max_mb: Annotated[float, Field(gt=0, le=1_000_000)] = Field(
        10, description="A log file of that size, a worker's or pool.log, is rotated (kubelet: 10)"
    )
    log_max_files: Annotated[int, Field(ge=2, le=1000)] = Field(
        5, description="Files of one log, the one that is written too (kubelet: 5)"
    )
    models: Annotated[tuple[ModelEntry, ...], Field(strict=False)] = Field(
        (), description="Models that exist from the start; source relative to this file's folder"
    )
    models_dir: Annotated[Path, Field(strict=False)] | None = Field(
        None,
        description="Where pulled models are kept; relative to this file's folder; null: models in"
        " state_dir",
    )
    pull_max_mb_per_second: Annotated[float, Field(ge=0, le=1_000_000)] = Field(
        0, description="Speed of all pulls together; 0: as fast as it goes"
    )
    hub_url: Annotated[str, AfterValidator(_web_url)] | None = Field(
        None,
        description="The hub that hf: stands for, or a mirror of it, which is sent the token of the"
        " environment; null: HF_ENDPOINT, or Hugging Face's",
    )
    ollama_registry_url: Annotated[str, AfterValidator(_web_url)] = Field(
        "https://registry.ollama.ai", description="The registry that ollama: stands for"
    )
    ollama_base_url: str | None = Field(None, description="Accepted; not used yet")

    _warnings: tuple[str, ...] = PrivateAttr(())
    _templates: Mapping[str, Any] = PrivateAttr({})
    _file: Path | None = PrivateAttr(None)

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
    def database(self) -> Path:
        """The SQLite file in ``state_dir``."""
        return self.state_dir / "pool.db"

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
        models = [m.shown_entry() for m in self.models]
        return self._plain() | {"models": models} | dict(self._templates)

    def as_file(self) -> dict[str, Any]:
        """What a config file with the same effect holds."""
        own: dict[str, Any] = template(self._plain())
        models = [m.as_file_entry() for m in self.models]
        return own | {"models": models} | dict(self._templates)

    def _plain(self) -> dict[str, Any]:
        """Every key but ``models``."""
        plain = {key: getattr(self, key) for key in type(self).model_fields if key != "models"}
        plain["port_range"] = self.port_range.model_dump()
        plain["device_memory_mb"] = dict(self.device_memory_mb)
        for key in ("warmup_models", "allowed_origins", "allowed_hosts"):
            plain[key] = list(plain[key])
        plain["discovery_paths"] = [p.model_dump() for p in self.discovery_paths]
        plain["registrars"] = [r.model_dump() for r in self.registrars]
        plain["state_dir"] = str(self.state_dir)
        plain["models_dir"] = None if self.models_dir is None else str(self.models_dir)
        return plain

    def with_notes(
        self, file: Path | None, warnings: tuple[str, ...], templates: Mapping[str, Any]
    ) -> PoolConfig:
        """This object, told where it comes from; for those who have just built it."""
        self._file, self._warnings, self._templates = file, warnings, templates
        return self


_TOLD_AT_THE_START = {
    "beat_seconds",
    "client_body_timeout_seconds",
    "client_header_timeout_seconds",
    "enable_spare_worker",
    "log_level",
    "log_max_files",
    "log_max_mb",
    "models",
    "orphan_seconds",
    "response_store_mb",
    "send_timeout_seconds",
    "warmup_models",
}
_PLACES = {
    "host",
    "hub_url",  # is sent a token: whoever reaches the API could have it sent anywhere
    "max_body_mb",
    "models_dir",
    "ollama_base_url",
    "ollama_port",
    "ollama_registry_url",
    "port",
    "port_range",
    "state_dir",
}
LIVE_KEYS = frozenset(PoolConfig.model_fields) - _TOLD_AT_THE_START - _PLACES
