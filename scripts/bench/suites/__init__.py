"""The suites by name, in the order of a run, each with its share of the run's time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench import names
from bench.figures import Row
from bench.stage import Stage
from bench.suites import (
    catalog,
    cold,
    concurrency,
    idle,
    memory,
    observed,
    relay,
    speculation,
    surfaces,
    tokens,
    view,
)


@dataclass(frozen=True)
class Suite:
    """``until`` is the share of the whole run's time by which it should have ended; what one
    leaves, the next ones get. Not ``by_default``: it is run only when it is asked for."""

    run: Callable[[Stage], Iterator[Row]]
    until: float
    by_default: bool = True


SUITES = {
    names.RELAY: Suite(relay.run, 0.35),
    names.MEMORY: Suite(memory.run, 0.40),
    names.CATALOG: Suite(catalog.run, 0.48),
    names.TOKENS: Suite(tokens.run, 0.72),
    names.COLD: Suite(cold.run, 0.88),
    names.IDLE: Suite(idle.run, 0.97),
    names.CONCURRENCY: Suite(concurrency.run, 1.0, by_default=False),
    names.SPECULATION: Suite(speculation.run, 1.0, by_default=False),
    names.OBSERVED: Suite(observed.run, 1.0, by_default=False),
    names.VIEW: Suite(view.run, 1.0, by_default=False),
    names.SURFACES: Suite(surfaces.run, 1.0, by_default=False),
}
