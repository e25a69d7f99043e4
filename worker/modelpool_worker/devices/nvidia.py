"""NVIDIA's devices: asked of the driver's library (NVML, by the package nvidia-ml-py), or of
nvidia-smi where that package is not installed.

Both number devices by their place on the bus, CUDA the fastest first: who is to see some of them is
told their UUIDs. In a container, processes may have other numbers than the driver's; then the
shares of processes cannot be told, and nothing is said of them.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from .base import Device, Sighting
from .pci import has_card

TOOL = "nvidia-smi"
TOOL_SECONDS = 5.0
MIB = 1 << 20
PCI_VENDOR = "0x10de"
HINT = "install NVIDIA's driver; in a container, start it with its GPUs (--gpus all)"

Ask = Callable[[Sequence[str]], str]
_GPUS = "--query-gpu=index,uuid,name,memory.total,memory.free,driver_version"
_APPS = "--query-compute-apps=pid,gpu_uuid,used_memory"


class Nvidia:
    """``library`` is the module pynvml, ``ask`` runs nvidia-smi, ``root`` is the file system: tests
    give others. ``library`` None: there is none."""

    name = "nvidia"
    variable = "CUDA_VISIBLE_DEVICES"
    nothing = "-1"
    more: Mapping[str, str] = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}

    def __init__(
        self, library: Any = "pynvml", ask: Ask | None = None, root: Path = Path("/")
    ) -> None:
        self._library = _imported(library) if isinstance(library, str) else library
        self._ask = ask if ask is not None else _run
        self._root = root

    def look(self) -> Sighting:
        """See ``Vendor``."""
        problem = ""
        if self._library is not None:
            try:
                return Sighting(tuple(_by_library(self._library)))
            except Exception as e:  # a driver that is not there, or of another version
                problem = f"NVML: {e}"
        devices = tuple(_by_tool(self._ask))
        if devices:
            return Sighting(devices, problem)
        if not has_card(self._root, PCI_VENDOR):
            return Sighting(reason="there is no NVIDIA device")
        said = problem or f"{TOOL} says nothing"
        reason = f"there is an NVIDIA device, but no driver answers ({said})"
        return Sighting(reason=reason, hint=HINT)


def queries() -> dict[str, str]:
    """What nvidia-smi says to each query that is asked of it; to keep a record of a machine."""
    return {query: _run(_command(query)) for query in (_GPUS, _APPS)}


def _imported(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


def _by_library(nvml: Any) -> Iterator[Device]:
    nvml.nvmlInit()
    try:
        driver = _text(nvml.nvmlSystemGetDriverVersion())
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            uuid = _text(nvml.nvmlDeviceGetUUID(handle))
            yield Device(
                f"cuda:{index}",
                Nvidia.name,
                _text(nvml.nvmlDeviceGetName(handle)),
                uuid,
                handle=uuid,
                total_bytes=int(memory.total),
                free_bytes=int(memory.free),
                driver=driver,
                processes=_processes(nvml, handle),
            )
    finally:
        nvml.nvmlShutdown()


def _processes(nvml: Any, handle: Any) -> dict[int, int]:
    found: dict[int, int] = {}
    for kind in ("Compute", "Graphics"):
        with contextlib.suppress(nvml.NVMLError):  # the driver does not tell it of every device
            for process in getattr(nvml, f"nvmlDeviceGet{kind}RunningProcesses")(handle):
                if process.usedGpuMemory is not None:  # one that does both is in both lists
                    found[int(process.pid)] = int(process.usedGpuMemory)
    return found


def _text(value: Any) -> str:
    """Older versions of the package give bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _by_tool(ask: Ask) -> Iterator[Device]:
    gpus = [row for row in _rows(ask, _GPUS) if row[0].isdigit()]
    apps = list(_rows(ask, _APPS)) if gpus else []
    for index, uuid, name, total, free, driver in gpus:
        # A size may be "[N/A]" where the driver does not tell.
        held = {
            int(pid): int(size) * MIB
            for pid, where, size in apps
            if where == uuid and pid.isdigit() and size.isdigit()
        }
        yield Device(
            f"cuda:{index}",
            Nvidia.name,
            name,
            uuid,
            handle=uuid,
            total_bytes=int(total) * MIB if total.isdigit() else 0,
            free_bytes=int(free) * MIB if free.isdigit() else None,
            driver=driver,
            processes=held,
        )


def _rows(ask: Ask, query: str) -> list[list[str]]:
    count = query.count(",") + 1
    lines = ask(_command(query)).splitlines()
    rows = [[word.strip() for word in line.split(",")] for line in lines]
    return [row for row in rows if len(row) == count]


def _command(query: str) -> list[str]:
    return [TOOL, query, "--format=csv,noheader,nounits"]


def _run(command: Sequence[str]) -> str:
    if shutil.which(command[0]) is None:
        return ""
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return told.stdout if told.returncode == 0 else ""
