"""From a JSON object, as people and the older documents write it, to a ``Model``. PURE.

Where a key has several spellings all are read; ``Model``'s own are written.
"""

from __future__ import annotations

import os.path
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from modelpool.homes import expanded

from .entry_schema import FIELDS, GGUF_ENGINES, READ_FILES
from .model import Model, did_you_mean, printable
from .option_files import with_files_below
from .parse_rules import DEFAULT_RULES, ParseRules, Problem, refuse
from .variables import is_filled, template, typed

MB_PER_GB = 1000

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "model_id": ("id",),
    "display_name": ("model_name", "displayName"),
    "source": ("path", "local_path", "model_path", "hf_model_id"),
    "engine": ("backend", "provider"),
    "model_type": ("type",),
    "memory_mb": ("memory_usage_mb",),
    "context_length": ("contextWindow", "context_window", "contextLength"),
    "size_bytes": ("size",),
}
# Fields of the older documents that nothing reads yet; they are kept in ``metadata``.
METADATA_KEYS = (
    "cost_per_image",
    "cost_per_token",
    "description",
    "input_schema",
    "input_shape",
    "last_updated",
    "output_schema",
    "output_shape",
    "performance_profile",
    "repository",
    "resource_requirements",
)


_ALIAS_OF = {alias: key for key, aliases in SYNONYMS.items() for alias in aliases}
KNOWN_KEYS = (*FIELDS, *_ALIAS_OF, "name", "memory_gb", *METADATA_KEYS)


def parse_model(
    data: object,
    *,
    base_dir: Path | None = None,
    known_engines: Collection[str] | None = None,
    ttl_range: tuple[float, float] = DEFAULT_RULES.ttl_range,
) -> Model:
    """Build a model from the body of a registration or an entry of a file; see ``ParseRules``.

    Raises:
        InvalidRequest: see ``refuse``. InvalidModelId when the id is the first that is wrong.
    """
    model, problems = read_model(data, ParseRules(base_dir, known_engines, ttl_range))
    refuse(problems)
    assert model is not None
    return model


def read_model(data: object, rules: ParseRules) -> tuple[Model | None, list[Problem]]:
    """The model, or None and everything that is wrong with it."""
    if not isinstance(data, Mapping):
        text = f"a model must be an object, not {type(data).__name__}"
        return None, [Problem("", text)]
    entry = _Entry(rules)
    entry.read(data)
    if entry.problems:
        return None, entry.problems
    return Model(**entry.values, templates=entry.templates), []


def canonical_keys(data: Mapping[Any, Any]) -> set[str]:
    """Our names of the known keys in an entry."""
    has_id = "model_id" in data or "id" in data
    return {key for key in (_key_of(spelling, has_id) for spelling in data) if key}


