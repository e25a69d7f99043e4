"""Which environments there are, where each lies, and whether it can be used.

Those that the configuration gives a ``python`` belong to somebody else. The others are made below
``state_dir/environments`` by the job ``install``: one that is complete has a record, written last
and removed before anything in it is changed.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from modelpool_client import __version__
from modelpool_client.errors import NotFound

from modelpool.catalog.model import did_you_mean
from modelpool.config import EnvironmentSettings

RECORD = "environment.json"
# The manager's own; no environment is called so.
OWN = ""


class Settings(Protocol):
    """What of the configuration is needed here."""

    @property
    def environments(self) -> Mapping[str, EnvironmentSettings]: ...
    @property
    def state_dir(self) -> Path: ...


@dataclass(frozen=True)
class Environment:
    """One of them.

    Attributes:
        python: its interpreter, whether it is there or not.
        folder: where it is made; None: it is somebody else's.
        problem: why no worker can run from it; empty: one can.
        is_configured: the configuration names it; else it was made for an engine.
    """

    name: str
    python: Path
    folder: Path | None
    settings: EnvironmentSettings
    is_configured: bool
    problem: str = ""

    @property
    def is_usable(self) -> bool:
        return not self.problem


class Environments:
    """``settings`` gives the configuration in force."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def root(self) -> Path:
        """Below which they are made."""
        return self._settings.state_dir / "environments"

    def names(self) -> tuple[str, ...]:
        """All that are configured or were made."""
        made: list[str] = []
        with contextlib.suppress(OSError):
            made = [path.parent.name for path in self.root.glob(f"*/{RECORD}")]
        return tuple(sorted({*self._settings.environments, *made}))

    def configured(self, name: str) -> EnvironmentSettings | None:
        """What the configuration says of it, if anything."""
        return self._settings.environments.get(name)

    def get(self, name: str) -> Environment:
        """One that is configured or was made.

        Raises:
            NotFound: there is none.
        """
        if name not in (known := self.names()):
            near = did_you_mean(name, known)
            there = f"there are {', '.join(known)}" if known else "none is configured"
            raise NotFound(
                f"there is no environment {name[:80]!r}{near}; {there}", param="environment"
            )
        return self.planned(name)

    def planned(self, name: str) -> Environment:
        """As it is, or as it would be made."""
        settings = self.configured(name)
        if settings is not None and settings.python is not None:
            python = Path(settings.python)
            problem = "" if python.is_file() else f"its python, {python}, is not there"
            return Environment(name, python, None, settings, True, problem)
        folder = self.root / name
        told = settings or EnvironmentSettings(python=None, extras=(), packages=())
        problem = _problem(name, folder, told if settings is not None else None)
        return Environment(name, python_in(folder), folder, told, settings is not None, problem)


def python_in(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / "bin" / "python"


def read_record(folder: Path) -> Mapping[str, Any] | None:
    """What was installed there; None where that was not finished."""
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def record_of(requirements: Sequence[str]) -> dict[str, Any]:
    """What is written down of an environment that is complete."""
    return {
        "version": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "requirements": list(requirements),
    }


def requirements_of(settings: EnvironmentSettings, own: str = "modelpool") -> list[str]:
    """What pip is to install: our own package with what a worker needs and the extras, and what
    else is wanted. ``own`` is the file of its wheel."""
    return [f"{own}[{','.join(('worker', *settings.extras))}]", *settings.packages]


def _problem(name: str, folder: Path, settings: EnvironmentSettings | None) -> str:
    record = read_record(folder)
    advice = f"`poolctl engines install {name}`"
    if record is None:
        has_begun = (folder / "pyvenv.cfg").exists()
        what = "is not finished" if has_begun else "has not been made"
        return f"environment {name} {what}: {advice} makes it"
    if not python_in(folder).exists():
        return f"environment {name} has no python any more: {advice} makes it anew"
    if settings is not None and record.get("requirements") != requirements_of(settings):
        return f"environment {name} was made for other packages: {advice} brings it up to date"
    return ""
