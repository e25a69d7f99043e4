"""The pool's configuration: read once, frozen, all errors at once.

Later ones win: the defaults; the file (YAML or JSON); MODEL_MANAGER_MAX_LOADED, which is
``max_concurrent_models``, and MODEL_KEEPALIVE_MINUTES, which is ``default_ttl_minutes``;
MODELPOOL_<KEY> (``MODELPOOL_PORT_RANGE__START`` for a key inside a key). A value is read as JSON
where the key is not a text.

ENABLE_SMART_SWITCHING is no key of ours: it stood for loading and evicting on demand, which this
pool always does, while ``auto_unload`` is about what is idle.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from modelpool_client.errors import ModelPoolError

from .catalog.model import Model, did_you_mean
from .catalog.parse import read_model
from .catalog.parse_rules import DEFAULT_RULES, ParseRules
from .config_checks import Issue, Reloaded, patched, refuse_new_secrets, reloaded, validated
from .config_keys import (
    LIVE_KEYS,
    PoolConfig,
    PortRange,
    default_memory_limit_mb,
    default_state_dir,
    machine_memory_mb,
)

__all__ = [
    "LIVE_KEYS",
    "ConfigError",
    "ConfigIssue",
    "PoolConfig",
    "PortRange",
    "Reloaded",
    "default_memory_limit_mb",
    "json_schema",
    "load_config",
    "patched",
    "refuse_new_secrets",
    "reloaded",
]

PREFIX = "MODELPOOL_"
BORROWED = {
    "MODEL_MANAGER_MAX_LOADED": "max_concurrent_models",
    "MODEL_KEEPALIVE_MINUTES": "default_ttl_minutes",
}
# Ours, but no keys: where the file is, where the manager is, what a worker is told.
NOT_KEYS = frozenset({"CONFIG", "TEST_HOST_ROOT", "URL", "WORKER_ID", "STATUS_FD"})
TEXT_KEYS = frozenset({"host", "log_level", "ollama_base_url", "state_dir"})


@dataclass(frozen=True)
class ConfigIssue:
    """One thing that is wrong, and where: a file or an environment variable."""

    key: str
    message: str
    where: str

    def __str__(self) -> str:
        return f"{self.where}: {' '.join(filter(None, (self.key, self.message)))}"


class ConfigError(ModelPoolError):
    """The configuration is wrong and nothing was started; ``errors`` holds all that is wrong."""

    default_code = "bad_config"

    def __init__(self, errors: list[ConfigIssue]) -> None:
        lines = "\n".join(f"  {issue}" for issue in errors)
        super().__init__(f"the configuration is wrong:\n{lines}")
        self.errors = errors


def load_config(
    file: Path | str | None = None, environ: Mapping[str, str] = os.environ
) -> PoolConfig:
    """Read the configuration from a file, if one is named, and the environment.

    Raises:
        ConfigError: with every error, each naming its key and its file or variable.
    """
    reading = _Reading(Path(file).absolute() if file is not None else None)
    reading.read_file()
    reading.read_environment(environ)
    reading.settle_state_dir(environ)
    reading.parse_models()
    config, issues = validated(reading.data)
    reading.errors += [reading.located(issue) for issue in issues]
    if reading.errors or config is None:
        raise ConfigError(reading.errors)
    return config.with_notes(reading.file, (*reading.warnings, *_remarks(config, environ)))


def json_schema() -> dict[str, Any]:
    """JSON schema (2020-12) of the configuration file."""
    schema = PoolConfig.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "modelpool configuration",
    }


@dataclass
class _Reading:
    """What was read so far: values, where each came from, and what was wrong."""

    file: Path | None
    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    errors: list[ConfigIssue] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def read_file(self) -> None:
        """Take the file's keys, if there is a file."""
        if self.file is None:
            return
        try:
            self.data = _parsed(self.file)
        except _Unreadable as e:
            self.errors.append(ConfigIssue("", str(e), str(self.file)))

    def read_environment(self, environ: Mapping[str, str]) -> None:
        """Take what the environment sets, borrowed names first."""
        for name, key in BORROWED.items():
            if name in environ:
                self._set(name, (key,), environ[name])
        for name in sorted(environ):
            if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in NOT_KEYS:
                self._read_own(name, environ[name])

    def _read_own(self, name: str, value: str) -> None:
        path = tuple(name.removeprefix(PREFIX).lower().split("__"))
        if path[0] in PoolConfig.model_fields:
            self._set(name, path, value)
        else:
            near = did_you_mean(path[0], PoolConfig.model_fields)
            self.warnings.append(f"environment variable {name} is no key of the pool{near}")

    def _set(self, name: str, path: tuple[str, ...], text: str) -> None:
        value: Any = text if path[0] in TEXT_KEYS else _json_or_text(text)
        for key in reversed(path[1:]):
            value = {key: value}
        old = self.data.get(path[0])
        if isinstance(old, Mapping) and isinstance(value, Mapping) and len(path) > 1:
            value = {**old, **value}
        self.data[path[0]] = value
        self.origins[".".join(path)] = f"environment variable {name}"

    def settle_state_dir(self, environ: Mapping[str, str]) -> None:
        """Make ``state_dir`` absolute: relative to the file, or to where we are."""
        given = self.data.get("state_dir")
        if "state_dir" not in self.data:
            own = self.file.parent / ".modelpool" if self.file else default_state_dir(environ)
            self.data["state_dir"] = own
        elif isinstance(given, str) and given.strip() and "\0" not in given:
            path = self._base("state_dir") / Path(given).expanduser()
            self.data["state_dir"] = Path(os.path.normpath(path))
        else:
            self._wrong("state_dir", f"should be the path of a folder, not {given!r}")
            del self.data["state_dir"]

    def parse_models(self) -> None:
        """Replace the entries of ``models`` by models."""
        entries = self.data.get("models", [])
        if isinstance(entries, list):
            models = [self._model(i, entry) for i, entry in enumerate(entries)]
            self.data["models"] = tuple(m for m in models if m is not None)
            self._name_twins()

    def _model(self, index: int, entry: object) -> Model | None:
        model, problems = read_model(entry, self._rules())
        for problem in problems:
            self._wrong(f"models.{index}", problem.message)
        return model

    def _rules(self) -> ParseRules:
        """With the file's own TTL bounds; one that is wrong itself is reported elsewhere."""
        keys = zip(("min_ttl_minutes", "max_ttl_minutes"), DEFAULT_RULES.ttl_range, strict=True)
        low, high = (_number_or(self.data.get(key), default) for key, default in keys)
        return ParseRules(self._base("models"), None, (low, high))

    def _name_twins(self) -> None:
        names = [name for model in self.data["models"] for name in model.names]
        for twin in sorted(name for name, count in Counter(names).items() if count > 1):
            self._wrong("models", f"give the name {twin!r} to two models")

    def _base(self, key: str) -> Path:
        from_file = self.file is not None and key not in self.origins
        return self.file.parent if self.file and from_file else Path.cwd()

    def _wrong(self, key: str, message: str) -> None:
        self.errors.append(self.located(Issue(key, message)))

    def located(self, issue: Issue) -> ConfigIssue:
        """The issue with the place that set its key."""
        for name in _prefixes(issue.key):
            if name in self.origins:
                return ConfigIssue(issue.key, issue.message, self.origins[name])
        inside = [o for name, o in self.origins.items() if name.startswith(f"{issue.key}.")]
        default = str(self.file) if self.file else "the defaults"
        return ConfigIssue(issue.key, issue.message, ", ".join(inside) or default)


