"""Packages that are big and few tests need: imported when a test uses them, for every process that
collects the tests would import them all."""

from __future__ import annotations

import importlib
from typing import Any


class Lazy:
    """``Lazy("a.b").c`` is ``c`` of the module ``a.b``."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):  # so does pytest ask each name of a file what it is
            raise AttributeError(attribute)
        return getattr(importlib.import_module(self._name), attribute)
