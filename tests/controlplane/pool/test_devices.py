"""Devices as the pool knows them: which a name means, what a worker is shown, what is free."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from modelpool.catalog.device_names import chosen
from modelpool.catalog.estimator import Estimator
from modelpool.catalog.model import Model
from modelpool.pool.admission import MB, Budget, Refuse, Requirements, Resident, Start, Wait, plan
from modelpool.pool.capacity import Capacity
from modelpool.pool.devices import Devices, Sighting
from modelpool.pool.usage import pending_on_devices
from modelpool_client.wire import Facts, Phase
from modelpool_worker.devices import report
from modelpool_worker.devices.amd import Amd
from modelpool_worker.devices.nvidia import Nvidia
from support.devices import FakeNvml, amd_tree, recorded

BUDGETS = {"cuda:0": 10, "cuda:1": 20, "rocm:1": 30}
GPU = "cuda:0"


@pytest.fixture
def told(tmp_path: Any) -> dict[str, Any]:
    """Two devices of each of two vendors."""
    return report([Nvidia(FakeNvml(recorded("two_gpus"))), Amd(amd_tree(tmp_path))])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["cuda:1", "cuda:0"], ["cuda:1", "cuda:0"]),
        ([1], ["cuda:1", "rocm:1"]),
        (["1"], ["cuda:1", "rocm:1"]),
        (["GPU-aa"], ["cuda:0"]),
        (["GPU-zz", 7, "cuda:9"], []),
        ([], []),
    ],
)
def test_which_devices_names_mean(names: list[Any], expected: list[str]) -> None:
    assert list(chosen(names, BUDGETS, {"cuda:0": "GPU-aa"})) == expected


def test_what_a_worker_is_shown(told: dict[str, Any]) -> None:
    seen = Sighting.read(told)
    cuda, hip = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"
    by_bus = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert seen.variables(["cuda:1", "cuda:0"]) == {cuda: "GPU-bb,GPU-aa", hip: "-1", **by_bus}
    assert seen.variables(["GPU-aa", 0, "rocm:1"]) == {cuda: "GPU-aa", hip: "0,1", **by_bus}
    assert seen.variables([]) == {cuda: "-1", hip: "-1"}
    assert seen.unknown(["cuda:1", "cuda:2", 5, "GPU-zz"]) == ["cuda:2", 5, "GPU-zz"]


def test_the_last_reading_stays_where_none_can_be_had(told: dict[str, Any]) -> None:
    answers: list[Mapping[str, Any] | None] = [told, None, {"devices": 3}]

    async def ask() -> Mapping[str, Any] | None:
        return answers.pop(0)

    async def main() -> None:
        devices = Devices(ask)
        assert not devices.are_there
        for _ in range(3):
            await devices.refresh()
            assert devices.free()["cuda:0"] == 18874368000
            assert devices.uuids()["rocm:0"] == "GPU-0000000000000002"

    asyncio.run(main())


def test_memory_that_is_the_hosts_is_watched_there() -> None:
    mac = {"id": "metal:0", "vendor": "apple", "name": "M", "is_shared": True, "free_bytes": 5}
    seen = Sighting.read({"devices": [{**mac, "processes": []}], "vendors": []})
    assert seen.free() == {}


# -- admission: what is free now, other programs included ------------------------------------------


def need(size: int) -> Requirements:
    return Requirements("new", MB, {GPU: size * MB})


def budget(limit: int, free: int) -> Budget:
    return Budget(5, 1000 * MB, 1000 * MB, {GPU: limit * MB}, {GPU: free * MB})


def resident(size: int, pending: int = 0, protected: str = "") -> Resident:
    held, due = {GPU: size * MB}, {GPU: pending * MB}
    return Resident("old", MB, (0.0,), protected, devices=held, pending_devices=due)


def test_other_programs_share_of_a_device_counts() -> None:
    assert plan(need(60), [], budget(100, 60)) == Start()
    refused = plan(need(60), [], budget(100, 59))
    assert isinstance(refused, Refuse)
    assert refused.is_passing
    assert "needs 60 MB of cuda:0, but it has 59 MB free" in refused.text
    assert "other programs hold the rest" in refused.text


def test_what_a_victim_holds_is_free_once_it_is_gone() -> None:
    assert plan(need(60), [resident(30)], budget(100, 40)) == Start(("old",))
    assert isinstance(plan(need(60), [resident(30)], budget(100, 20)), Refuse)
    busy = resident(30, protected="busy")
    assert isinstance(plan(need(60), [busy], budget(100, 40)), Wait)


def test_what_is_promised_is_not_given_twice() -> None:
    """It loads: the driver calls all of it free."""
    loading = resident(30, pending=30, protected="warming")
    assert plan(need(60), [loading], budget(100, 90)) == Start()
    assert isinstance(plan(need(60), [loading], budget(100, 89)), Wait)


def test_capacity_says_the_same() -> None:
    held = Capacity.of([resident(30, pending=10)], budget(100, 50))
    assert held.now.devices == {GPU: 40 * MB}
    assert held.after_evictions.devices == {GPU: 70 * MB}
    assert held.could_ever.devices == {GPU: 100 * MB}
    assert held.verdict(need(60)) == "after evictions"
    assert held.verdict(need(75)) == "later" if held.ever.devices[GPU] >= 75 * MB else True
    assert held.verdict(need(101)) == "never"


@pytest.mark.parametrize(
    ("taken", "was_loaded", "expected"),
    [
        ({}, False, {GPU: 10}),
        ({}, True, {}),
        ({GPU: 4}, True, {GPU: 6}),
        ({GPU: 40}, True, {GPU: 0}),
    ],
)
def test_what_is_not_there_yet(
    taken: dict[str, int], was_loaded: bool, expected: dict[str, int]
) -> None:
    facts = Facts("w", "p", 1, 1, Phase.READY, 1, 1, device_memory_bytes=taken)
    assert pending_on_devices({GPU: 10}, facts, was_loaded) == expected


def test_a_model_counts_on_its_own_devices_only() -> None:
    class Limits:
        memory_limit_bytes = 1000
        device_budgets = BUDGETS

    estimator = Estimator(Limits(), uuids=lambda: {"cuda:1": "GPU-bb"})

    def devices(names: tuple[int | str, ...] | None) -> list[str]:
        room = estimator.room(Model("m", "llama.cpp", "/m.gguf", devices=names))
        assert room is not None
        return list(room.machine.devices)

    assert devices(None) == list(BUDGETS)
    assert devices(("GPU-bb", "cuda:0")) == ["cuda:1", "cuda:0"]
    assert devices(()) == []
