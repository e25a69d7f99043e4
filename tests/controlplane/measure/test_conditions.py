"""What a measurement is kept with shows nothing that came from the environment."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from modelpool.catalog.estimator import Estimator
from modelpool.catalog.model import Model
from modelpool.measure.conditions import conditions

SECRET = "s3cr3t"
SAID = {"reply": "${REPLY}", "tokens": 5}


def configured(**options: Any) -> Model:
    own = {"reply": SECRET, "tokens": 5, **options}
    return Model("m", "fake", "x", options=own, templates={"options": {"options": SAID}})


@pytest.mark.parametrize("running", [None, {"reply": "f0rm3r", "tokens": 5, "parallel": 2}])
def test_options_are_shown_as_the_config_file_has_them(running: dict[str, Any] | None) -> None:
    async def about(name: str) -> dict[str, Any]:
        return {"version": "1"}

    engines: Any = SimpleNamespace(about=about)
    found = asyncio.run(conditions(configured(), Estimator(), engines, running))
    assert found.options == {**(running or {}), **SAID}
    assert SECRET not in json.dumps(vars(found))
