"""The prompt caches of unloaded models on disk, as far as they are the manager's: names, removal.

Workers write and read them; the layout is described in the worker's ``prompt_cache/store.py``.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from modelpool.pool.file_names import file_name


def folder_of(root: Path, model_id: str) -> Path:
    """Where the worker of that model keeps its own."""
    return root / file_name(model_id)


def keep_only(root: Path, model_ids: Iterable[str]) -> None:
    """Keep nothing of any other model."""
    kept = {file_name(model_id) for model_id in model_ids}
    with contextlib.suppress(OSError):
        for path in list(root.iterdir()):
            if path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)


def remove(root: Path, model_id: str) -> None:
    """Keep nothing of that model."""
    shutil.rmtree(folder_of(root, model_id), ignore_errors=True)


def remove_unfinished(root: Path, model_id: str, worker_id: str) -> None:
    """Remove what that worker, which is gone, was writing or reading when it was killed."""
    with contextlib.suppress(OSError):
        for path in list(folder_of(root, model_id).iterdir()):
            if path.name.startswith(f"{worker_id}."):
                path.unlink(missing_ok=True)
