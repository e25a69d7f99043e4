"""The engines there are: a lazy table for ours, entry points for strangers, one door for both.

A plug-in's package declares, in the group ``modelpool.engines``, ``name = "module:Class"``.
"""

from __future__ import annotations

import importlib

from modelpool_client.errors import LoadFailed
from modelpool_client.surfaces.schema import near

from modelpool_worker.engine import Engine

GROUP = "modelpool.engines"
BUILT_IN = {
    "llama.cpp": "modelpool_worker.engines.llama_cpp:LlamaCpp",
    "fake": "modelpool_worker.engines.fake:Fake",
}


def get(name: str) -> Engine:
    """The engine of that name.

    Raises:
        LoadFailed: no such engine (``bad_config``), or it cannot be imported
            (``missing_dependency``).
    """
    # Plug-ins are looked up only when needed: importlib.metadata costs a child 20 ms.
    where = BUILT_IN.get(name) or plugins().get(name)
    if where is None:
        known = names()
        raise LoadFailed(
            f"this version has no engine {name!r}{near(name, known)}; there are {', '.join(known)}",
            code="bad_config",
            param="engine",
        )
    return _load(name, where)


def names() -> list[str]:
    """All engines, built in or plugged in."""
    return sorted({*BUILT_IN, *plugins()})


def plugins() -> dict[str, str]:
    """Name and place of every engine that an installed package brings."""
    from importlib.metadata import entry_points

    return {e.name: e.value for e in entry_points(group=GROUP)}


def _load(name: str, where: str) -> Engine:
    module, _, attribute = where.partition(":")
    try:
        engine = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError) as e:
        raise LoadFailed(f"engine {name!r}: {e}", code="missing_dependency") from e
    if not isinstance(engine, Engine):
        raise LoadFailed(f"engine {name!r}: {where} is no Engine", code="bad_config")
    return engine
