"""What files let expect against what real workers take: the error in the table is printed."""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.helpers import until
from e2e.support import PoolProcess

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc"),
    pytest.mark.skipif(not importlib.util.find_spec("xllamacpp"), reason="needs xllamacpp"),
]

MAKE = Path(__file__).parents[2] / "scripts" / "make_bench_gguf.py"
# Never too little by more, nor too much.
SHORT, OVER = 0.03, 0.10
CONTEXTS = (512, 4096, 8192)
CACHE_TYPES = ("f16", "q8_0")
# More than a batch of tokens, and fewer than the shortest context.
PROMPT = "the pool is full of models " * 12
# A peak that is the same after so many beats is the last.
SAME, BEAT_SECONDS = 4, 0.5


@pytest.fixture(scope="module", params=["q4_0", "q8_0"])
def weights(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Half a billion parameters; of the one type llama.cpp makes copies, of the other not."""
    path = tmp_path_factory.mktemp("weights") / f"{request.param}.gguf"
    subprocess.run([sys.executable, str(MAKE), str(path), "--type", request.param], check=True)
    yield path
    path.unlink()


def test_estimate_and_peak(weights: Path, make_pool: Callable[..., PoolProcess]) -> None:
    cases = list(itertools.product(CONTEXTS, CACHE_TYPES, (True, False)))
    pool = make_pool(*(_model(weights, *c) for c in cases), beat_seconds=BEAT_SECONDS)
    errors: dict[tuple[int, str, bool], float] = {}
    print(
        f"\n{'weights':8}{'context':>8} {'cache':6}{'mmap':6}{'estimate':>9}{'peak':>7} MB  error"
    )
    for case in cases:
        name = _name(*case)
        estimate = pool.model(name)["memory"]["estimated_mb"]
        pool.load(name)
        pool.ask(name, PROMPT, max_tokens=4)
        peak = _peak(pool, name)
        answer = pool.http.post(f"/models/{name}/unload?wait=30", json={"force": True})
        assert answer.status_code == 200, answer.text
        errors[case] = estimate / peak - 1
        context, cache, mmap = case
        print(
            f"{weights.stem:8}{context:8} {cache:6}{mmap!s:6}{estimate:9.1f}{peak:7.1f}    "
            f"{errors[case]:+.1%}"
        )
    assert {case: e for case, e in errors.items() if not -SHORT <= e <= OVER} == {}


def _name(context: int, cache: str, mmap: bool) -> str:
    return f"c{context}-{cache}-{'mapped' if mmap else 'read'}"


def _model(weights: Path, context: int, cache: str, mmap: bool) -> dict[str, Any]:
    options = {
        "context_length": context,
        "parallel": 1,
        "threads": 2,
        "cache_type_k": cache,
        "cache_type_v": cache,
        "mmap": mmap,
        "prompt_cache": False,
    }
    name = _name(context, cache, mmap)
    return {"model_id": name, "source": str(weights), "options": options}


def _peak(pool: PoolProcess, name: str) -> float:
    """MB, once it no longer grows: it is measured with every beat."""
    until(lambda: pool.model(name)["requests_total"], f"{name} to tell of its request")
    seen: list[float] = []
    while len(seen) < SAME or len(set(seen[-SAME:])) > 1:
        time.sleep(BEAT_SECONDS)
        seen.append(pool.model(name)["memory"]["current_peak_mb"])
        assert len(seen) < 20 * SAME, f"the peak of {name} never settles: {seen}"
    return seen[-1]
