"""The devices of this machine, as a worker process sees them: the pool itself never opens one.

Read in a process of its own and remembered for those on the loop, as the host's memory is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelpool.catalog.device_names import Name, is_meant

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "modelpool_worker", "devices")
# A driver that wakes its devices up takes seconds; one that hangs is not waited for.
ASK_SECONDS = 15.0
KILL_SECONDS = 1.0


@dataclass(frozen=True)
class Device:
    """A device at the last reading; see the worker's ``devices.base``. ``processes`` are bytes by
    pid, where the driver tells them."""

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

    def is_meant(self, name: Name) -> bool:
        """Whether that is a name of it."""
        return is_meant(name, self.id, self.uuid)


@dataclass(frozen=True)
class Vendor:
    """How processes are shown some of a vendor's devices, and why it has none here."""

    name: str
    variable: str = ""
    nothing: str = ""
    more: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Sighting:
    """All devices at one moment."""

    devices: tuple[Device, ...] = ()
    vendors: tuple[Vendor, ...] = ()

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Sighting:
        """Of what the worker program writes.

        Raises:
            KeyError, TypeError, ValueError: it is nothing of that kind.
        """
        devices = tuple(
            Device(**{**d, "processes": {int(p["pid"]): int(p["bytes"]) for p in d["processes"]}})
            for d in told["devices"]
        )
        return cls(devices, tuple(Vendor(**v) for v in told["vendors"]))

    def uuids(self) -> Mapping[str, str]:
        """By id."""
        return {d.id: d.uuid for d in self.devices if d.uuid}

    def free(self) -> Mapping[str, int]:
        """Bytes that nobody holds, by id; without devices that do not tell, and those whose memory
        is the host's, which is watched there."""
        return {
            d.id: d.free_bytes for d in self.devices if d.free_bytes is not None and not d.is_shared
        }

    def unknown(self, names: Iterable[Name]) -> list[Name]:
        """Those that are names of none."""
        return [name for name in names if not any(d.is_meant(name) for d in self.devices)]

    def variables(self, names: Sequence[Name]) -> dict[str, str]:
        """The environment of a process that is to see just these, in that order; of none, none."""
        found: dict[str, str] = {}
        for vendor in self.vendors:
            if not vendor.variable:
                continue
            own = [d for d in self.devices if d.vendor == vendor.name]
            seen = [d.handle for name in names for d in own if d.is_meant(name)]
            found[vendor.variable] = ",".join(dict.fromkeys(seen)) or vendor.nothing
            found |= vendor.more if seen else {}
        return found


Ask = Callable[[], Awaitable[Mapping[str, Any] | None]]


class Devices:
    """The last reading. Nothing is seen until ``refresh`` was awaited once."""

    def __init__(self, ask: Ask | None = None) -> None:
        self._ask = ask if ask is not None else _asked
        self._reading: asyncio.Task[None] | None = None
        self.now = Sighting()

    def __repr__(self) -> str:
        return f"<Devices: {', '.join(d.id for d in self.now.devices) or 'none'}>"

    def free(self) -> Mapping[str, int]:
        """Bytes that nobody holds at the last reading, by device."""
        return self.now.free()

    def uuids(self) -> Mapping[str, str]:
        """By device."""
        return self.now.uuids()

    @property
    def are_there(self) -> bool:
        """Whether any was seen: where there is none, none will come."""
        return bool(self.now.devices)

    async def refresh(self) -> Sighting:
        """Read again; where that cannot be done the last reading stays. All who ask share one."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read())
            self._reading.add_done_callback(self._over)
        await asyncio.shield(self._reading)
        return self.now

    async def close(self) -> None:
        """Wait no more for a reading that is under way."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        told = await self._ask()
        try:
            self.now = Sighting.read(told) if told is not None else self.now
        except (KeyError, TypeError, ValueError) as e:
            log.error("what a worker says of the devices cannot be read: %r", e)

    def _over(self, _: asyncio.Task[None]) -> None:
        self._reading = None


async def _asked() -> Mapping[str, Any] | None:
    """None where the worker program says nothing, or nothing in time."""
    quiet = asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, stdin=quiet, stdout=asyncio.subprocess.PIPE, stderr=quiet
        )
    except OSError as e:
        log.error("nobody could be asked for the devices: %s", e)
        return None
    try:
        async with asyncio.timeout(ASK_SECONDS):
            out, _ = await process.communicate()
        found: Mapping[str, Any] = json.loads(out)
        return found
    except TimeoutError:
        log.error("the devices could not be seen within %g s: a driver hangs", ASK_SECONDS)
    except ValueError:
        log.error("a worker said nothing sensible of the devices")
    finally:
        if process.returncode is None:
            process.kill()
            with contextlib.suppress(TimeoutError):  # it may be stuck in the driver
                async with asyncio.timeout(KILL_SECONDS):
                    await process.wait()
    return None
