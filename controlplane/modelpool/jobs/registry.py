"""Makes the kinds of jobs, built in or plugged in."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING

from .base import Kind

if TYPE_CHECKING:
    from modelpool.services import Services

log = logging.getLogger(__name__)

GROUP = "modelpool.jobs"
# By name, what makes it of the pool's services.
BUILT_IN: dict[str, str] = {
    "discover": "modelpool.jobs.kinds.discover:make",
    "install": "modelpool.jobs.kinds.install:Install",
    "ollama": "modelpool.jobs.kinds.ollama:FindOllama",
    "probe": "modelpool.jobs.kinds.probe:Probe",
    "outdated": "modelpool.jobs.kinds.outdated:Outdated",
    "pull": "modelpool.jobs.kinds.pull:Pull",
    "profile": "modelpool.jobs.kinds.profile:make",
    "tune": "modelpool.jobs.kinds.tune:make",
}


def kinds(services: Services) -> Iterator[Kind]:
    """Every kind of job that there is for this pool. A plugged in one that cannot be made is
    missing, and the log says so."""
    for location in BUILT_IN.values():
        yield _factory(location)(services)
    for entry in importlib.metadata.entry_points(group=GROUP):
        try:
            yield _factory(entry.value)(services)
        except Exception as e:
            log.error("jobs of kind %r cannot be done: %s", entry.name, e)


def _factory(location: str) -> Callable[[Services], Kind]:
    module, _, attribute = location.partition(":")
    made: Callable[[Services], Kind] = getattr(import_module(module), attribute)
    return made
