"""llama-server, llama.cpp's own program: where it is, and what it is told of a model.

The binary is the one that ``MODELPOOL_LLAMA_SERVER`` names, or that ``make native`` has built, or
that is on the path. Its router mode, the bare one and the pool's engine child are all this one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from bench.figures import BenchError
from bench.model import OPTIONS, PARALLEL
from bench.processes import SCRIPTS

NAME = "llama-server"
VARIABLE = "MODELPOOL_LLAMA_SERVER"
BUILT = SCRIPTS.parent / ".modelpool" / "native" / "bin" / NAME
MISSING = f"no {NAME}, left out; make native builds one, {VARIABLE} names one"


def missing() -> str:
    """Why nothing of it can be measured, and what would help."""
    return "" if binary() is not None else MISSING


def binary(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The executable, if there is one."""
    named = environment.get(VARIABLE)
    on_path = shutil.which(NAME, path=environment.get("PATH"))
    for path in (named, BUILT, on_path):
        if path and os.access(path, os.X_OK) and Path(path).is_file():
            return Path(path)
    return None


def found() -> Path:
    """The executable.

    Raises:
        BenchError: there is none.
    """
    if (path := binary()) is None:
        raise BenchError(MISSING)
    return path


def parameters(model: Path) -> Mapping[str, object]:
    """Those that a worker's engine child has, as far as they are choices of ours; by the names of
    its flags, which its presets have, too."""
    return {
        "model": model,
        "ctx-size": OPTIONS["context_length"] * PARALLEL,
        "parallel": PARALLEL,
        "cache-ram": 0,
        "warmup": False,
        "fit": "off",
    }
