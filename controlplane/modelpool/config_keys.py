"""Every key of the configuration, with its default and bounds, and how they are checked. PURE but
for the two defaults that ask the machine. Import from ``modelpool.config``.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import reprlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import psutil
from modelpool_client.errors import InvalidRequest
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    PrivateAttr,
    StrictStr,
    ValidationError,
    WithJsonSchema,
)

from .catalog.model import Model, did_you_mean, printable
from .catalog.parse import model_entry_schema

DEFAULT_MEMORY_LIMIT_MB = 32_000
BYTES_PER_MB = 1_000_000


def machine_memory_mb() -> int:
    """Memory of this machine, or of the container that it is run in, in MB of 1,000,000 bytes."""
    total = psutil.virtual_memory().total
    with contextlib.suppress(OSError, ValueError):  # no cgroup here, or "max": no limit
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return int(total) // BYTES_PER_MB


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


Minutes = Annotated[float, Field(ge=0, le=525_600)]
Seconds = Annotated[float, Field(ge=0, le=31_536_000)]
SomeSeconds = Annotated[float, Field(gt=0, le=31_536_000)]
Megabytes = Annotated[int, Field(ge=1, le=1_000_000_000), BeforeValidator(_or_machine)]
PortNumber = Annotated[int, Field(ge=1, le=65_535)]
ModelIds = Annotated[tuple[StrictStr, ...], Field(strict=False)]
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


class PoolConfig(_Frozen):
    """Everything that can be set. Names say the unit; MB are 1,000,000 bytes."""

    host: Annotated[str, AfterValidator(_loopback)] = Field(
        "127.0.0.1", description="Address that the manager and its workers listen on; loopback only"
    )
    port: PortNumber = Field(8050, description="The manager's own port")
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
    auto_unload: bool = Field(True, description="Unload what is idle (eviction happens anyway)")
    graceful_shutdown_seconds: Seconds = Field(30, description="For current work to end in")
    load_wait_seconds: SomeSeconds = Field(300, description="Most that a request waits for a load")
    load_stall_seconds: SomeSeconds = Field(
        300, description="A load without progress for that long is given up"
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
    orphan_seconds: Seconds = Field(600, description="A worker outlives its manager's lease by it")
    stream_ping_seconds: SomeSeconds = Field(5, description="Silence of a waiting stream")
    max_body_mb: Annotated[float, Field(gt=0, le=4096)] = Field(64, description="Largest request")
    state_dir: Annotated[Path, Field(strict=False)] = Field(
        default_factory=default_state_dir,
        description="Database, logs and run time files; relative to this file's folder",
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    models: Annotated[tuple[ModelEntry, ...], Field(strict=False)] = Field(
        (), description="Models that exist from the start; source relative to this file's folder"
    )
    ollama_base_url: str | None = Field(None, description="Accepted; not used yet")

    _warnings: tuple[str, ...] = PrivateAttr(())
    _file: Path | None = PrivateAttr(None)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was understood but deserves a word; to be logged at the start."""
        return self._warnings

    @property
    def file(self) -> Path | None:
        """The file that it was read from."""
        return self._file

    @property
    def database(self) -> Path:
        """The SQLite file in ``state_dir``."""
        return self.state_dir / "pool.db"

    @property
    def memory_limit_bytes(self) -> int:
        """``memory_limit_mb`` in bytes."""
        return self.memory_limit_mb * BYTES_PER_MB

    @property
    def max_body_bytes(self) -> int:
        """``max_body_mb`` in bytes."""
        return int(self.max_body_mb * BYTES_PER_MB)

    @property
    def ttl_range(self) -> tuple[float, float]:
        """Least and most TTL in minutes, for ``parse_model``."""
        return (self.min_ttl_minutes, self.max_ttl_minutes)

    def as_dict(self) -> dict[str, Any]:
        """Every key as plain JSON values; what a config file with the same effect would hold."""
        plain = {key: getattr(self, key) for key in type(self).model_fields}
        plain["port_range"] = self.port_range.model_dump()
        plain["warmup_models"] = list(self.warmup_models)
        plain["state_dir"] = str(self.state_dir)
        plain["models"] = [m.as_entry() for m in self.models]
        return plain

    def patched(self, changes: object) -> PoolConfig:
        """A copy with some of ``LIVE_KEYS`` changed; the body of ``PATCH /config``.

        Raises:
            InvalidRequest: naming the first wrong key, with all of them in ``details``.
        """
        if not isinstance(changes, Mapping):
            raise InvalidRequest(f"changes must be an object, not {type(changes).__name__}")
        wrong = [_unpatchable(key) for key in changes if key not in LIVE_KEYS]
        same = {key: getattr(self, key) for key in type(self).model_fields}
        config, issues = validated(same | {k: v for k, v in changes.items() if k in LIVE_KEYS})
        if wrong or config is None:
            raise _refusal(wrong + issues)
        return config.with_notes(self._file, self._warnings)

    def with_notes(self, file: Path | None, warnings: tuple[str, ...]) -> PoolConfig:
        """This object, told where it comes from; for those who have just built it."""
        self._file, self._warnings = file, warnings
        return self


