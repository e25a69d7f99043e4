"""Python packages that engines need: whether they are there, and their import."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelpool_client.errors import LoadFailed

from modelpool_worker.engine import Usable


@dataclass(frozen=True)
class Library:
    """What an engine computes with.

    Attributes:
        packages: names of packages by their modules, the one that is imported last.
        extra: of ours that installs them.
        note: what else is to be known of that.
    """

    packages: Mapping[str, str]
    extra: str
    note: str = ""

    @property
    def install_hint(self) -> str:
        """What whoever misses them is told to do."""
        return f"pip install 'modelpool[{self.extra}]'{self.note}"

    def probe(self) -> Usable:
        """Whether all are there; nothing is imported."""
        missing = [p for module, p in self.packages.items() if _is_missing(module)]
        if missing:
            verb = "is" if len(missing) == 1 else "are"
            reason = f"{' and '.join(missing)} {verb} not installed"
            return Usable(False, reason, self.install_hint)
        from importlib import metadata

        versions = [f"{p} {metadata.version(p)}" for p in self.packages.values()]
        return Usable(True, version=", ".join(versions))

    def load(self) -> Any:
        """Import it.

        Raises:
            LoadFailed: ``missing_dependency``.
        """
        module, package = list(self.packages.items())[-1]
        try:
            return importlib.import_module(module)
        except ImportError as e:
            text = f"{package} cannot be imported ({e}): {self.install_hint}"
            raise LoadFailed(text, code="missing_dependency", source="engine") from e


def _is_missing(module: str) -> bool:
    return importlib.util.find_spec(module) is None
