"""PURE. Models that a provider's worker serves: which entries can be such."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modelpool_client.wire import ServedModels

from .model import Model
from .parse_rules import Problem


def moved(model: Model, old: Model | None) -> list[Problem]:
    """What is wrong with who serves it from now on: the worker of before would be nobody's."""
    if old is None or old.served_by == model.served_by:
        return []
    text = f"served_by of {model.model_id} cannot become another: delete the model first"
    return [Problem("served_by", text)]


def provider_problems(
    model: Model, known: Mapping[str, Model], beside: Mapping[str, Model] = {}
) -> list[Problem]:
    """What is wrong with who serves it.

    Args:
        known: what the catalog has, by id.
        beside: what comes with it.
    """
    problems = moved(model, known.get(model.model_id))
    if not model.served_by:
        return problems
    provider = beside.get(model.served_by) or known.get(model.served_by)
    if provider is None or provider.served_by or provider.engine != model.engine:
        text = f"served_by {model.served_by!r} names no provider of engine {model.engine}"
        return [*problems, Problem("served_by", text)]
    options = provider.options
    if not options.get("discover") and model.source not in options.get("models", ()):
        text = f"its provider {provider.model_id} does not serve {model.source!r}: its option"
        problems.append(Problem("source", f"{text} models names those that it does"))
    expected = f"{provider.model_id}:{model.source}"
    if model.model_id != expected:
        text = f"model_id must be {expected!r}, as its provider serves it; give it aliases"
        problems.append(Problem("model_id", text))
    return problems


def is_provider(model: Model) -> bool:
    """Whether its worker serves other models."""
    return model.options.get("models") is not None or bool(model.options.get("discover"))


def only_models_differ(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether options of a provider are the same but for which models it serves: a worker that runs
    with the old ones needs no other start for the new ones."""
    return _others(old) == _others(new)


def told_models(
    provider: Model, started_with: Model | None, entries: Sequence[Model]
) -> ServedModels | None:
    """What the worker of a provider is told of whom it serves; None where that stays as it was.

    Args:
        started_with: the entry that it was started with; None where that is not known. One that
            asks another server, or with another key, must not ask it for models of the new one.
        entries: of the models that the provider serves. Where there are none, those that its
            options name can be asked for on the worker's own port alone.
    """
    if not is_provider(provider):
        return None
    if started_with is not None and not only_models_differ(started_with.options, provider.options):
        return None
    named = provider.options.get("models") or ()
    names = tuple(m.source for m in entries) if entries else tuple(named)
    return ServedModels(names, bool(provider.options.get("discover")))


def _others(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in ("models", "discover")}


def served(provider: Model, models: Iterable[Model]) -> list[Model]:
    """The models that a provider serves."""
    return [m for m in models if m.served_by == provider.model_id]
