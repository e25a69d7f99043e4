"""PURE: what one that holds a reservation takes, as far as its worker has told."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from modelpool_client.wire import Facts

from modelpool.pool.admission import Requirements


def of_host(reserved: int, facts: Facts | None, was_loaded: bool) -> tuple[int, int]:
    """What it takes of the budget, and how much of that the host still calls available: what is not
    in memory yet, and pages of files, which come back without anybody's end. In bytes."""
    if facts is None or facts.memory_bytes is None or facts.memory_held_bytes is None:
        # One that is ended in the middle of its load never had all of it.
        return reserved, 0 if was_loaded else reserved
    size = max(reserved, facts.memory_bytes)
    return size, max(0, size - facts.memory_held_bytes)


def of_devices(
    reserved: Mapping[str, int], facts: Facts | None, budgeted: Collection[str]
) -> dict[str, int]:
    """Of each device with a budget what it takes, which may be more than it reserved: there may
    have been no budget when it was started."""
    taken = facts.device_memory_bytes if facts is not None else {}
    known = [*reserved, *(device for device in taken if device in budgeted)]
    return {device: max(reserved.get(device, 0), taken.get(device, 0)) for device in known}


def asleep(
    key: str, awake_bytes: int, facts: Facts, remembered: Requirements | None, weights: int | None
) -> Requirements:
    """What it would hold if it slept: as when it last did, else at most what it takes of the host
    now and, where they wait there, its weights. No device is known to keep anything."""
    if remembered is not None:
        return replace(remembered, model_id=key)
    on_devices = sum(facts.device_memory_bytes.values())
    moved = min([size for size in (weights, on_devices) if size], default=0)
    return Requirements(key, awake_bytes + (moved if facts.sleep_level == 1 else 0))


def pending_on_devices(
    held: Mapping[str, int], facts: Facts | None, was_loaded: bool
) -> dict[str, int]:
    """How much of what it holds of each device the driver still calls free: what is not there yet.
    Of a worker that has loaded and whose share no driver tells, nothing."""
    taken = facts.device_memory_bytes if facts is not None else {}
    unknown = {device for device in held if device not in taken} if was_loaded else set()
    return {
        device: max(0, size - taken.get(device, 0))
        for device, size in held.items()
        if device not in unknown
    }
