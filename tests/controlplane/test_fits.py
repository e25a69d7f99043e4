"""What fits here, as the catalog and the plan of a load tell it, with GPUs and without."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from modelpool.app import management_api, running
from modelpool.catalog.model import Model
from modelpool.config import PoolConfig
from support.devices import recorded

DEMO = Path(__file__).parents[2] / "configs" / "models" / "pool-demo.gguf"
MB = 1_000_000
LAYERS = 5  # the output layer among them
# The budgets of a pool to which the recorded machine belongs.
TWO = {
    f"cuda:{n}": device["total_bytes"] // MB
    for n, device in enumerate(recorded("two_gpus")["devices"])
}


def told(folder: Path, **keys: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The plan of a load, and the model in the list."""

    async def ask() -> tuple[dict[str, Any], dict[str, Any]]:
        config = PoolConfig(state_dir=folder, models=[Model("m", "llama.cpp", str(DEMO))], **keys)
        async with running(config) as pool:
            await pool.services.estimator.describe(pool.services.catalog.get("m"))
            app = httpx.ASGITransport(management_api(pool.services))
            async with httpx.AsyncClient(transport=app, base_url="http://127.0.0.1") as http:
                plan = (await http.get("/models/m/plan")).json()
                (listed,) = (await http.get("/models")).json()["models"]
                return plan, listed

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, {"verdict": "now", "gpu_layers": None, "most_gpu_layers": None, "parallel": 8}),
        # All of it is on devices: nothing need be said.
        ({"device_memory_mb": TWO}, {"gpu_layers": None, "most_gpu_layers": LAYERS, "parallel": 8}),
        # Of no use beside what any process takes of it; for some layers; for all but eight slots.
        ({"device_memory_mb": {"cuda:0": 302}}, {"gpu_layers": 0, "parallel": 8}),
        ({"device_memory_mb": {"cuda:0": 308}}, {"parallel": 1}),
        ({"device_memory_mb": {"cuda:0": 312}}, {"most_gpu_layers": LAYERS}),
        # One that others have filled is in nobody's way.
        (
            {"device_memory_mb": {"cuda:0": 301, "cuda:1": 1000}},
            {"gpu_layers": None, "most_gpu_layers": LAYERS, "parallel": 8},
        ),
        ({"memory_limit_mb": 70}, {"context_length": 1024, "parallel": 1, "largest_context": 1024}),
        ({"memory_limit_mb": 50}, {"verdict": "never", "largest_context": None}),
    ],
)
def test_what_fits(tmp_path: Path, keys: dict[str, Any], expected: dict[str, Any]) -> None:
    plan, listed = told(tmp_path, **keys)
    fits = plan["fits"]
    assert {key: fits[key] for key in expected} == expected
    assert listed["fits"].items() <= fits.items()
    assert fits["layers"] == LAYERS - 1
    if keys.get("device_memory_mb") == {"cuda:0": 308}:
        assert 0 < fits["gpu_layers"] < LAYERS
    is_possible = fits["verdict"] != "never"
    assert plan["action"] == ("start" if is_possible else "refuse")
    for device, needs in plan["needs"]["devices_mb"].items() if is_possible else ():
        assert needs <= keys["device_memory_mb"][device]
    if fits["largest_context"] is not None:
        assert fits["context_length"] <= fits["largest_context"]
        assert fits["largest_context_now"] <= fits["largest_context"]
