"""The contract of a vendor: what it says of the devices of this machine. PURE.

A vendor is asked, it never computes: to look at a device makes no context on it and takes none of
its memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Device:
    """A device at one moment.

    Attributes:
        id: ``cuda:0``, ``rocm:1``, ``metal:0``: by the order in which the vendor numbers them.
        uuid: the vendor's own name of just this device, which no order changes; may be empty.
        handle: what the vendor's variable takes to let a process see it, see ``Vendor``.
        total_bytes: what it has.
        free_bytes: what nobody holds now; None where it is not told.
        is_shared: its memory is the host's (Apple silicon).
        processes: bytes by pid; without those whose share the driver does not tell.
    """

    id: str
    vendor: str
    name: str
    uuid: str = ""
    handle: str = ""
    total_bytes: int = 0
    free_bytes: int | None = None
    is_shared: bool = False
    driver: str = ""
    processes: Mapping[int, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; a process is ``{"pid", "bytes"}``, largest first."""
        held = sorted(self.processes.items(), key=lambda item: -item[1])
        return {
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "processes": [{"pid": pid, "bytes": size} for pid, size in held],
        }


@dataclass(frozen=True)
class Sighting:
    """What a vendor sees. ``reason`` says why that is nothing, or less than it should be, and
    ``hint`` what would help; both may be empty."""

    devices: tuple[Device, ...] = ()
    reason: str = ""
    hint: str = ""


class Vendor(Protocol):
    """Whoever makes devices.

    Attributes:
        variable: of the environment; it holds the ``handle`` of each device that a process is to
            see, with commas between them, or ``nothing``.
        more: variables that have to be set beside it.
    """

    name: str
    variable: str
    nothing: str
    more: Mapping[str, str]

    def look(self) -> Sighting:
        """Look now. Never raises for what a machine may be like."""
        ...
