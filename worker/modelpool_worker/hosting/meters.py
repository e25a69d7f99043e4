"""What an engine child tells of its work, as Prometheus text for its worker's page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Meter(Protocol):
    """Counts the work of one kind.

    Attributes:
        steps: how often the model was computed since it was loaded: between two of them a client
            that has left is noticed.
        busy: requests, sequences or items that it works on now, whether or not anybody waits for
            them.
    """

    @property
    def steps(self) -> int: ...

    @property
    def busy(self) -> int: ...


class Metered(Protocol):
    """What has a meter: a surface.

    Attributes:
        work: what its model does, a word.
    """

    work: str
    meter: Meter


def page(model_id: str, surfaces: Mapping[str, Meter]) -> bytes:
    """``/metrics``; ``surfaces``: meters by what is done."""
    model = model_id.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    lines = []
    for name, kind, text, values in (
        (
            "steps_total",
            "counter",
            "How often the model was computed; a client that has left costs one more at most.",
            {work: meter.steps for work, meter in surfaces.items()},
        ),
        (
            "busy",
            "gauge",
            "Sequences or items that the engine works on, whether or not a client waits for them.",
            {work: meter.busy for work, meter in surfaces.items()},
        ),
    ):
        full = f"modelpool_engine_{name}"
        lines += [f"# HELP {full} {text}", f"# TYPE {full} {kind}"]
        lines += [f'{full}{{model="{model}",work="{w}"}} {value}' for w, value in values.items()]
    return ("\n".join(lines) + "\n").encode()
