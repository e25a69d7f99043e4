"""Virtual models and presets as the config file has them: right on their own?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .graph import circle
from .kinds.registry import kind
from .names import AUTO, best_match, is_pattern
from .presets import read_preset
from .virtual_model import VirtualModel, read_virtual_model


def check_virtual_models(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """The entries as they are.

    Raises:
        ValueError: what is wrong with the first that is, or they stand for themselves.
    """
    models = {name: _read(name, entry) for name, entry in said.items()}
    find = _finder(models)
    for model in models.values():
        way = circle(model, find)
        if way:
            raise ValueError(f"stand for themselves: {' → '.join(way)}")
    return said


def check_auto(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the config file says of ``auto``, as it is.

    Raises:
        ValueError: what is wrong with it, or it stands for itself.
    """
    if "kind" in said:
        raise ValueError("kind is auto; what else auto shall be is for virtual_models")
    auto = read_virtual_model(AUTO, {"kind": "auto", **said}, kind)
    if AUTO in auto.targets:
        raise ValueError("auto stands for itself")
    return said


def check_presets(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """The presets as they are.

    Raises:
        ValueError: what is wrong with the first that is.
    """
    for name, values in said.items():
        read_preset(name, values)
    return said


def _read(name: str, entry: object) -> VirtualModel:
    try:
        return read_virtual_model(name, entry, kind)
    except ValueError as e:
        raise ValueError(f"{name[:80]}: {e}") from None


def _finder(models: Mapping[str, VirtualModel]) -> Callable[[str], VirtualModel | None]:
    patterns = [name for name in models if is_pattern(name)]

    def find(name: str) -> VirtualModel | None:
        if name in models:
            return models[name]
        pattern = best_match(name, patterns)
        return models[pattern] if pattern is not None else None

    return find
