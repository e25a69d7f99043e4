"""PURE. Where the value of each key of the configuration comes from, and what a restart would make
of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .config_keys import LIVE_KEYS, PoolConfig

Kind = Literal["default", "file", "environment", "runtime"]
# Of which GET /models tells more.
_ELSEWHERE = {"models"}


@dataclass(frozen=True)
class KeySource:
    """Where a key's value comes from.

    Attributes:
        value: in force, as it is shown.
        kind: ``runtime`` is a change by ``PATCH /config``, which the next start forgets.
        place: the file, or the variables of the environment, or how it was changed.
        default: what it would be if nobody said anything.
        is_live: it can change while the pool runs; else a new value counts from a restart on.
        after_restart: what it would be then, where that is something else.
        will_change: ``after_restart`` says something.
    """

    value: Any
    kind: Kind
    place: str
    default: Any
    is_live: bool
    after_restart: Any = None
    will_change: bool = False


def sources_of(config: PoolConfig, configured: PoolConfig) -> dict[str, KeySource]:
    """By key.

    Args:
        config: what is in force.
        configured: what file and environment said when they were last read.
    """
    shown, said = config.as_dict(), configured.as_dict()
    defaults = PoolConfig.model_validate({"state_dir": configured.state_dir}).as_dict()
    return {
        key: _source(key, config, configured, shown[key], said[key], defaults[key])
        for key in PoolConfig.model_fields
        if key not in _ELSEWHERE
    }


def _source(
    key: str, config: PoolConfig, configured: PoolConfig, value: Any, said: Any, default: Any
) -> KeySource:
    is_live, is_as_said = key in LIVE_KEYS, getattr(config, key) == getattr(configured, key)
    kind, place = _origin(configured.origins, key)
    if is_as_said:
        return KeySource(value, kind, place, default, is_live)
    if is_live:
        return KeySource(value, "runtime", "PATCH /config", default, is_live, said, True)
    # It was read again, and says something else now than at the start.
    return KeySource(value, kind, f"{place}, as it was at the start", default, is_live, said, True)


def _origin(origins: Mapping[str, str], key: str) -> tuple[Kind, str]:
    """Parts of a key, as ``port_range.start``, may come from another place than the rest."""
    inside = {name: place for name, place in origins.items() if name.startswith(f"{key}.")}
    places = [*([origins[key]] if key in origins else []), *inside.values()]
    if not places:
        return "default", ""
    is_file = any(not place.startswith("environment variable") for place in places)
    return "file" if is_file else "environment", ", ".join(dict.fromkeys(places))
