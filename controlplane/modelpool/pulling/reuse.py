"""Files that stores of other programs on this machine have already: used, never fetched again.

What lies there under the digest that is wanted is read and held against that. Then the name that
the file has here becomes one more link to it: a hard link, so that it stays when that program
removes its own, or a symbolic one where the file system or its owner does not allow that. Nothing
of the store is changed, or copied.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from modelpool.catalog.sources import huggingface, ollama

from .base import RemoteFile
from .download import Fetched
from .partial import digests_of, writing

Log = Callable[[str], object]


@dataclass(frozen=True)
class _Mark:
    """What tells a file from another, and from itself after it was written to."""

    device: int
    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, file: BinaryIO) -> _Mark:
        found = os.fstat(file.fileno())
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


@dataclass(frozen=True)
class _Checked:
    """A file that was read: its mark, and its ``sha256:…``."""

    mark: _Mark
    size: int
    sha256: str


def reuse(file: RemoteFile, target: Path, stores: Sequence[Path], log: Log) -> Fetched | None:
    """Link ``target``, where nothing is, to a file of a store with the content that is wanted.

    Args:
        stores: folders of other programs.
        log: is told where a store has something else than its name says.

    Raises:
        ModelPoolError: nothing can be written there.
    """
    for held in _held(file, stores):
        found = _checked(file, held, log)
        if found is None:
            continue
        with writing(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
        if kind := _link(held, target, found):
            log(f"{file.path} is already here: {held} ({kind})")
            return Fetched(target, found.size, found.sha256, str(held))
    return None


def _held(file: RemoteFile, stores: Sequence[Path]) -> Iterator[Path]:
    """Files that are called by the digest, wherever links lead."""
    kind, _, value = file.digest.partition(":")
    if kind not in ("sha256", "git"):
        return
    for store in stores:
        for path in _named(store, kind, value):
            if path.is_file():
                yield path.resolve()


def _named(store: Path, kind: str, value: str) -> Iterable[Path]:
    yield from huggingface.blobs(store, value)
    if kind == "sha256":
        yield from ollama.blobs(store, value)


def _checked(file: RemoteFile, held: Path, log: Log) -> _Checked | None:
    """Its digests and marks, if it is what is wanted, and stayed so while it was read."""
    kind = file.digest.partition(":")[0]
    try:
        with held.open("rb") as opened:
            before = _Mark.of(opened)
            if file.size is not None and before.size != file.size:
                log(f"{held} has {before.size} bytes and should have {file.size}: it is not used")
                return None
            digests = digests_of(opened, file)
            if digests[kind] != file.digest or _Mark.of(opened) != before:
                log(f"{held} is not what its name says, or changes: it is not used")
                return None
            return _Checked(before, before.size, digests["sha256"])
    except OSError as e:
        log(f"{held} cannot be read ({e.strerror}): it is not used")
        return None


def _link(held: Path, target: Path, checked: _Checked) -> str:
    """How it was linked; empty where it cannot be, or is not what was checked any more."""
    if target.is_symlink() and not target.exists():
        target.unlink()  # its file is gone
    for kind, link in (("hard link", os.link), ("symbolic link", os.symlink)):
        try:
            link(held, target)
        except OSError:  # another file system, another owner, or somebody was faster
            continue
        try:
            with target.open("rb") as opened:
                if _Mark.of(opened) == checked.mark:
                    return kind
        except OSError:
            pass
        target.unlink(missing_ok=True)
    return ""