_TOLD_AT_THE_START = {"beat_seconds", "log_level", "models", "orphan_seconds", "warmup_models"}
_PLACES = {"host", "max_body_mb", "ollama_base_url", "port", "port_range", "state_dir"}
LIVE_KEYS = frozenset(PoolConfig.model_fields) - _TOLD_AT_THE_START - _PLACES
# Where pydantic speaks of Python's types, the file's author thinks of the file's.
PLAIN_WORDS = {
    "tuple_type": "should be a list",
    "model_type": "should be an object with start and end",
    "int_type": "should be a whole number",
    "float_type": "should be a number",
    "bool_type": "should be true or false",
}


@dataclass(frozen=True)
class Issue:
    """One thing that is wrong: the key (dotted, with indexes) and what is wrong with it."""

    key: str
    message: str


def validated(data: Mapping[Any, Any]) -> tuple[PoolConfig | None, list[Issue]]:
    """The configuration, or None and everything that is wrong with it."""
    try:
        config = PoolConfig.model_validate(dict(data))
    except ValidationError as e:
        issues = [_issue(error) for error in e.errors(include_url=False)]
    else:
        issues = cross_issues(config)
        return (None if issues else config), issues
    # What is right on its own may still contradict something else that is.
    wrong = {str(issue.key).partition(".")[0] for issue in issues}
    right = {k: v for k, v in data.items() if k not in wrong and k in PoolConfig.model_fields}
    return None, issues + cross_issues(PoolConfig.model_validate(right), wrong)


def cross_issues(config: PoolConfig, but: Collection[str] = ()) -> list[Issue]:
    """What is wrong between keys that are each right, except where a key of ``but`` is in it."""
    low, high, ttl = config.min_ttl_minutes, config.max_ttl_minutes, config.default_ttl_minutes
    ports, backoff = config.port_range, config.restart_backoff_seconds
    checks = (
        (("min_ttl_minutes", "max_ttl_minutes"), low > high, f"is above max_ttl_minutes, {high:g}"),
        (
            ("default_ttl_minutes", "min_ttl_minutes", "max_ttl_minutes"),
            ttl != 0 and low <= high and not low <= ttl <= high,
            f"should be 0 (never) or between {low:g} and {high:g}, the least and most TTL",
        ),
        (("port_range",), ports.start > ports.end, "starts after its end"),
        (("port", "port_range"), config.port in ports, "is one of port_range, the workers' ports"),
        (
            ("restart_backoff_seconds", "restart_backoff_max_seconds"),
            backoff > config.restart_backoff_max_seconds,
            "is above restart_backoff_max_seconds",
        ),
    )
    return [Issue(keys[0], text) for keys, bad, text in checks if bad and not set(keys) & set(but)]


def _issue(error: Mapping[str, Any]) -> Issue:
    *parents, last = map(str, error["loc"])
    key = printable(".".join([*parents, last]))
    if error["type"] == "extra_forbidden":
        known = PortRange.model_fields if parents else PoolConfig.model_fields
        return Issue(key, f"is unknown{did_you_mean(last, known)}")
    said = str(error["msg"]).removeprefix("Value error, ").replace("Input should", "should")
    text = PLAIN_WORDS.get(error["type"], said)
    return Issue(key, f"{text}, not {printable(reprlib.repr(error['input']))}")


def _unpatchable(key: object) -> Issue:
    name = printable(str(key)[:80])
    if name in PoolConfig.model_fields:
        return Issue(name, "needs a restart: it cannot change while the pool runs")
    return Issue(name, f"is unknown{did_you_mean(name, LIVE_KEYS)}")


def _refusal(issues: list[Issue]) -> InvalidRequest:
    errors = [{"param": i.key, "message": f"{i.key} {i.message}"} for i in issues]
    text = "; ".join(e["message"] for e in errors)
    return InvalidRequest(text, param=issues[0].key, details={"errors": errors})
