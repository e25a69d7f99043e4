"""The generated model that tokens are measured with, kept for the next run."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figures import BenchError
from bench.processes import SCRIPTS, output_of
from bench.stage import Stage

PARALLEL = 16
ENGINE = "llama.cpp"
# Room for every stream's prompt and answer, and no more: the cache is allocated at the load.
OPTIONS = {"context_length": 512, "parallel": PARALLEL}
MAKE_SECONDS = 120.0
# Of the larger one, as its maker has it.
LAYERS = 24
DRAFT_LAYERS = 2
TINY = {"layers": 3, "hidden": 64, "ffn": 192, "heads": 4, "kv": 2, "vocab": 1024, "ctx": 512}
NEEDED = ("xllamacpp", "gguf", "numpy")
_MAKERS = (SCRIPTS / "make_bench_gguf.py", SCRIPTS / "gguf_export.py")


@dataclass(frozen=True)
class BenchModel:
    """The file, and what a pool's configuration says of it."""

    path: Path

    def entry(self, model_id: str, engine: str = ENGINE) -> dict[str, Any]:
        """An entry for ``models``."""
        options = dict(OPTIONS)
        return {
            "model_id": model_id,
            "engine": engine,
            "source": str(self.path),
            "options": options,
        }


def prepare(stage: Stage) -> BenchModel:
    """Make the model unless there is one from a former run; its file is in the page cache then.

    Raises:
        BenchError: a package is missing, or it cannot be made.
    """
    return _prepared(stage, "", {})


def prepare_drafted(stage: Stage) -> BenchModel:
    """One as large, of which the first two layers say it all.

    Raises:
        BenchError: as ``prepare``.
    """
    layers = TINY["layers"] if stage.quick else LAYERS
    return _prepared(stage, "-drafted", {"layers": layers, "idle-layers": layers - DRAFT_LAYERS})


def prepare_draft(stage: Stage) -> BenchModel:
    """These two layers.

    Raises:
        BenchError: as ``prepare``.
    """
    return _prepared(stage, "-draft", {"layers": DRAFT_LAYERS})


def _prepared(stage: Stage, suffix: str, shape: Mapping[str, int]) -> BenchModel:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise BenchError(f"needs more packages: pip install {' '.join(missing)}")
    size = "tiny" if stage.quick else "0.5b"
    path = stage.cache / f"bench-{size}{suffix}-q4_0.gguf"
    if not _is_fresh(path):
        stage.say(f"making {path.name}, some seconds the first time")
        _make(path, {**(TINY if stage.quick else {}), **shape})
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass
    return BenchModel(path)


def _is_fresh(path: Path) -> bool:
    newest = max(maker.stat().st_mtime for maker in _MAKERS)
    return path.exists() and path.stat().st_mtime >= newest


def _make(path: Path, shape: Mapping[str, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    sizes = [f"--{key}={value}" for key, value in shape.items()]
    command = [sys.executable, str(_MAKERS[0]), str(partial), "--type", "q4_0", *sizes]
    try:
        output_of(command, MAKE_SECONDS)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
