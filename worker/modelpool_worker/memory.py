"""What the processes of a worker take of the machine's memory, measured in a thread.

Proportional set size (PSS): a page that several processes map, as those of a model's file, counts
once in the sum over them. What is swapped out counts as if it were not.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from . import devices
from .link import Held
from .proc import descendants, fields_of, read, resident_bytes

PS_SECONDS = 5.0
KIB = 1024


@dataclass(frozen=True)
class Share:
    """Bytes that a process takes. ``held`` of them come back only with its end; the rest are pages
    of files, which the kernel may drop and read again."""

    total: int
    held: int

    def __add__(self, other: Share) -> Share:
        return Share(self.total + other.total, self.held + other.held)


@dataclass(frozen=True)
class Measured:
    """``peak`` is the largest total so far; ``devices`` are bytes on each device, by its id;
    ``requests`` had been answered before."""

    total: int
    held: int
    peak: int
    devices: Mapping[str, int] = field(default_factory=dict)
    requests: int = 0


class MemoryMeter:
    """Measures a worker when it is told to; ``latest`` is None until then, or where it cannot.

    ``answered`` counts the worker's requests; ``ask_held`` tells what processes that are not the
    worker's hold for it, which counts as its.

    Attributes:
        counts_peak: what is measured may be the most that it needs.
    """

    def __init__(
        self,
        engine_pid: int | None,
        ask_devices: Callable[[Iterable[int]], Mapping[str, int]] = devices.used_by,
        ask_held: Callable[[], Awaitable[Held]] | None = None,
        answered: Callable[[], int] = lambda: 0,
    ) -> None:
        self.latest: Measured | None = None
        self.counts_peak = True
        self._engine_pid = engine_pid
        self._ask_devices = ask_devices
        self._ask_held = ask_held
        self._answered = answered
        self._pids: list[int] = []  # of the last look

    def resident(self) -> int | None:
        """Bytes now, with pages that processes share counted for each of them; None where that is
        not known. To look who is below an engine of eighty threads takes a millisecond or two, so
        whoever has started one since the last look is left out until the next."""
        sizes = [resident_bytes(pid) for pid in self._pids]
        if not sizes or None in sizes:
            self._pids = self._processes()
            sizes = [resident_bytes(pid) for pid in self._pids]
        known = [size for size in sizes if size is not None]
        return sum(known) if known else None

    async def measure(self) -> None:
        """Walking the pages of a large process takes tens of milliseconds: not on the loop."""
        requests, counts_peak = self._answered(), self.counts_peak
        self._pids, found = await asyncio.to_thread(self._measure)
        if found is not None and self._ask_held is not None:
            found = _with(found, await self._ask_held())
        if found is not None:  # of two at a time neither forgets what the other saw
            before = self.latest.peak if self.latest is not None else 0
            peak = max(found.peak, before) if counts_peak or not before else before
            self.latest = replace(found, peak=peak, requests=requests)

    def _processes(self) -> list[int]:
        pid = self._engine_pid
        return [os.getpid()] if pid is None else [os.getpid(), pid, *descendants(pid)]

    def _measure(self) -> tuple[list[int], Measured | None]:
        pids = self._processes()
        shares = shares_of(pids)
        if not shares:
            return pids, None
        share = sum(shares, Share(0, 0))
        _, *engine = pids
        on_devices = self._ask_devices(engine) if engine else {}
        return pids, Measured(share.total, share.held, share.total, on_devices)


def _with(own: Measured, held: Held) -> Measured:
    total = own.total + held.host
    devices = {d: own.devices.get(d, 0) + held.devices.get(d, 0) for d in held.devices}
    return Measured(total, own.held + held.host, total, {**own.devices, **devices})


def shares_of(pids: Iterable[int]) -> list[Share]:
    """What each of the processes takes; those that are gone are left out."""
    known = list(pids)
    shares = [share for pid in known if (share := share_of(pid)) is not None]
    return shares or [Share(size, size) for size in _told_by_ps(known)]


def share_of(pid: int) -> Share | None:
    """The proportional share of one process, or its resident memory on kernels without that; None
    where there is no /proc, or no such process."""
    rollup = fields_of(read(f"/proc/{pid}/smaps_rollup") or "")
    if "Pss" in rollup:
        swapped = rollup.get("SwapPss", 0)
        own = rollup.get("Pss_Anon", rollup.get("Anonymous", 0))  # before Linux 5.4 only the latter
        held = own + rollup.get("Pss_Shmem", 0)
        return Share((rollup["Pss"] + swapped) * KIB, (held + swapped) * KIB)
    pages = (read(f"/proc/{pid}/statm") or "").split()
    if not pages:
        return None
    resident, of_files = int(pages[1]), int(pages[2])
    size = os.sysconf("SC_PAGE_SIZE")
    return Share(resident * size, (resident - of_files) * size)


def _told_by_ps(pids: list[int]) -> list[int]:
    """Resident bytes where there is no /proc (macOS): ``ps`` gives them in KiB."""
    command = ["ps", "-o", "rss=", "-p", ",".join(map(str, pids))]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=PS_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [int(word) * KIB for word in told.stdout.split() if word.isdigit()]