def _prefixes(key: str) -> Iterator[str]:
    while key:
        yield key
        key = key.rpartition(".")[0]


def _number_or(value: object, default: float) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(str(value)) if is_number else default


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _remarks(config: PoolConfig, environ: Mapping[str, str]) -> Iterator[str]:
    if config.ollama_base_url is not None:
        yield "ollama_base_url is understood but not used yet: there is no Ollama engine"
    if config.memory_limit_mb > machine_memory_mb():
        yield f"memory_limit_mb is {config.memory_limit_mb}, the machine has {machine_memory_mb()}"
    if "ENABLE_SMART_SWITCHING" in environ:
        yield "ENABLE_SMART_SWITCHING has no effect: this pool always loads and evicts on demand"


class _Unreadable(Exception):
    """The file cannot be read as a mapping of keys; the text says why."""


def _parsed(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
        data = _from_json(text) if file.suffix == ".json" else yaml.load(text, _Yaml)
    except UnicodeDecodeError as e:
        raise _Unreadable(f"is not UTF-8 ({e.reason} at byte {e.start})") from None
    except OSError as e:
        raise _Unreadable(f"cannot be read: {e.strerror}") from None
    except (ValueError, yaml.YAMLError) as e:
        raise _Unreadable(f"is not valid: {e}") from None
    except RecursionError:
        raise _Unreadable("is nested too deeply") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise _Unreadable(f"should hold keys and values, not {type(data).__name__}")
    return {str(key): value for key, value in data.items()}


def _unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    data: dict[Any, Any] = {}
    for key, value in pairs:
        if key in data:
            raise ValueError(f"the key {key!r} stands there twice")
        data[key] = value
    return data


def _from_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique)


class _Yaml(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, not silently the last one."""


def _yaml_mapping(loader: _Yaml, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    return _unique(loader.construct_pairs(node, deep=True))


_Yaml.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _yaml_mapping)
