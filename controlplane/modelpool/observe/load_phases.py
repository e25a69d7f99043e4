"""PURE. How long loads take, and each of their phases: from the events that tell of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What comes before an engine tells of anything: its process, its libraries.
START = "start"
# Those that our engines tell of; a command may call its phases anything.
KNOWN = frozenset({START, "weights", "tokenizer", "cache", "load", "waking", "warmup"})
OTHER = "other"
# Loads that are under way; more are not.
MOST = 4096


@dataclass(frozen=True)
class Loaded:
    """A load that is over: in all, and by phase; seconds."""

    model_id: str
    seconds: float
    phases: Mapping[str, float]


@dataclass
class _Load:
    began_at: float
    phase: str
    phase_at: float
    phases: dict[str, float]

    def enter(self, phase: str, now: float) -> None:
        self.phases[self.phase] = self.phases.get(self.phase, 0.0) + now - self.phase_at
        self.phase, self.phase_at = phase, now


class LoadPhases:
    """Follows loads by their events; those that fail or are given up are none."""

    def __init__(self) -> None:
        self._loads: dict[tuple[str, int | None], _Load] = {}

    def note(self, name: str, data: Mapping[str, Any], now: float) -> Loaded | None:
        """An event of a model, at a time in seconds; the load that is over by it."""
        model_id = data["model_id"]
        key = (model_id, data.get("port"))
        load = self._loads.get(key)
        if name == "model-loading":
            if len(self._loads) < MOST:
                self._loads[key] = _Load(now, START, now, {})
        elif name == "model-progress":
            stage = (data.get("progress") or {}).get("stage", OTHER)
            phase = stage if stage in KNOWN else OTHER
            if load is not None and phase != load.phase:
                load.enter(phase, now)
        elif load is not None:
            del self._loads[key]
            if name == "model-loaded":
                load.enter("", now)
                return Loaded(model_id, now - load.began_at, load.phases)
        return None
