"""AMD's devices: read from the files of the driver amdgpu and of its compute part, kfd. No tool of
ROCm is needed.

ROCm numbers devices by the nodes of kfd that compute; where there is no kfd, no program computes
with ROCm, and the cards are told in the order of the bus.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from .base import Device, Sighting
from .pci import has_card, number, text

PCI_VENDOR = "0x1002"
HINT = "install the driver amdgpu with ROCm; in a container, pass /dev/kfd and /dev/dri on"
KFD = "sys/class/kfd/kfd"


class Amd:
    """``root`` is the file system; tests give another."""

    name = "amd"
    variable = "HIP_VISIBLE_DEVICES"
    nothing = "-1"
    more: Mapping[str, str] = {}

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def look(self) -> Sighting:
        """See ``Vendor``."""
        cards = _cards(self._root)
        if not cards:
            if not has_card(self._root, PCI_VENDOR):
                return Sighting(reason="there is no AMD device")
            return Sighting(reason="there is an AMD device, but no driver answers", hint=HINT)
        nodes = _nodes(self._root)
        known = [(node, cards[minor]) for minor, node in nodes.items() if minor in cards]
        if not known:
            known = [("", card) for card in cards.values()]
            reason, hint = "the compute driver kfd is not there: ROCm cannot use it", HINT
        else:
            reason = hint = ""
        devices = (self._device(i, node, card) for i, (node, card) in enumerate(known))
        return Sighting(tuple(devices), reason, hint)

    def _device(self, index: int, node: str, card: Path) -> Device:
        total = number(card / "mem_info_vram_total") or 0
        used = number(card / "mem_info_vram_used")
        unique = text(card / "unique_id")
        return Device(
            f"rocm:{index}",
            self.name,
            text(card / "product_name") or f"AMD {text(card / 'device')}",
            uuid=f"GPU-{unique}" if unique else "",
            handle=str(index),
            total_bytes=total,
            free_bytes=None if used is None else max(0, total - used),
            driver=text(self._root / "sys/module/amdgpu/version"),
            processes=_processes(self._root, node) if node else {},
        )


def _cards(root: Path) -> dict[int, Path]:
    """Cards with memory of their own, by the number of their render node, in the order of the
    bus."""
    found = []
    for card in (root / "sys/class/drm").glob("card[0-9]*"):
        device = card / "device"
        if text(device / "vendor") != PCI_VENDOR or not number(device / "mem_info_vram_total"):
            continue
        for render in (device / "drm").glob("renderD*"):
            minor = int(render.name.removeprefix("renderD"))
            found.append((device.resolve().name, minor, device))
    return {minor: device for _, minor, device in sorted(found)}


def _nodes(root: Path) -> dict[int, str]:
    """Of each node that computes the number of its render node, and its id, in their order."""
    folders = (root / KFD / "topology/nodes").glob("*")
    found: dict[int, str] = {}
    for folder in sorted(folders, key=lambda f: int(f.name) if f.name.isdigit() else 0):
        fields = dict(re.findall(r"(\w+) (\d+)", text(folder / "properties")))
        gpu_id = text(folder / "gpu_id")
        if fields.get("simd_count", "0") != "0" and gpu_id not in ("", "0"):
            found[int(fields.get("drm_render_minor", "0"))] = gpu_id
    return found


def _processes(root: Path, node: str) -> dict[int, int]:
    files = (root / KFD / "proc").glob(f"*/vram_{node}")
    held = {f.parent.name: number(f) for f in files}
    return {int(pid): size for pid, size in held.items() if pid.isdigit() and size}
