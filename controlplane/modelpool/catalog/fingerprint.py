"""Whether the files of a model are still those that were read: told without opening one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .metadata import shard_paths
from .model import Model

# Of a folder: more files than that are no model's.
MAX_FILES = 4096


class Fingerprint(NamedTuple):
    """Of all files of a model together.

    Attributes:
        digest: another one is another content, as far as size, time of change and inode tell; empty
            where the source is not in the file system.
        changed_at: when the last of them was written, renamed or moved here, in seconds since 1970.
    """

    digest: str
    changed_at: float


NO_FILES = Fingerprint("", 0.0)


def fingerprint(model: Model) -> Fingerprint:
    """Of the source, all its parts, and the files that options name, such as a chat template.

    Waits for the disk: not for the event loop.
    """
    if not _is_there(model.source):
        return NO_FILES
    digest, changed_at = hashlib.sha256(), 0.0
    for path in _files(model):
        try:
            stat = os.stat(path)
        except (OSError, ValueError) as e:
            digest.update(f"{path}\0{type(e).__name__}\n".encode(errors="surrogatepass"))
            continue
        line = f"{path}\0{stat.st_size} {stat.st_mtime_ns} {stat.st_ino}\n"
        digest.update(line.encode(errors="surrogatepass"))
        changed_at = max(changed_at, stat.st_ctime)
    return Fingerprint(digest.hexdigest()[:32], changed_at)


def _is_there(source: str) -> bool:
    try:
        return os.path.isabs(source) and os.path.exists(source)
    except ValueError:
        return False


def _files(model: Model) -> Iterator[str]:
    """A folder stands for itself and what lies in it, not for what lies deeper."""
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
