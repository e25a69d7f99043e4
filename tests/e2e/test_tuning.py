"""Tuning a model of 0.5 billion parameters, and what it is loaded with afterwards."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from make_bench_gguf import BENCH_SHAPE, write_random_gguf

from e2e.helpers import until
from e2e.support import PoolProcess

BUDGET_SECONDS = 150
OVER = ("succeeded", "failed", "cancelled")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_model_is_loaded_as_it_was_tuned_if_that_won_beyond_doubt(tmp_path: Path) -> None:
    """How much faster that is depends on the machine, and so does whether anything is."""
    path = tmp_path / "half.gguf"
    write_random_gguf(path, BENCH_SHAPE, weight_type="q4_0")
    own = {"context_length": 1024}
    with PoolProcess(tmp_path, [{"model_id": "half", "source": str(path), "options": own}]) as pool:
        asked = {"goal": "one-stream", "budget_seconds": BUDGET_SECONDS}
        begun = pool.http.post("/models/half/tune", json=asked).json()

        def over() -> dict[str, Any]:
            view: dict[str, Any] = pool.http.get(f"/jobs/{begun['job_id']}").json()
            return view if view["state"] in OVER else {}

        # Pairs that make sure of what was found are run to their end, whatever the budget.
        found = until(over, "the end of the search", 6 * BUDGET_SECONDS)
        assert found["state"] == "succeeded", (found["reason"], found["log"])
        result = found["result"]
        print(json.dumps({key: result[key] for key in ("options", "gain", "low", "high", "pairs")}))
        for each in result["tried"]:
            print(json.dumps(each))
        if result["is_better"]:
            finals = next(t["ratios"] for t in result["tried"] if t.get("is_final"))
            assert statistics.median(finals) >= 1.02
            assert sum(ratio > 1 for ratio in finals) >= len(finals) - 1
        tuned = pool.http.get("/models/half/options").json()["tuned"]
        assert (tuned["options"] if tuned else {}) == result["options"]
        pool.load("half")
        effective = pool.model("half")["effective_options"]
        assert effective.items() >= {**own, **result["options"]}.items()
        assert pool.chat("half", max_tokens=4).status_code == 200
