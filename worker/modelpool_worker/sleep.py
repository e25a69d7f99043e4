"""PURE: how a server lets go of device memory without its end, and takes it again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.schema import Schema


@dataclass(frozen=True)
class SleepStep:
    """What is asked with POST, and the JSON that it is given; None: nothing."""

    path: str
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Sleep:
    """Steps to sleep and to wake up, one after the other; each has to answer 200.

    Attributes:
        level: 1: weights wait in the host's memory, 2: they are read again at the end.
        check: answers ``{"is_sleeping": …}`` to GET, by which it is seen whether they had an
            effect; empty: it is not asked.
    """

    level: int
    sleep: tuple[SleepStep, ...]
    wake: tuple[SleepStep, ...]
    check: str = ""


_PATH = re.compile(r"/[!-~]*")
_STEPS: Schema = {
    "type": "array",
    "minItems": 1,
    "maxItems": 20,
    "items": {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "required": ["path"],
                "additionalProperties": False,
                "properties": {"path": {"type": "string"}, "body": {"type": "object"}},
            },
        ]
    },
}
# Ways to sleep as a config file writes them, one a level; see ``Sleep``.
WAYS: Schema = {
    "type": "array",
    "maxItems": 2,
    "items": {
        "type": "object",
        "required": ["level", "sleep", "wake"],
        "additionalProperties": False,
        "properties": {
            "level": {"type": "integer", "enum": (1, 2)},
            "sleep": _STEPS,
            "wake": _STEPS,
            "check": {"type": "string"},
        },
    },
}


def read_ways(ways: Iterable[Mapping[str, Any]], where: str) -> dict[int, Sleep]:
    """``WAYS`` that were checked against it, by level.

    Raises:
        InvalidRequest: a path is none, or a level stands there twice; naming the key.
    """
    found: dict[int, Sleep] = {}
    for i, way in enumerate(ways):
        place = f"{where}[{i}]"
        steps = {key: tuple(map(_step, way[key])) for key in ("sleep", "wake")}
        check = way.get("check", "")
        for key, path in [*((k, s.path) for k in steps for s in steps[k]), ("check", check)]:
            if not (_PATH.fullmatch(path) or (key == "check" and not path)):
                text = f"{place}.{key} must begin with / and hold no blanks, not {path[:200]!r}"
                raise InvalidRequest(text, param=f"{place}.{key}")
        if way["level"] in found:
            text = f"{place}.level {way['level']} stands there twice"
            raise InvalidRequest(text, param=f"{place}.level")
        found[way["level"]] = Sleep(way["level"], **steps, check=check)
    return found


def _step(said: str | Mapping[str, Any]) -> SleepStep:
    return SleepStep(said) if isinstance(said, str) else SleepStep(said["path"], said.get("body"))
