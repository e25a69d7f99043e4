"""Which kinds of registries there are, built in or plugged in."""

from __future__ import annotations

import importlib.metadata

GROUP = "modelpool.registrars"
BUILT_IN = {
    "http": "modelpool.registrars.http:HttpRegistrar",
    "etcd": "modelpool.registrars.etcd:EtcdRegistrar",
    "consul": "modelpool.registrars.consul:ConsulRegistrar",
}


def kinds() -> list[str]:
    """Every kind there is."""
    return sorted({*BUILT_IN, *_plugins()})


def is_known(kind: str) -> bool:
    """Is there such a kind? Packages are searched only where the name is none of ours."""
    return kind in BUILT_IN or kind in _plugins()


def location(kind: str) -> str:
    """``module:Class`` of a kind; empty where there is none."""
    return BUILT_IN.get(kind) or _plugins().get(kind, "")


def _plugins() -> dict[str, str]:
    return {e.name: e.value for e in importlib.metadata.entry_points(group=GROUP)}
