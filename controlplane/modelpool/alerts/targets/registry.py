"""Which kinds of targets there are, built in or plugged in. What each is, is in ``base``."""

from __future__ import annotations

import importlib.metadata
from importlib import import_module

from .base import Body

GROUP = "modelpool.alert_targets"
BUILT_IN = {
    "webhook": "modelpool.alerts.targets.webhook:body",
    "slack": "modelpool.alerts.targets.slack:body",
}


def kinds() -> list[str]:
    """Every kind there is."""
    return sorted({*BUILT_IN, *_plugins()})


def is_known(kind: str) -> bool:
    """Is there such a kind? Packages are searched only where the name is none of ours."""
    return kind in BUILT_IN or kind in _plugins()


def body_of(kind: str) -> Body:
    """What makes the bodies of a kind.

    Raises:
        ImportError, AttributeError: it cannot be loaded, or there is none.
    """
    location = BUILT_IN.get(kind) or _plugins().get(kind, "")
    module, _, attribute = location.partition(":")
    if not module:
        raise ImportError(f"there is no kind {kind!r} of target")
    made: Body = getattr(import_module(module), attribute)
    return made


def _plugins() -> dict[str, str]:
    return {e.name: e.value for e in importlib.metadata.entry_points(group=GROUP)}
