"""Registry files, ``{"models": [entry, …]}``: reading all of one, writing one. PURE.

A model that was found on a disk is marked, ``"origin": "discovered"``, with the ``identity`` of
its content: where such a file is read it is one that was found, too, and goes with its files,
wherever a look finds that content. Places and companions are not written: they are found anew. Nor
is what was found out of a model: where the file is read it would count as said by its owner.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from .model import Model, Origin, printable
from .parse import canonical_keys, read_model
from .parse_rules import ParseRules, Problem
from .variables import template

# The entries of the format as it was invented name no engine: there was only Ollama.
IMPLIED_ENGINE = "ollama"
# What that format always writes.
CLASSIC_KEYS = ("display_name", "model_type", "warmup", "priority", "tags")
FOUND: Origin = "discovered"
MARKS = ("origin", "identity")


def read_registry(
    data: object, existing: Mapping[str, Model], rules: ParseRules
) -> tuple[list[Model], list[Problem]]:
    """The models of a registry file, and everything that is wrong with it.

    An entry with neither engine nor source changes what it names of the model with its id; where
    there is no such model it is one of Ollama's, by that id.
    """
    entries = _entries(data)
    if entries is None:
        return [], [Problem("models", 'a registry must be an object with a list "models"')]
    models, problems = [], []
    for index, entry in enumerate(entries):
        model, found = _read(entry, existing, rules)
        problems += [_placed(index, p) for p in (*found, *rules.refused.get(index, ()))]
        if model is not None:
            models.append(model)
    return models, problems + list(_twins(models))


def sound_models(
    data: object, existing: Mapping[str, Model], rules: ParseRules
) -> dict[int, Model]:
    """The models of the entries in which ``read_registry`` finds nothing wrong, by their place."""
    found = (_read(e, existing, rules)[0] for e in _entries(data) or ())
    return {index: model for index, model in enumerate(found) if model is not None}


def _read(
    entry: object, existing: Mapping[str, Model], rules: ParseRules
) -> tuple[Model | None, list[Problem]]:
    marks = {k: entry[k] for k in MARKS if k in entry} if isinstance(entry, Mapping) else {}
    if not marks or not isinstance(entry, Mapping):
        return read_model(_completed(entry, existing), rules)
    wrong = []
    if marks.get("origin") != FOUND:
        wrong.append(Problem("origin", f"origin must be {FOUND!r} where it is given"))
    if not isinstance(marks.get("identity", ""), str):
        wrong.append(Problem("identity", "identity must be a text"))
    old = _named(entry, existing)
    bare = {k: v for k, v in entry.items() if k not in MARKS}
    if old is not None and old.origin == FOUND:  # its files are where they were found here
        bare |= {"source": old.source} if "source" in bare else {}
    model, problems = read_model(_completed(bare, existing), rules)
    if model is None or wrong:
        return None, problems + wrong
    if old is None:
        identity = marks.get("identity", "")
        model = replace(model, origin=FOUND, places=(model.source,), identity=identity)
    return model, []


def _named(entry: Mapping[Any, Any], existing: Mapping[str, Model]) -> Model | None:
    """The model that is there under the entry's id."""
    model_id = entry.get("model_id", entry.get("id", entry.get("name")))
    return existing.get(model_id) if isinstance(model_id, str) else None


def _entries(data: object) -> list[Any] | None:
    entries = data.get("models") if isinstance(data, Mapping) else None
    return entries if isinstance(entries, list) else None


def registry_entry(model: Model) -> dict[str, Any]:
    """A model as an entry: what the format always has, and whatever else is not a default."""
    classic = model.shown(CLASSIC_KEYS)
    marks = {"origin": FOUND, "identity": model.identity} if model.origin == FOUND else {}
    return {"model_id": model.model_id} | classic | _said(model, model.shown_entry()) | marks


def file_entry(model: Model) -> dict[str, Any]:
    """The same for a config file, in which ``${`` begins a variable."""
    values = model.as_dict()
    classic = {k: template(values[k]) for k in CLASSIC_KEYS if k not in model.templates}
    return classic | _said(model, model.as_file_entry())


def _said(model: Model, entry: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in entry.items() if k not in model.from_file}


def _completed(entry: object, existing: Mapping[str, Model]) -> object:
    if not isinstance(entry, Mapping):
        return entry
    model_id = entry.get("model_id", entry.get("id", entry.get("name")))
    old = _named(entry, existing)
    if old is not None and old.templates:
        entry = _with_values(entry, old)
    keys = canonical_keys(entry)
    if keys & {"engine", "source"}:
        return entry
    if old is not None:
        return {k: v for k, v in old.as_entry().items() if k not in keys} | dict(entry)
    implied = {"engine": IMPLIED_ENGINE, "source": model_id}
    return dict(entry) | (implied if isinstance(model_id, str) else {})


def _with_values(entry: Mapping[Any, Any], old: Model) -> dict[Any, Any]:
    """An exported entry says where a value came from, not what it was: it stays what it is."""
    values, completed = old.as_dict(), dict(entry)
    for key, shown in old.templates.items():
        for spelling, text in shown.items():
            if completed.get(spelling) == text:
                del completed[spelling]
                completed[key] = values[key]
    return completed


def _placed(index: int, problem: Problem) -> Problem:
    where = f"models[{index}]"
    param = f"{where}.{problem.param}" if problem.param else where
    return Problem(param, f"{where}: {problem.message}")


def _twins(models: list[Model]) -> Iterator[Problem]:
    counts = Counter(m.model_id for m in models)
    for twin in sorted(i for i, count in counts.items() if count > 1):
        yield Problem("models", f"{printable(twin)!r} stands there {counts[twin]} times")
