"""The devices of this machine: named and counted here, and nowhere else.

The control plane asks by ``python -m modelpool_worker devices``: with pids for the bytes that these
hold of each device, as ``{"cuda:0": …}``, without for all that is to be said of the devices.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .amd import Amd
from .apple import Apple
from .base import Device, Sighting, Vendor
from .nvidia import Nvidia

__all__ = ["Device", "Sighting", "Vendor", "report", "tell", "used_by", "vendors"]


def vendors() -> tuple[Vendor, ...]:
    """Everybody who may have devices here."""
    return (Nvidia(), Amd(), Apple())


def used_by(pids: Iterable[int], asked: Sequence[Vendor] | None = None) -> Mapping[str, int]:
    """Bytes that the processes hold of each device of which they hold any. Nothing where that is
    not known: memory that is the host's (Apple) counts there, and in most containers processes have
    other numbers than the driver's."""
    wanted, used = set(pids), Counter[str]()
    for vendor in vendors() if asked is None else asked:
        for device in vendor.look().devices:
            used[device.id] += sum(size for pid, size in device.processes.items() if pid in wanted)
    return {device: size for device, size in used.items() if size}


def report(asked: Sequence[Vendor] | None = None) -> dict[str, Any]:
    """All that is seen: ``devices`` and, for each vendor under ``vendors``, what lets a process see
    some of its devices only, and why there are none."""
    found = [(vendor, vendor.look()) for vendor in (vendors() if asked is None else asked)]
    return {
        "devices": [d.as_dict() for _, sighting in found for d in sighting.devices],
        "vendors": [
            {
                "name": vendor.name,
                "variable": vendor.variable,
                "nothing": vendor.nothing,
                "more": dict(vendor.more),
                "reason": sighting.reason,
                "hint": sighting.hint,
            }
            for vendor, sighting in found
        ],
    }


def tell(arguments: list[str]) -> int:
    """The subcommand ``devices``."""
    pids = [int(pid) for pid in arguments if pid.isdigit()]
    print(json.dumps(dict(used_by(pids)) if pids else report()))
    return 0
