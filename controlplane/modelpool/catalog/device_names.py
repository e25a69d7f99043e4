"""How devices are named, and which of them a model may use. PURE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# A number, an id or a UUID, as a model's ``devices`` name them.
Name = int | str


def is_meant(name: Name, device_id: str, uuid: str = "") -> bool:
    """Whether that names the device: ``1`` is ``cuda:1`` and ``rocm:1``."""
    if name == device_id or (uuid and name == uuid):
        return True
    return str(name) == device_id.partition(":")[2]


def chosen(
    names: Sequence[Name], budgets: Mapping[str, int], uuids: Mapping[str, str]
) -> dict[str, int]:
    """Of the budgets, in bytes by the ids of devices, those of the named ones, in that order.
    ``uuids`` are those of the devices that are seen, by id."""
    return {
        device: size
        for name in names
        for device, size in budgets.items()
        if is_meant(name, device, uuids.get(device, ""))
    }