class _Entry:
    """One model being read: the values so far and everything that was wrong."""

    def __init__(self, rules: ParseRules) -> None:
        self.rules = rules
        self.values: dict[str, Any] = {}
        self.templates: dict[str, Mapping[str, Any]] = {}
        self.problems: list[Problem] = []

    def wrong(self, param: str, problem: object) -> None:
        self.problems.append(Problem(printable(param), printable(f"{param} {problem}")))

    def read(self, data: Mapping[Any, Any]) -> None:
        """Check every key, then what depends on several of them."""
        given = self._renamed(data)
        unknown, self.problems = self.problems, []  # what is wrong with a known key comes first
        for key in sorted(given, key=_POSITIONS.__getitem__):
            self._checked(key, *given[key])
        for key in ("model_id", "source"):
            if key not in given:
                self.wrong(key, "is required")
        self._engine()
        self._source()
        self._files()
        self._ttl()
        self._replicas()
        self._fallbacks()
        self._schedule()
        if self.values.get("model_id") in self.values.get("aliases", ()):
            self.wrong("aliases", "hold the id itself")
        self.problems += unknown
        self.values.setdefault("display_name", self.values.get("model_id", ""))

    def _renamed(self, data: Mapping[Any, Any]) -> dict[str, tuple[str, Any]]:
        """Our key -> the spelling that was used, the value."""
        given: dict[str, tuple[str, Any]] = {}
        extra: dict[str, Any] = {}
        has_id = "model_id" in data or "id" in data
        for spelling, value in data.items():
            key = _key_of(spelling, has_id)
            if key is None:
                self.wrong(str(spelling)[:80], f"is unknown{_near_key(spelling)}")
            elif key in METADATA_KEYS:
                extra[key] = value
            elif key in given and given[key][1] != value:
                self.wrong(spelling, f"contradicts {given[key][0]}: two names of one field")
            else:
                given[key] = (spelling, value)
        return _with_metadata(given, extra)

    def _checked(self, key: str, spelling: str, value: Any) -> None:
        value = typed(value, _kind(FIELDS[key].schema))
        if is_filled(value):
            self.templates[key] = {spelling: template(value)}
        if spelling == "memory_gb":
            value = _megabytes(value)
        try:
            self.values[key] = FIELDS[key].check(value)
        except ValueError as e:
            self.wrong(spelling, e)

    def _engine(self) -> None:
        source = str(self.values.get("source", ""))
        engine = self.values.get("engine")
        if engine is None and source.casefold().endswith(".gguf"):
            engine = self.values["engine"] = "llama.cpp"
        if engine is None:
            if not any(p.param in ("engine", *SYNONYMS["engine"]) for p in self.problems):
                self.wrong("engine", "is required: it does not follow from the source")
        elif self.rules.known_engines is not None and engine not in self.rules.known_engines:
            known = ", ".join(sorted(self.rules.known_engines))
            self.wrong("engine", f"{engine!r} is unknown here; there are: {known}")

    def _source(self) -> None:
        source = self.values.get("source")
        if source is None or not _is_path(source, self.values.get("engine")):
            return
        try:
            path = expanded(source)
        except ValueError as e:
            self.wrong("source", e)
            return
        if not os.path.isabs(path) and self.rules.base_dir is None:
            self.wrong("source", "must be an absolute path here")
            return
        self.values["source"] = os.path.normpath(os.path.join(self.rules.base_dir or "", path))

    def _files(self) -> None:
        base = self.rules.base_dir
        if base is not None and isinstance(options := self.values.get("options"), Mapping):
            self.values["options"] = with_files_below(str(base), options)

    def _replicas(self) -> None:
        least = self.values.get("min_replicas", 1)
        if least > self.values.setdefault("max_replicas", least):
            self.wrong("min_replicas", "is above max_replicas")

    def _fallbacks(self) -> None:
        own = {self.values.get("model_id"), *self.values.get("aliases", ())}
        if own.intersection(self.values.get("fallbacks", ())):
            self.wrong("fallbacks", "names the model itself")

    def _schedule(self) -> None:
        """What stays is unloaded by force only, and a schedule uses none."""
        stays = [key for key in ("warmup", "pinned") if self.values.get(key)]
        unloads = any(a["action"] == "unload" for a in self.values.get("schedule", ()))
        if stays and unloads:
            self.wrong("schedule", f"unloads a model that is to stay: {' and '.join(stays)}")

    def _ttl(self) -> None:
        minutes = self.values.get("ttl_minutes")
        low, high = self.rules.ttl_range
        if minutes and not low <= minutes <= high:
            self.wrong("ttl_minutes", f"must be 0 (never) or between {low:g} and {high:g}")


def _kind(schema: Mapping[str, Any]) -> str:
    """The type of a field's values, but for null."""
    kind = schema["type"]
    return kind if isinstance(kind, str) else str(kind[0])


_POSITIONS = {key: position for position, key in enumerate(FIELDS)}


def _key_of(spelling: Any, has_id: bool) -> str | None:
    """Our name of a key. ``name`` is the id, or the display name where an id stands beside it."""
    if spelling == "name":
        return "display_name" if has_id else "model_id"
    if spelling == "memory_gb":
        return "memory_mb"
    if spelling in FIELDS or spelling in METADATA_KEYS:
        return str(spelling)
    return _ALIAS_OF.get(spelling)


def _near_key(spelling: object) -> str:
    return did_you_mean(spelling, KNOWN_KEYS) if isinstance(spelling, str) else ""


def _with_metadata(
    given: dict[str, tuple[str, Any]], extra: dict[str, Any]
) -> dict[str, tuple[str, Any]]:
    if extra:
        spelling, own = given.get("metadata", ("metadata", {}))
        merged = {**extra, **own} if isinstance(own, Mapping) else own
        given["metadata"] = (spelling, merged)
    return given


def _megabytes(value: Any) -> Any:
    """GB to MB; what is no number is left for the check to name."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value * MB_PER_GB if is_number else value


def _is_path(source: str, engine: object) -> bool:
    is_marked = source.startswith(("/", "./", "../", "~/"))
    is_marked |= source.startswith("~") and engine in READ_FILES
    return is_marked or engine in GGUF_ENGINES or source.casefold().endswith(".gguf")
