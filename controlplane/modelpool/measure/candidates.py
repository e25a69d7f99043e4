"""PURE: which options are tried for a model, from what its engine says of them.

An engine's table of options says of each whether it is worth trying, as
``"tuning": {"goals": [...], "settings": [{"threads": 2}, …]}``; ``"fractions": [0, 0.5]`` stand for
so much of the model's layers, and ``"needs": "device"`` means only where there is one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Goal = Literal["first-token", "one-stream", "many-streams"]
GOALS: tuple[Goal, ...] = ("first-token", "one-stream", "many-streams")
# Options by name; sorted, so that two that say the same are the same.
Setting = tuple[tuple[str, Any], ...]
DEFAULT: Setting = ()


def setting(options: Mapping[str, Any]) -> Setting:
    """The options as a value that can be a key."""
    return tuple(sorted(options.items()))


@dataclass(frozen=True)
class Dimension:
    """One thing that is tried, and its settings."""

    name: str
    settings: tuple[Setting, ...]


def dimensions(
    schema: Mapping[str, Mapping[str, Any]],
    goal: Goal,
    *,
    declared: Collection[str] = (),
    only: Collection[str] = (),
    layers: int | None = None,
    has_device: bool = False,
) -> tuple[Dimension, ...]:
    """What is tried for a goal, in the order of the engine's table.

    Args:
        declared: options that the model's entry says: those are not touched.
        only: none but these; all where it is empty.
        layers: of the model; None where it is not known.
    """
    found = []
    for name, option in schema.items():
        tuning = option.get("tuning")
        if not tuning or goal not in tuning["goals"] or (only and name not in only):
            continue
        if tuning.get("needs") == "device" and not has_device:
            continue
        settings = [s for s in _settings(name, tuning, layers) if not _touches(s, declared)]
        default = option.get("default")
        settings = [s for s in settings if s != ((name, default),)]
        if settings:
            found.append(Dimension(name, tuple(dict.fromkeys(settings))))
    return tuple(found)


def _settings(name: str, tuning: Mapping[str, Any], layers: int | None) -> Iterator[Setting]:
    yield from map(setting, tuning.get("settings", ()))
    if layers:
        # The output counts as a layer, too.
        yield from (((name, round((layers + 1) * f)),) for f in tuning.get("fractions", ()))


def _touches(candidate: Setting, declared: Collection[str]) -> bool:
    return any(name in declared for name, _ in candidate)


def merged(base: Setting, more: Setting) -> Setting:
    """Both, the second in the place of the first."""
    return setting({**dict(base), **dict(more)})


def text(candidate: Setting, empty: str = "the defaults") -> str:
    """As people read it."""
    return " ".join(f"{name}={value}" for name, value in candidate) or empty


def unknown(schema: Mapping[str, Mapping[str, Any]], only: Sequence[str]) -> list[str]:
    """Those of ``only`` that no engine's table says how to try."""
    return [name for name in only if "tuning" not in schema.get(name, {})]
