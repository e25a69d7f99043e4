"""How a worker starts: a registry of launchers, each imported only when chosen."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .base import Launcher, LaunchError, Site, WorkerProcess, log_heading

__all__ = ["LaunchError", "Launcher", "Site", "WorkerProcess", "create", "log_heading"]

BUILT_IN = {"local": ".local:LocalLauncher"}


def create(name: str, **settings: Any) -> Launcher:
    """The launcher called ``name``.

    Raises:
        KeyError: there is none of that name.
    """
    module, _, attribute = BUILT_IN[name].partition(":")
    launcher: Launcher = getattr(import_module(module, __package__), attribute)(**settings)
    return launcher
