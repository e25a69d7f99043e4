"""PURE: what a start sets aside: what is known of the model, and more once it ran out of memory."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from modelpool.catalog.memory_estimate import HOST, Claim
from modelpool.pool.admission import Budget, Requirements, Resident

# Estimates that were short by more than half of it were never near.
OOM_HEADROOM = 1.5
MORE = "half as much again as it ran out of memory with"
# What CUDA, HIP, Vulkan and torch say, and what Python, C++ and the front of a worker do.
_ON_DEVICE = re.compile(
    r"(cuda|hip)Malloc|\b(CUDA|HIP|ROCm|Vulkan|Metal)\b.*out of memory|on device \d"
    r"|OutOfDeviceMemory",
    re.IGNORECASE,
)
_ON_HOST = re.compile(r"\bMemoryError|bad_alloc|the kernel ended")


def planned(
    key: str,
    host: Claim,
    devices: Mapping[str, Claim],
    pinned: Sequence[Resident],
    budget: Budget,
) -> Requirements:
    """What is claimed, without its margin where that alone would not fit beside the pinned."""
    room = budget.limit_bytes - sum(r.bytes for r in pinned)
    sizes = {}
    for device, claim in devices.items():
        limit = budget.devices.get(device, claim.bytes)
        sizes[device] = claim.within(limit - sum(r.devices.get(device, 0) for r in pinned))
    sources: dict[str, str] = {device: claim.source for device, claim in devices.items()}
    return Requirements(key, host.within(room), sizes, {HOST: host.source, **sources})


def short_of(held: Requirements, why: str) -> Requirements:
    """Of what it held when it ran out of memory, what was too little; all where that is not said.

    ``why`` is the message of the failure.
    """
    if _ON_DEVICE.search(why) and any(held.devices.values()):
        return replace(held, bytes=0)
    return replace(held, devices={}) if _ON_HOST.search(why) else held


def with_more(need: Requirements, short: Requirements) -> Requirements:
    """At least half as much again of what was too little."""
    wanted = {place: int(size * OOM_HEADROOM) for place, size in _by_place(short).items()}
    sizes = _by_place(need)
    raised = {place: size for place, size in wanted.items() if size > sizes.get(place, 0)}
    sizes |= raised
    sources = {**need.sources, **dict.fromkeys(raised, MORE)}
    return Requirements(need.model_id, sizes.pop(HOST), sizes, sources)


def _by_place(need: Requirements) -> dict[str, int]:
    return {HOST: need.bytes, **need.devices}
