"""PURE. Named sets of values for parameters: ours, and those of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelpool.catalog.model import did_you_mean
from modelpool.catalog.request_rules import read_rules

# By names as people see them; case does not count.
BUILT_IN: Mapping[str, Mapping[str, Any]] = {
    "Conservative": {"temperature": 0.2, "top_p": 0.9},
    "Balanced": {"temperature": 0.7, "top_p": 0.95},
    "Creative": {"temperature": 1.0, "top_p": 1.0},
}
MOST_PRESETS, MAX_NAME = 256, 128


def read_preset(name: object, values: object) -> dict[str, Any]:
    """The values of a preset.

    Raises:
        ValueError: a whole sentence.
    """
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME:
        raise ValueError(f"a preset cannot be called {str(name)[:80]!r}")
    try:
        return dict(read_rules({"defaults": values}).defaults)
    except ValueError as e:
        raise ValueError(f"preset {name!r} {str(e).removeprefix('defaults: ')}") from None


def find_preset(name: str, own: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The values of a preset by its name; own ones come before ours."""
    for presets in (own, BUILT_IN):
        for known, values in presets.items():
            if known.casefold() == name.casefold():
                return values
    return None


def unknown_preset(name: str, own: Mapping[str, Mapping[str, Any]]) -> str:
    """What is wrong with a name that no preset has."""
    known = (*own, *BUILT_IN)
    return f"there is no preset {name[:80]!r}{did_you_mean(name, known)}"
