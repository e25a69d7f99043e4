"""Slots and context by the memory that there is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.catalog.estimator import Estimator
from modelpool.catalog.fitting import SHARE, fitted
from modelpool.catalog.footprint import estimate_memory_bytes
from modelpool.catalog.model import Model
from modelpool.catalog.model_info import ModelInfo

DEMO = Path(__file__).parents[3] / "configs" / "models" / "pool-demo.gguf"
GB = 10**9
# 7 billion parameters, as Llama 2 had them: no grouped attention, half a megabyte a token.
SEVEN = ModelInfo(
    architecture="llama",
    file_bytes=4 * GB,
    tensor_bytes=4 * GB,
    parameter_count=7 * GB,
    context_length=4096,
    block_count=32,
    embedding_length=4096,
    head_count_kv=32,
    key_length=128,
    value_length=128,
)


@pytest.mark.parametrize(
    ("room", "options", "chosen"),
    [
        (64, {}, {}),
        (32, {}, {"parallel": 4}),
        (18, {}, {"parallel": 2}),
        (14, {}, {"parallel": 1}),
        (7, {}, {"parallel": 1}),
        (6, {}, {"parallel": 1, "context_length": 2048}),
        (5, {}, {"parallel": 1, "context_length": 1024}),
        (1, {}, {"parallel": 1, "context_length": 512}),  # admission says that it cannot fit
        (32, {"parallel": 8}, {}),
        (8, {"parallel": 2}, {"context_length": 2048}),
        (14, {"context_length": 4096}, {"parallel": 1}),
        (1, {"context_length": 4096, "parallel": 8}, {}),
        (32, {"cache_type_k": "q8_0", "cache_type_v": "q8_0"}, {}),
    ],
)
def test_what_is_chosen(room: int, options: dict[str, Any], chosen: dict[str, Any]) -> None:
    assert fitted(SEVEN, options, room * GB) == {**options, **chosen}


@given(
    st.integers(0, 64 * GB),
    st.fixed_dictionaries(
        {},
        optional={
            "parallel": st.integers(1, 64),
            "context_length": st.integers(16, 1 << 17),
            "threads": st.integers(1, 8),
        },
    ),
)
def test_it_fits_or_is_the_least_and_nothing_declared_is_changed(
    room: int, options: dict[str, Any]
) -> None:
    chosen = fitted(SEVEN, options, room)
    assert {**chosen, **options} == chosen
    size = estimate_memory_bytes(SEVEN, chosen)
    least = fitted(SEVEN, options, 0)
    assert size <= room or chosen in (least, options)
    if chosen.get("parallel", 8) > 1 and "parallel" not in options:
        assert size <= room * SHARE
    more = fitted(SEVEN, options, room + GB)
    assert estimate_memory_bytes(SEVEN, more) >= size, "more room is never worse"


def test_what_is_reserved_is_for_what_is_started() -> None:
    model = Model("m", "llama.cpp", str(DEMO))
    limits = SimpleNamespace(device_budgets={}, memory_limit_bytes=140_000_000)
    estimator = Estimator(limits)
    assert estimator.effective(model) is model, "nothing was read yet"
    asyncio.run(estimator.describe(model))
    started = estimator.effective(model)
    assert started.options == {"parallel": 1}
    assert estimator.effective(started) == started
    assert estimator.host_memory(model) == estimator.host_memory(started)
    assert estimator.host_memory(model).reserved <= 140_000_000
    limits.memory_limit_bytes = 10**12
    assert estimator.effective(model) is model
    declared = Model("m", "llama.cpp", str(DEMO), memory_mb=1)
    limits.memory_limit_bytes = 1
    assert estimator.effective(declared) is declared, "its owner knows better"
