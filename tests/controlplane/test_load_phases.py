"""How long loads and their phases take, by their events; and the histograms that are made of what
ends a request or a load anyway."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from modelpool.observe.events import Event
from modelpool.observe.load_phases import MOST, OTHER, LoadPhases
from modelpool.observe.metrics import Metrics
from modelpool_client.wire import EndedRequest

Step = tuple[float, str, str]


def event(name: str, stage: str = "", **more: Any) -> dict[str, Any]:
    progress = {"progress": {"stage": stage}} if stage else {}
    return {"model_id": "m", "port": 8051, **progress, **more}


def run(steps: Sequence[Step]) -> list[tuple[float, dict[str, float]]]:
    phases, found = LoadPhases(), []
    for at, name, stage in steps:
        loaded = phases.note(f"model-{name}", event(name, stage), at)
        if loaded is not None:
            found.append((loaded.seconds, dict(loaded.phases)))
    return found


@pytest.mark.parametrize(
    ("steps", "loads"),
    [
        ([(0, "loading", ""), (3, "loaded", "")], [(3, {"start": 3})]),
        (
            [
                (0, "loading", ""),
                (1, "progress", "weights"),
                (2, "progress", "weights"),
                (4, "progress", "cache"),
                (5, "loaded", ""),
            ],
            [(5, {"start": 1, "weights": 3, "cache": 1})],
        ),
        (
            [
                (0, "loading", ""),
                (1, "progress", "shard 1 of 9"),
                (2, "progress", "shard 2 of 9"),
                (5, "loaded", ""),
            ],
            [(5, {"start": 1, OTHER: 4})],
        ),
        ([(0, "loading", ""), (1, "failed", ""), (2, "loaded", "")], []),
        ([(0, "loading", ""), (1, "waiting", ""), (2, "loaded", "")], []),
        ([(0, "progress", "weights"), (2, "loaded", "")], []),
        ([(0, "adopted", ""), (2, "loaded", "")], []),
        (
            [(0, "loading", ""), (1, "failed", ""), (5, "loading", ""), (6, "loaded", "")],
            [(1, {"start": 1})],
        ),
    ],
)
def test_phases_of_loads(steps: list[Step], loads: list[tuple[float, dict[str, float]]]) -> None:
    assert run(steps) == loads


def test_copies_load_beside_each_other() -> None:
    phases = LoadPhases()
    phases.note("model-loading", event("loading", port=1), 0.0)
    phases.note("model-loading", event("loading", port=2), 1.0)
    first = phases.note("model-loaded", event("loaded", port=1), 4.0)
    second = phases.note("model-loaded", event("loaded", port=2), 4.0)
    assert first is not None
    assert second is not None
    assert (first.seconds, second.seconds) == (4.0, 3.0)


def test_loads_without_an_end_are_bounded() -> None:
    phases = LoadPhases()
    for i in range(2 * MOST):
        phases.note("model-loading", event("loading", model_id=f"m{i}"), 0.0)
    assert len(phases._loads) == MOST


# -- the histograms ------------------------------------------------------------------------------


class Scene:
    def __init__(self) -> None:
        self.now = 100.0
        self.has = {"m", "n"}
        clock = SimpleNamespace(now=lambda: self.now)
        pool = SimpleNamespace(clock=clock, has=lambda model_id: model_id in self.has)
        self.metrics = Metrics(cast(Any, pool))
        # What the pool looks like is another matter.
        self.metrics._registry.unregister(next(iter(self.metrics._registry._collector_to_names)))

    def shown(self, name: str) -> dict[str, float]:
        """Counts and sums of a histogram, by label and what it is."""
        text = self.metrics.text().decode()
        found = re.findall(rf'^modelpool_{name}_(count|sum){{\w+="(\w+)"}} (\S+)$', text, re.M)
        return {f"{label} {part}": float(value) for part, label, value in found}

    def event(self, name: str, **data: Any) -> None:
        full = {"model_id": "m", "port": 1, **data}
        self.metrics.count(Event(1, "", name, full))


def stream(**facts: Any) -> EndedRequest:
    known = {"is_stream": True, "first_seconds": 0.5, "seconds": 2.5, "completion_tokens": 5}
    return EndedRequest(**{**known, **facts})


def test_first_tokens_and_the_time_of_each_further_one() -> None:
    scene = Scene()
    scene.metrics.told("m", stream())
    scene.metrics.told("m", stream(completion_tokens=1))
    for model_id, request in (
        ("", stream()),
        ("gone", stream()),
        ("m", stream(is_stream=False)),
        ("m", stream(first_seconds=None)),
    ):
        scene.metrics.told(model_id, request)
    assert scene.shown("time_to_first_token_seconds") == {"m count": 2, "m sum": 1.0}
    assert scene.shown("time_per_output_token_seconds") == {"m count": 1, "m sum": 0.5}
    scene.metrics.forget("m")
    assert scene.shown("time_to_first_token_seconds") == {}
    scene.metrics.told("n", stream())
    assert scene.shown("time_to_first_token_seconds") == {"n count": 1, "n sum": 0.5}


def test_loads_begin_at_nought() -> None:
    scene = Scene()
    scene.event("model-loading")
    assert scene.shown("load_seconds") == {"m count": 0, "m sum": 0}
    scene.now += 1
    scene.event("model-progress", progress={"stage": "weights"})
    scene.now += 2
    scene.event("model-loaded")
    assert scene.shown("load_seconds") == {"m count": 1, "m sum": 3}
    assert scene.shown("load_phase_seconds") == {
        "start count": 1,
        "start sum": 1,
        "weights count": 1,
        "weights sum": 2,
    }


def test_waiting_is_counted_of_those_who_had_to() -> None:
    scene = Scene()
    scene.metrics.waited("m", 2.0)
    assert scene.shown("queue_seconds") == {"m count": 1, "m sum": 2}
