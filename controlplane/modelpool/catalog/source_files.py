"""Which files of the host a model may be that came by the API: whoever reaches that must not have
any file read, nor be told which files there are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from .entry_schema import READ_FILES
from .errors import BadModelFile
from .formats.base import Entry, Listing
from .formats.gguf import read_gguf
from .formats.registry import formats
from .option_files import is_below
from .parse_rules import Problem

CODE = "only_in_config"
# Of a folder: in one with more, none is looked for.
MAX_ENTRIES = 10_000
WHERE = "models_dir, discovery_paths and option_file_paths of the config file"


def source_problems(source: str, folders: Iterable[str]) -> list[Problem]:
    """Why a client may not name that as a model's source; nothing where it may.

    In ``folders``, links followed, it may name anything, and hears what is wrong with it. Elsewhere
    only what is a model by its content; what is none gets one and the same answer, whether it
    exists or not.

    Blocks for as long as the file system takes.
    """
    source = os.path.expanduser(source)
    if not os.path.isabs(source) or any(is_below(source, folder) for folder in folders):
        return []
    if holds_model(source):
        return []
    text = (
        f"source {source[:200]!r} is no model that the pool can read. What else is there is told of"
        f" {WHERE} only: name its folder in option_file_paths"
    )
    return [Problem("source", text, CODE)]


def relative_problems(engine: str, source: str) -> list[Problem]:
    """Where its engine looks for files by that, a path relative to wherever the manager was started
    is none: it would tell what is there, and ``x/../..`` leads to everywhere. PURE."""
    if engine not in READ_FILES or os.path.isabs(source):
        return []
    return [Problem("source", "source must be an absolute path here: the engine reads files")]


def holds_model(source: str) -> bool:
    """Whether it is a model by its content, or a folder in which one lies. Blocks."""
    path = Path(source)
    try:
        if path.is_dir():
            return any(map(_is_readable, _listings(path)))
        return path.is_file() and (_is_gguf(path) or any(map(_is_readable, _listings(path))))
    except (OSError, ValueError):
        return False


def _listings(path: Path) -> Iterator[tuple[Path, Listing]]:
    """Those in which it would be a candidate: its own folder, and what it holds itself."""
    if path.is_dir():
        with os.scandir(path) as found:
            entries = [
                Entry(e.name, e.is_dir(), e.stat().st_size)
                for e, _ in zip(found, range(MAX_ENTRIES), strict=False)
                if e.is_dir() or e.is_file()
            ]
        yield path, Listing(path, entries)
    size = 0 if path.is_dir() else path.stat().st_size
    yield path, Listing(path.parent, (Entry(path.name, path.is_dir(), size),))


def _is_readable(place: tuple[Path, Listing]) -> bool:
    path, listing = place
    for known in formats().values():
        for candidate in known.candidates(listing):
            if candidate.path != path and candidate.path.parent != path:
                continue
            try:
                known.read(candidate.path)
            except BadModelFile:
                continue
            return True
    return False


def _is_gguf(path: Path) -> bool:
    """Whatever it is called: stores have names of their own for files."""
    try:
        read_gguf(path)
    except BadModelFile:
        return False
    return True
