"""What vendors say of devices. No real one was there: records that are made up, and say so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from modelpool_worker.devices import report, used_by
from modelpool_worker.devices.amd import Amd
from modelpool_worker.devices.apple import Apple
from modelpool_worker.devices.nvidia import Nvidia
from support.devices import GIB, FakeNvml, amd_tree, nvidia_smi, recorded, write

MIB = 1 << 20
TWO = recorded("two_gpus")
BY_LIBRARY = Nvidia(FakeNvml(TWO))
BY_TOOL = Nvidia(None, nvidia_smi(TWO))


@pytest.mark.parametrize("nvidia", [BY_LIBRARY, BY_TOOL], ids=["library", "tool"])
def test_nvidia(nvidia: Nvidia) -> None:
    first, second = nvidia.look().devices
    assert (first.id, first.uuid, first.handle) == ("cuda:0", "GPU-aa", "GPU-aa")
    assert (first.name, first.driver) == ("NVIDIA Made Up 24", "570.00")
    assert (first.total_bytes, first.free_bytes) == (24564 * MIB, 18000 * MIB)
    assert (second.id, second.free_bytes) == ("cuda:1", 24494 * MIB)
    assert second.processes == {12: 50 * MIB, 11: 20 * MIB}


@pytest.mark.parametrize("nvidia", [BY_LIBRARY, BY_TOOL], ids=["library", "tool"])
def test_what_processes_hold(nvidia: Nvidia) -> None:
    assert used_by([11, 12, 13], [nvidia]) == {"cuda:0": 700 * MIB, "cuda:1": 70 * MIB}
    assert used_by([12], [nvidia]) == {"cuda:1": 50 * MIB}
    assert used_by([1], [nvidia]) == {}


def test_the_library_is_let_go_of() -> None:
    nvml = FakeNvml(TWO, tells=False)
    assert len(Nvidia(nvml).look().devices) == 2
    assert nvml.open == 0


def test_where_the_library_fails_the_tool_is_asked() -> None:
    found = Nvidia(FakeNvml(TWO, "Driver/library version mismatch"), nvidia_smi(TWO)).look()
    assert [d.id for d in found.devices] == ["cuda:0", "cuda:1"]
    assert "version mismatch" in found.reason


@pytest.mark.parametrize("apps", ["", "No running processes found\n", "1,2\n", "11, GPU-zz, 7\n"])
def test_a_tool_that_tells_nothing_of_processes(apps: str) -> None:
    nvidia = Nvidia(None, nvidia_smi(TWO, apps=apps))
    assert used_by([11], [nvidia]) == {}
    assert len(nvidia.look().devices) == 2


def test_sizes_that_are_not_told() -> None:
    gpus = "0, GPU-aa, GB10, [N/A], [N/A], 580.1\n"
    (device,) = Nvidia(None, nvidia_smi(TWO, gpus=gpus)).look().devices
    assert (device.total_bytes, device.free_bytes) == (0, None)


def test_a_card_without_a_driver_is_told_from_no_card(tmp_path: Path) -> None:
    silent = nvidia_smi(TWO, gpus="")
    nothing = Nvidia(None, silent, tmp_path).look()
    assert (nothing.devices, nothing.reason, nothing.hint) == ((), "there is no NVIDIA device", "")
    write(tmp_path / "sys/bus/pci/devices/0000:01:00.0/class", "0x030200")
    write(tmp_path / "sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de")
    there = Nvidia(FakeNvml(TWO, "Driver Not Loaded"), silent, tmp_path).look()
    assert "no driver answers (NVML: Driver Not Loaded)" in there.reason
    assert "--gpus all" in there.hint


def test_amd_in_the_order_of_its_compute_driver(tmp_path: Path) -> None:
    amd = Amd(amd_tree(tmp_path))
    first, second = amd.look().devices
    assert (first.id, first.handle, first.uuid) == ("rocm:0", "0", "GPU-0000000000000002")
    assert (first.total_bytes, first.free_bytes) == (24 * GIB, 22 * GIB)
    assert (second.total_bytes, second.free_bytes) == (16 * GIB, 15 * GIB)
    assert used_by([41, 42], [amd]) == {"rocm:0": 3 * GIB, "rocm:1": GIB}


def test_amd_without_its_compute_driver(tmp_path: Path) -> None:
    found = Amd(amd_tree(tmp_path, kfd=False)).look()
    assert [d.total_bytes for d in found.devices] == [16 * GIB, 24 * GIB]
    assert "kfd is not there" in found.reason
    assert "/dev/kfd" in found.hint


def test_amd_without_any_driver(tmp_path: Path) -> None:
    assert Amd(tmp_path).look().reason == "there is no AMD device"
    write(tmp_path / "sys/bus/pci/devices/0000:01:00.0/class", "0x120000")
    write(tmp_path / "sys/bus/pci/devices/0000:01:00.0/vendor", "0x1002")
    assert "no driver answers" in Amd(tmp_path).look().reason


@pytest.mark.parametrize(
    ("said", "total"),
    [
        ({"hw.memsize": str(16 * GIB)}, 16 * GIB * 2 // 3),
        ({"hw.memsize": str(128 * GIB)}, 96 * GIB),
        ({"hw.memsize": str(128 * GIB), "iogpu.wired_limit_mb": "120000"}, 120_000 * MIB),
    ],
)
def test_apple(said: dict[str, str], total: int) -> None:
    (device,) = (
        Apple(lambda name: said.get(name, ""), lambda: 9 * GIB, "darwin arm64").look().devices
    )
    assert (device.id, device.is_shared, device.total_bytes) == ("metal:0", True, total)
    assert device.free_bytes == min(9 * GIB, total)


def test_apple_elsewhere() -> None:
    assert Apple(machine="linux x86_64").look().reason == "this is no Mac with Apple silicon"
    assert "does not tell" in Apple(lambda name: "", machine="darwin arm64").look().reason


def test_the_report_is_plain_json(tmp_path: Path) -> None:
    told = json.loads(json.dumps(report([BY_LIBRARY, Amd(tmp_path)])))
    assert told["devices"][0]["processes"][0] == {"pid": 99, "bytes": 5000 * MIB}
    assert [v["variable"] for v in told["vendors"]] == [
        "CUDA_VISIBLE_DEVICES",
        "HIP_VISIBLE_DEVICES",
    ]
    assert told["vendors"][1]["reason"] == "there is no AMD device"


@pytest.mark.parametrize(("pids", "keys"), [([], {"devices", "vendors"}), ([os.getpid()], set())])
def test_the_subcommand(pids: list[int], keys: set[str]) -> None:
    command = [sys.executable, "-m", "modelpool_worker", "devices", *map(str, pids)]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(told.stdout)
    assert found.keys() >= keys
