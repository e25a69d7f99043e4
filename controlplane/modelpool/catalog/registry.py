"""Registry files, ``{"models": [entry, …]}``: reading all of one, writing one. PURE."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from .model import Model, printable
from .parse import canonical_keys, read_model
from .parse_rules import ParseRules, Problem

# The entries of the format as it was invented name no engine: there was only Ollama.
IMPLIED_ENGINE = "ollama"
# What that format always writes.
CLASSIC_KEYS = ("display_name", "model_type", "warmup", "priority", "tags")


def read_registry(
    data: object, existing: Mapping[str, Model], rules: ParseRules
) -> tuple[list[Model], list[Problem]]:
    """The models of a registry file, and everything that is wrong with it.

    An entry with neither engine nor source changes what it names of the model with its id; where
    there is no such model it is one of Ollama's, by that id.
    """
    entries = data.get("models") if isinstance(data, Mapping) else None
    if not isinstance(entries, list):
        return [], [Problem("models", 'a registry must be an object with a list "models"')]
    models, problems = [], []
    for index, entry in enumerate(entries):
        model, found = read_model(_completed(entry, existing), rules)
        problems += [_placed(index, p) for p in found]
        if model is not None:
            models.append(model)
    return models, problems + list(_twins(models))


def registry_entry(model: Model) -> dict[str, Any]:
    """A model as an entry: what the format always has, and whatever else is not a default."""
    values = model.as_dict()
    return {"model_id": model.model_id} | {k: values[k] for k in CLASSIC_KEYS} | model.as_entry()


def _completed(entry: object, existing: Mapping[str, Model]) -> object:
    if not isinstance(entry, Mapping):
        return entry
    keys = canonical_keys(entry)
    if keys & {"engine", "source"}:
        return entry
    model_id = entry.get("model_id", entry.get("id", entry.get("name")))
    old = existing.get(model_id) if isinstance(model_id, str) else None
    if old is not None:
        return {k: v for k, v in old.as_entry().items() if k not in keys} | dict(entry)
    implied = {"engine": IMPLIED_ENGINE, "source": model_id}
    return dict(entry) | (implied if isinstance(model_id, str) else {})


def _placed(index: int, problem: Problem) -> Problem:
    where = f"models[{index}]"
    param = f"{where}.{problem.param}" if problem.param else where
    return Problem(param, f"{where}: {problem.message}")


def _twins(models: list[Model]) -> Iterator[Problem]:
    counts = Counter(m.model_id for m in models)
    for twin in sorted(i for i, count in counts.items() if count > 1):
        yield Problem("models", f"{printable(twin)!r} stands there {counts[twin]} times")
