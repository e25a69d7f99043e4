"""Slots and context by the memory that there is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.catalog.estimator import Estimator, this_processor
from modelpool.catalog.fitting import SHARE, Room, fitted, largest_context
from modelpool.catalog.footprint import Machine, footprint_of
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


def needs(options: Mapping[str, Any]) -> int:
    return footprint_of(SEVEN, options).host


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
    assert fitted(SEVEN, options, Room(room * GB)) == {**options, **chosen}


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
    chosen = fitted(SEVEN, options, Room(room))
    assert {**chosen, **options} == chosen
    size = needs(chosen)
    least = fitted(SEVEN, options, Room(0))
    assert size <= room or chosen in (least, options)
    if chosen.get("parallel", 8) > 1 and "parallel" not in options:
        assert size <= room * SHARE
    more = fitted(SEVEN, options, Room(room + GB))
    assert needs(more) >= size, "more room is never worse"


@pytest.mark.parametrize(
    ("host", "devices", "options", "chosen"),
    [
        (1, (64,), {}, {}),
        (1, (16, 16), {}, {"parallel": 4, "tensor_split": [15_700, 15_700]}),
        (1, (12, 24), {}, {"parallel": 4, "tensor_split": [11_700, 23_700]}),
        (64, (16, 16), {"tensor_split": [1, 3]}, {"parallel": 2}),
        (64, (16, 16), {"gpu_layers": 0}, {}),
        # One that is full gets nothing, and is not in the way of the other.
        (1, (0.25, 64), {}, {"tensor_split": [0, 63_700]}),
        (1, (64, 0.35), {}, {"tensor_split": [63_700, 0]}),
        # None is of any use: as if there were none.
        (64, (0.25,), {}, {"gpu_layers": 0}),
        (32, (0.25, 0.2), {}, {"gpu_layers": 0, "parallel": 4}),
        (1, (8,), {}, {"parallel": 1}),
        # 4 of 7 GB, and the rest on the host.
        (8, (4,), {}, {"parallel": 1, "gpu_layers": 19}),
        (8, (4,), {"parallel": 2}, {"gpu_layers": 14}),
        # The whole does not fit anywhere.
        (1, (4,), {}, {"parallel": 1, "context_length": 512, "gpu_layers": 27}),
        (64, (4,), {"gpu_layers": 0}, {}),
        (64, (4,), {"gpu_layers": 4}, {"parallel": 4}),
    ],
)
def test_what_is_chosen_with_devices(
    host: int, devices: tuple[float, ...], options: dict[str, Any], chosen: dict[str, Any]
) -> None:
    budgets = {f"cuda:{n}": int(size * GB) for n, size in enumerate(devices)}
    room = Room(host * GB, Machine(devices=budgets))
    assert fitted(SEVEN, options, room) == {**options, **chosen}


@given(st.integers(0, 32 * GB), st.lists(st.integers(0, 16 * GB), min_size=1, max_size=3))
def test_layers_are_given_to_no_device_that_has_no_room(host: int, sizes: list[int]) -> None:
    budgets = {f"cuda:{n}": size for n, size in enumerate(sizes)}
    machine = Machine(devices=budgets)
    chosen = fitted(SEVEN, {}, Room(host, machine))
    found = footprint_of(SEVEN, chosen, machine)
    if "gpu_layers" in chosen:
        assert all(size <= budgets[device] for device, size in found.devices.items())
    assert found.fits({"host": host, **budgets}) or chosen["context_length"] == 512


@given(
    st.integers(0, 32 * GB),
    st.integers(1, 8),
    st.sampled_from([{}, {"cache_type_k": "q8_0", "cache_type_v": "q8_0"}]),
)
def test_the_largest_context_fits_and_a_larger_one_does_not(
    size: int, parallel: int, types: dict[str, str]
) -> None:
    room, options = Room(size), {"parallel": parallel, **types}
    most = largest_context(SEVEN, options, room)
    if most is not None:
        assert needs({**options, "context_length": most}) <= size
        assert most <= 4096
    if most != 4096:
        assert needs({**options, "context_length": (most or 0) + 256}) > size


def test_what_is_reserved_is_for_what_is_started() -> None:
    model = Model("m", "llama.cpp", str(DEMO))
    limits = SimpleNamespace(device_budgets={}, memory_limit_bytes=0)
    estimator = Estimator(limits)
    assert estimator.effective(model) is model, "nothing was read yet"
    asyncio.run(estimator.describe(model))
    reading = estimator.reading(model)
    assert reading is not None
    assert reading.info is not None
    least = footprint_of(reading.info, {"parallel": 1}, Machine(this_processor())).host
    limits.memory_limit_bytes = least
    started = estimator.effective(model)
    assert started.options == {"parallel": 1}
    assert estimator.effective(started) == started
    assert estimator.host_memory(model) == estimator.host_memory(started)
    assert estimator.host_memory(model).reserved == least
    limits.memory_limit_bytes = 10**12
    assert estimator.effective(model) is model
    declared = Model("m", "llama.cpp", str(DEMO), memory_mb=1)
    limits.memory_limit_bytes = 1
    assert estimator.effective(declared) is declared, "its owner knows better"
