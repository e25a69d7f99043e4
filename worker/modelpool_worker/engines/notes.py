"""What engines find out once: notes in a folder of the pool's, each of which may be deleted."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any


def read(path: str) -> Any:
    """A value of JSON, which whoever reads it has to check; None where none can be read."""
    try:
        with open(path, encoding="utf-8") as f:
            return json.load(f)
    except (OSError, ValueError, RecursionError):
        return None


def write(path: str, value: object) -> None:
    """Whole or not at all; without it everything works, and takes longer."""
    partial = f"{path}.{os.getpid()}"
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            with open(partial, "w", encoding="utf-8") as f:
                json.dump(value, f)
            os.replace(partial, path)
        except OSError:
            os.unlink(partial)
