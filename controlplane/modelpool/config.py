"""The pool's configuration: read once, frozen, all errors at once.

Later ones win: the defaults; the file (YAML or JSON); variables of other programs that are keys of
ours by another name; MODELPOOL_<KEY> (``MODELPOOL_PORT_RANGE__START`` for a key inside a key). A
value is read as JSON where the key is not a text. In the file's values ``${NAME}`` is a variable of
the environment, see ``catalog.variables``. Keys of other programs are in ``config_synonyms``.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelpool_client.errors import ModelPoolError

from .catalog.model import Model, did_you_mean, printable
from .catalog.parse import read_model
from .catalog.parse_rules import DEFAULT_RULES, EngineCheck, ParseRules, Problem
from .catalog.variables import fill_all, is_filled, plain, template
from .config_checks import (
    Issue,
    Reloaded,
    changes_between,
    patched,
    refuse_new_secrets,
    reloaded,
    typed_values,
    validated,
)
from .config_file import UnreadableFile, read_file
from .config_keys import (
    LIVE_KEYS,
    EnvironmentSettings,
    PoolConfig,
    PortRange,
    default_memory_limit_mb,
    default_state_dir,
    engine_settings,
)
from .config_remarks import remarks
from .config_schema import json_schema
from .config_synonyms import BORROWED, understood
from .discovery.roots import given_path
from .homes import expanded
from .providers.entries import provider_entries

__all__ = [
    "LIVE_KEYS",
    "STOP_KEYS",
    "ConfigError",
    "ConfigIssue",
    "EnvironmentSettings",
    "PoolConfig",
    "PortRange",
    "Reloaded",
    "changes_between",
    "default_memory_limit_mb",
    "json_schema",
    "load_config",
    "patched",
    "refuse_new_secrets",
    "reloaded",
]

PREFIX = "MODELPOOL_"
# What it takes to find a pool and to stop it.
STOP_KEYS = frozenset(
    {"graceful_shutdown_seconds", "host", "port", "port_range", "registrars", "state_dir"}
)
# Ours, but no keys: where the file is, where the manager is, what the next manager or a worker is
# told.
NOT_KEYS = frozenset({"CONFIG", "STATUS_FD", "STOP_ASKED", "TEST_HOST_ROOT", "URL", "WORKER_ID"})
TEXT_KEYS = frozenset(
    {
        "access_log_file",
        "external_models_dir",
        "host",
        "hub_url",
        "log_level",
        "models_dir",
        "ollama_base_url",
    }
    | {"ollama_registry_url", "state_dir", "traces_endpoint"}
)


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
    file: Path | str | None = None,
    environ: Mapping[str, str] = os.environ,
    check: EngineCheck | None = None,
    only: Collection[str] | None = None,
) -> PoolConfig:
    """Read the configuration from a file, if one is named, and the environment.

    Args:
        check: asks the engines what is wrong with the models; None believes what only they know.
        only: for who needs no more than these keys: what is wrong with the others is no matter,
            and they have their defaults.

    Raises:
        ConfigError: with every error, each naming its key and its file or variable.
    """
    reading = _Reading(Path(file).absolute() if file is not None else None, only)
    reading.read_file(environ)
    reading.read_environment(environ)
    reading.settle_values()
    reading.settle_folders(environ)
    reading.settle_discovery_paths()
    reading.parse_models(check, environ)
    config, issues = validated(reading.data, reading.templates)
    for issue in issues:
        reading.wrong(issue)
    if reading.errors or config is None:
        raise ConfigError(reading.errors)
    config = config.with_notes(reading.file, (), reading.templates)
    warnings = (*reading.warnings, *remarks(config, environ))
    return config.with_notes(reading.file, warnings, reading.templates, reading.all_origins())


@dataclass
class _Reading:
    """What was read so far: values, where each came from, and what was wrong."""

    file: Path | None
    only: Collection[str] | None
    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    errors: list[ConfigIssue] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    templates: dict[str, Any] = field(default_factory=dict)
    unfilled: set[str] = field(default_factory=set)
    spellings: dict[str, str] = field(default_factory=dict)
    in_file: frozenset[str] = frozenset()
    _own_models: int = 0
    _made_by: list[str] = field(default_factory=list)

    def read_file(self, environ: Mapping[str, str]) -> None:
        """Take the file's keys by our names, if there is a file, with the variables in its
        values."""
        if self.file is None:
            return
        wrong: list[tuple[str, str]] = []
        issues: list[Issue] = []
        try:
            said = understood(fill_all(read_file(self.file), environ, wrong))
            self.data, self.spellings, self.warnings = said.data, said.spellings, said.remarks
            self.in_file = frozenset(map(str, self.data))
            issues = said.issues
        except UnreadableFile as e:
            self.wrong(Issue("", str(e)))
        except RecursionError:
            self.wrong(Issue("", "is nested too deeply"))
        for key, message in wrong:
            self.wrong(Issue(printable(key), message))
            self.unfilled.add(printable(key))
        for issue in issues:
            self.wrong(issue)

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

    def settle_values(self) -> None:
        """Read texts from variables as what their keys want, and note what the file says."""
        self.data = typed_values({k: v for k, v in self.data.items() if self._counts(k)})
        filled = {k: v for k, v in self.data.items() if k != "models" and is_filled(v)}
        self.templates = {key: template(value) for key, value in filled.items()}

    def settle_folders(self, environ: Mapping[str, str]) -> None:
        """Make folders absolute: relative to the file, or to where we are."""
        if "state_dir" not in self.data:
            own = self.file.parent / ".modelpool" if self.file else default_state_dir(environ)
            self.data["state_dir"] = own
        for key in ("state_dir", "models_dir"):
            if self.data.get(key) is not None or key == "state_dir":
                self._settle_folder(key)

    def _settle_folder(self, key: str) -> None:
        given = plain(self.data[key])
        if isinstance(given, Path):
            return
        if isinstance(given, str) and given.strip() and "\0" not in given:
            try:
                path = self._base(key) / expanded(given)
            except ValueError as e:
                del self.data[key]
                self.wrong(Issue(key, str(e)))
            else:
                self.data[key] = Path(os.path.normpath(path))
        else:
            shown = self.data.pop(key)
            self.wrong(Issue(key, f"should be the path of a folder, not {shown!r}"))

    def settle_discovery_paths(self) -> None:
        """Make what is relative absolute; what is no path is left for the check to name."""
        entries = self.data.get("discovery_paths")
        if isinstance(entries, list):
            base = self._base("discovery_paths")
            self.data["discovery_paths"] = [_below(base, entry) for entry in entries]
        if isinstance(folders := self.data.get("option_file_paths"), list):
            base = self._base("option_file_paths")
            self.data["option_file_paths"] = [_below(base, folder) for folder in folders]
        if isinstance(external := self.data.get("external_models_dir"), str):
            self.data["external_models_dir"] = _below(self._base("external_models_dir"), external)

    def parse_models(self, check: EngineCheck | None, environ: Mapping[str, str]) -> None:
        """Replace the entries of ``models`` by models, held against their engines if asked to."""
        entries = self.data.get("models", [])
        if not isinstance(entries, list):
            return
        self._own_models = len(entries)
        made = self._entries_of_providers(environ)
        self._made_by = [key for key, _ in made]
        entries = [*entries, *(entry for _, entry in made)]
        rules = self._rules()
        models = {i: self._model(i, entry, rules) for i, entry in enumerate(entries)}
        found = {i: m for i, m in models.items() if m is not None}
        if check is not None and found:
            answers = check(list(found.values()), self._engine_settings())
            for (i, model), answer in zip(found.items(), answers, strict=True):
                for problem in answer.problems:
                    self._model_is_wrong(i, problem)
                self.warnings += [f"{self._place(i)} ({model.model_id}): {n}" for n in answer.notes]
                if answer.options or model.options:  # of many there are none
                    found[i] = replace(model, options=answer.options)
        self.data["models"] = tuple(map(_unmarked, found.values()))
        self._name_twins()

    def _engine_settings(self) -> dict[str, Any]:
        """As far as they are right; what is wrong with them is reported elsewhere."""
        presets, program = (self.data.get(key) for key in ("engine_presets", "llama_server"))
        state_dir = self.data.get("state_dir", default_state_dir())
        return engine_settings(
            plain(presets) if isinstance(presets, Mapping) else {},
            program if isinstance(program, str) else None,
            Path(str(state_dir)),
        )

    def _entries_of_providers(self, environ: Mapping[str, str]) -> list[tuple[str, dict[str, Any]]]:
        providers, extra = (self.data.get(key) or {} for key in ("providers", "remote_models"))
        if not isinstance(providers, Mapping) or not isinstance(extra, Mapping):
            return []
        known = {k: v for k, v in extra.items() if isinstance(v, Mapping)}
        return provider_entries(plain(providers), environ, plain(known))

    def _model(self, index: int, entry: object, rules: ParseRules) -> Model | None:
        model, problems = read_model(entry, rules)
        for problem in problems:
            self._model_is_wrong(index, problem)
        return model

    def _model_is_wrong(self, index: int, problem: Problem) -> None:
        place = self._place(index)
        key = place + (f".{problem.param}" if problem.param else "")
        self.wrong(Issue(key, problem.message.removeprefix(problem.param).lstrip()))

    def _place(self, index: int) -> str:
        is_own = index < self._own_models
        return f"models[{index}]" if is_own else self._made_by[index - self._own_models]

    def _rules(self) -> ParseRules:
        """With the file's own TTL bounds; one that is wrong itself is reported elsewhere."""
        keys = zip(("min_ttl_minutes", "max_ttl_minutes"), DEFAULT_RULES.ttl_range, strict=True)
        low, high = (_number_or(self.data.get(key), default) for key, default in keys)
        return ParseRules(self._base("models"), None, (low, high))

    def _name_twins(self) -> None:
        names = [name for model in self.data["models"] for name in model.names]
        for twin in sorted(name for name, count in Counter(names).items() if count > 1):
            self.wrong(Issue("models", f"give the name {twin!r} to two models"))

    def _base(self, key: str) -> Path:
        from_file = self.file is not None and key not in self.origins
        return self.file.parent if self.file and from_file else Path.cwd()

    def all_origins(self) -> dict[str, str]:
        """Which place set what; of the file by its keys, unless a variable took their place."""
        file = {
            key: f"{self.file}, {self.spellings[key]}" if key in self.spellings else str(self.file)
            for key in self.in_file
        }
        return file | self.origins

    def wrong(self, issue: Issue) -> None:
        """Take down an issue, with the place that set its key. One about each key is enough: what
        follows from a variable that is not set says nothing new."""
        if self._counts(issue.key) and issue.key not in self.unfilled:
            self.errors.append(self._located(issue))

    def _counts(self, key: str) -> bool:
        return self.only is None or not key or re.split(r"[.\[]", key)[0] in self.only

    def _located(self, issue: Issue) -> ConfigIssue:
        for name in _prefixes(issue.key):
            if name in self.origins:
                return ConfigIssue(issue.key, issue.message, self.origins[name])
        inside = [o for name, o in self.origins.items() if name.startswith(f"{issue.key}.")]
        inside = inside or [self.origins[name] for name in issue.others if name in self.origins]
        default = str(self.file) if self.file else "the defaults"
        root = re.split(r"[.\[]", issue.key)[0]
        if root in self.spellings:
            default = f"{default}, {self.spellings[root]}"
        return ConfigIssue(issue.key, issue.message, ", ".join(inside) or default)


def _below(base: Path, entry: Any) -> Any:
    if isinstance(entry, Mapping) and isinstance(entry.get("path"), str):
        return {**entry, "path": _below(base, entry["path"])}
    if not isinstance(entry, str) or not entry.strip() or "\0" in entry:
        return entry
    try:
        return given_path(expanded(plain(entry)), str(Path.home()), str(base))
    except ValueError:
        return entry


def _prefixes(key: str) -> Iterator[str]:
    while key:
        yield key
        key = key[: max(key.rfind("."), key.rfind("["), 0)]


def _unmarked(model: Model) -> Model:
    values = {key: plain(getattr(model, key)) for key in model.templates}
    return replace(model, **values) if values else model


def _number_or(value: object, default: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return default
    return float(value)


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
