"""Machines with devices that are not there: drivers' libraries, tools and files made of records."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

MACHINES = Path(__file__).parent / "machines"
GIB = 1 << 30


def recorded(name: str) -> dict[str, Any]:
    """A machine as ``scripts/check_gpu`` writes it down."""
    found: dict[str, Any] = json.loads((MACHINES / f"{name}.json").read_text())
    return found


class FakeNvml:
    """The module pynvml on a recorded machine. ``error``: what its init fails with."""

    class NVMLError(Exception):
        pass

    def __init__(self, machine: Mapping[str, Any], error: str = "", tells: bool = True) -> None:
        self._machine = machine
        self._error = error
        self._tells = tells
        self.open = 0

    def nvmlInit(self) -> None:
        if self._error:
            raise self.NVMLError(self._error)
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> bytes:  # as older versions of the package
        return str(self._machine["driver"]).encode()

    def nvmlDeviceGetCount(self) -> int:
        return len(self._machine["devices"])

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        return self._machine["devices"][index]

    def nvmlDeviceGetName(self, handle: Any) -> str:
        return str(handle["name"])

    def nvmlDeviceGetUUID(self, handle: Any) -> str:
        return str(handle["uuid"])

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:
        return SimpleNamespace(total=handle["total_bytes"], free=handle["free_bytes"])

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Any) -> list[Any]:
        held = [*handle["processes"], {"pid": 13, "bytes": None}]
        return [SimpleNamespace(pid=p["pid"], usedGpuMemory=p["bytes"]) for p in held]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: Any) -> list[Any]:
        if not self._tells:
            raise self.NVMLError("Not Supported")
        return self.nvmlDeviceGetComputeRunningProcesses(handle)[:1]


def nvidia_smi(machine: Mapping[str, Any], **instead: str) -> Callable[[Sequence[str]], str]:
    """The tool on a recorded machine; ``instead``: other answers to queries for gpus or apps."""

    def ask(command: Sequence[str]) -> str:
        tool, query, form = command
        assert (tool, form) == ("nvidia-smi", "--format=csv,noheader,nounits")
        kind = "gpus" if query.startswith("--query-gpu=") else "apps"
        return instead.get(kind, machine["nvidia_smi"][query])

    return ask


def amd_tree(root: Path, *, kfd: bool = True) -> Path:
    """Files of the kernel for two cards by AMD, of which kfd numbers the second first, and one
    that only shows pictures. Made up from the kernel's documents."""
    cards = (("0000:03:00.0", 128, 16), ("0000:43:00.0", 129, 24))
    for n, (bus, minor, size) in enumerate(cards, start=1):
        device = root / "sys/devices" / bus
        write(device / "vendor", "0x1002")
        write(device / "class", "0x030000")
        write(device / "device", "0x744c")
        write(device / "unique_id", f"{n:016x}")
        write(device / "mem_info_vram_total", str(size * GIB))
        write(device / "mem_info_vram_used", str(n * GIB))
        (device / "drm" / f"renderD{minor}").mkdir(parents=True)
        link(root / f"sys/class/drm/card{n}/device", device)
        link(root / "sys/bus/pci/devices" / bus, device)
    write(root / "sys/class/drm/card0/device/vendor", "0x1a03")
    write(root / "sys/class/drm/card1-DP-1/status", "connected")
    if kfd:
        nodes = root / "sys/class/kfd/kfd/topology/nodes"
        for n, (simds, minor, gpu_id) in enumerate(((0, 0, 0), (384, 129, 777), (256, 128, 555))):
            write(nodes / str(n) / "properties", f"simd_count {simds}\ndrm_render_minor {minor}\n")
            write(nodes / str(n) / "gpu_id", str(gpu_id))
        write(root / "sys/class/kfd/kfd/proc/41/vram_777", str(3 * GIB))
        write(root / "sys/class/kfd/kfd/proc/41/vram_555", "0")
        write(root / "sys/class/kfd/kfd/proc/42/vram_555", str(GIB))
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
