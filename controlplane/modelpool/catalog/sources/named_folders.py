"""PURE. What a model is called by the folders that it is in."""

from __future__ import annotations

from pathlib import Path

from modelpool.catalog.formats.base import Candidate

from .base import Sighting

# ``owner/repo``, as on hubs.
NAMED_FOLDERS = 2


def in_folders(candidate: Candidate, folder: Path, root: Path, provider: str = "") -> Sighting:
    """By the last two folders below the root, ``owner/repo``, or the only one; by its own name
    where it lies in the root itself. A model that is a folder is called by that.

    Args:
        folder: that was listed when the candidate was seen.
    """
    home = candidate.path if candidate.path == folder else folder
    parts = home.relative_to(root).parts
    name = "/".join(parts[-NAMED_FOLDERS:])
    if candidate.path == folder and not name:
        name = root.name
    return Sighting(candidate, name, str(home), provider=provider)
