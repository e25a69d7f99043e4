"""The options of a model in their layers: read and set without a load."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelpool_client.errors import Conflict

from modelpool.catalog.companion_names import with_paths
from modelpool.catalog.model import Model
from modelpool.catalog.parse_rules import refuse
from modelpool.catalog.tuned import Layers, Tuned, why_doubtful, why_unused
from modelpool.services import Services


@dataclass(frozen=True)
class OptionsReport:
    """What is known of a model's options.

    Attributes:
        tuned: what was found by trying; None where nothing was.
        unused, doubtful: why that does not count, or may be out of date; else empty.
        hidden: names of options whose saved values came from the environment, and what the config
            file says in their place.
    """

    model: Model
    layers: Layers
    tuned: Tuned | None
    unused: str
    doubtful: str
    hidden: Mapping[str, Any]


async def report(services: Services, name: str) -> OptionsReport:
    """The layers of a model's options.

    Raises:
        ModelNotFound: there is none of that name.
    """
    model = services.catalog.get(name)
    engine = await services.engines.about(model.engine)
    reading = services.estimator.reading(model)
    digest = reading.files.digest if reading is not None else ""
    tuned = services.measurements.tuned.get(model.model_id)
    unused = why_unused(tuned, model, digest) if tuned is not None else ""
    version = str(engine.get("version", ""))
    doubtful = why_doubtful(tuned, model, version) if tuned is not None else ""
    layers = Layers(
        engine.get("options") or {},
        {} if tuned is None or unused else tuned.options,
        model.options,
        services.pool.effective(model).options,
        services.pool.status(model.model_id).started_options,
    )
    return OptionsReport(model, layers, tuned, unused, doubtful, model.hidden_options)


async def change(services: Services, name: str, changes: Mapping[str, Any]) -> OptionsReport:
    """Set saved options, or remove those that are None; they count from the next load on. What was
    found with the model may be called by its name.

    Raises:
        ModelNotFound: there is none of that name.
        InvalidRequest: the engine does not take them, or nothing of such a name goes with the
            model; nothing was changed.
        Conflict: they hold values from the environment.
    """
    model = services.catalog.get(name)
    if "options" in model.templates:
        text = f"options of {model.model_id} come from the environment: change the config file"
        raise Conflict(text, param="options")
    said = with_paths(changes, model.companions)
    options = {k: v for k, v in {**model.options, **said}.items() if v is not None}
    if options == dict(model.options):
        return await report(services, name)
    changed = dataclasses.replace(model, options=options)
    refuse(
        [*await services.untrusted(changed), *await services.file_problems(changed, model.options)]
    )
    reading = await services.estimator.read(changed)
    verdict = await services.engines.check(reading.model)

    def then(model: Model) -> None:
        services.estimator.take(reading)
        services.estimator.hear(model, verdict)
        services.take_over(model, f"its options were changed: {', '.join(sorted(changes))}")

    await services.catalog.replace(reading.model, model, then)
    return await report(services, name)
