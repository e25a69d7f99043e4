"""Under what a measurement is made, and how busy the host is. Asks the machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from modelpool_client import __version__

from modelpool.catalog.estimator import Estimator
from modelpool.catalog.model import Model
from modelpool.catalog.profiles import Conditions
from modelpool.engines import Engines


def cores() -> int:
    """Of the processor, as far as this process may use them; with their hyper-threads."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def host_load() -> float:
    """What waits for a core or has one, the average of the last minute, for each core; 0 where the
    system does not tell."""
    try:
        return os.getloadavg()[0] / cores()
    except OSError:
        return 0.0


async def conditions(
    model: Model,
    estimator: Estimator,
    engines: Engines,
    options: Mapping[str, Any] | None = None,
) -> Conditions:
    """Those in force for a model; ``options``: its worker has these, not those of the next load.
    They are kept and shown, so that values from the environment are left out."""
    reading = estimator.reading(model)
    engine = await engines.about(model.engine)
    return Conditions(
        model.shown_options(estimator.effective(model).options if options is None else options),
        reading.files.digest if reading is not None else "",
        model.engine,
        str(engine.get("version", "")),
        __version__,
        cores(),
        round(host_load(), 2),
    )
