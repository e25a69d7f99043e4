"""PURE. The servers that hold a model, and which of them is asked next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from modelpool_worker.link import Held

from .addresses import Address
from .facts import NEWEST, Running, Version


@dataclass
class Server:
    """One of them, as far as is known. Its link alone writes it.

    Attributes:
        is_up: it answered when it was last asked anything.
        has_model: it can load the model, or holds it.
        running: how it holds the model; None: it does not.
        trouble: why it is not up, or cannot be asked for the model.
        in_flight: requests that it works on for this worker.
    """

    address: Address
    version: Version = NEWEST
    version_text: str = ""
    is_up: bool = False
    has_model: bool = True
    running: Running | None = None
    trouble: str = "was not asked yet"
    in_flight: int = 0

    def __repr__(self) -> str:
        state = "up" if self.is_up else f"down: {self.trouble}"
        return f"<Server {self.address} {state}, {self.in_flight} in flight>"


def ranked(servers: Iterable[Server]) -> list[Server]:
    """In which order they are asked: first those that hold the model, of these the one with the
    fewest requests. One that seems to be down comes last, for it may be back."""
    return sorted(
        servers,
        key=lambda s: (not s.is_up, not s.has_model, s.running is None, s.in_flight),
    )


def held(servers: Iterable[Server], device: str | None, *, is_unified: bool) -> Held:
    """What they hold of this machine, and of others, whose devices have their address as name.

    Args:
        device: the pool's name of the device that servers of this machine use; None: one of its
            own, for Ollama does not tell which.
        is_unified: devices of this machine share its memory.
    """
    host, devices = 0, dict[str, int]()
    for server in servers:
        if server.running is None:
            continue
        size, on_device = server.running.size, server.running.size_vram
        if not server.address.is_here:
            name, on_device = f"ollama@{server.address}", size
        else:
            on_device = 0 if is_unified else min(on_device, size)
            name = device or f"ollama@{server.address}"
            host += size - on_device
        if on_device:
            devices[name] = devices.get(name, 0) + on_device
    return Held(host, devices)
