"""Whether the files of a model are still those that were read: told without opening one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .formats.gguf import shard_paths
from .model import Model

# Of a folder: more files than that are no model's.
MAX_FILES = 4096


class Fingerprint(NamedTuple):
    """Of all files of a model together.

    Attributes:
        digest: another one is another content, as far as size, time of change and inode tell; empty
            where the source is not in the file system.
        changed_at: when the last of them was written, renamed or moved here, in seconds since 1970.
        files: each with what tells it from another of its name.
    """

    digest: str
    changed_at: float
    files: tuple[tuple[str, str], ...] = ()

    def other_files(self, now: Fingerprint) -> list[str]:
        """The paths at which there is another file now, or none, or one that was not there."""
        return sorted({path for path, _ in set(self.files) ^ set(now.files)})


NO_FILES = Fingerprint("", 0.0)


def fingerprint(model: Model) -> Fingerprint:
    """Of the source, all its parts, and the files that options name, such as a chat template.

    Waits for the disk: not for the event loop.
    """
    if not _is_there(model.source):
        return NO_FILES
    files, changed_at = [], 0.0
    for path in files_of(model):
        try:
            stat = os.stat(path)
        except (OSError, ValueError) as e:
            files.append((path, type(e).__name__))
            continue
        files.append((path, f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"))
        changed_at = max(changed_at, stat.st_ctime)
    digest = hashlib.sha256(repr(files).encode()).hexdigest()[:32]
    return Fingerprint(digest, changed_at, tuple(files))


def files_of(model: Model) -> tuple[str, ...]:
    """The source, all its parts, and the files that options name. One that is a folder stands
    for itself and what lies in it, not for what lies deeper. Waits for the disk where it is one."""
    return tuple(dict.fromkeys(_files(model)))


def _is_there(source: str) -> bool:
    try:
        return os.path.isabs(source) and os.path.exists(source)
    except ValueError:
        return False


def _files(model: Model) -> Iterator[str]:
    yield model.source
    yield from map(str, shard_paths(Path(model.source))[1:])
    for _, value in sorted(model.options.items()):
        if isinstance(value, str) and os.path.isabs(value):
            yield value
    if os.path.isdir(model.source):
        try:
            names = sorted(os.listdir(model.source))[:MAX_FILES]
        except OSError:
            return
        yield from (os.path.join(model.source, name) for name in names)
