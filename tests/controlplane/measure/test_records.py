"""What was measured of a model goes with it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from modelpool.catalog.profiles import Conditions
from modelpool.catalog.tuned import TunedOptions
from modelpool.measure.records import Measurements


class Documents:
    """A store that takes everything."""

    async def documents(self, kind: str) -> Mapping[str, Any]:
        return {}

    async def write_documents(
        self, kind: str, put: Mapping[str, Any], drop: Collection[str] = ()
    ) -> None: ...


def test_a_model_of_the_same_name_is_searched_anew() -> None:
    measurements = Measurements(Documents(), TunedOptions())
    now = Conditions(engine="fake")
    for model_id in ("m", "n"):
        measurements.note_search(model_id, "speed", now)
    asyncio.run(measurements.forget("m"))
    assert not measurements.was_searched("m", "speed", now)
    assert measurements.was_searched("n", "speed", now)
