"""A file that is not whole yet: beside the one that it will be, with a small record."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from modelpool_client.errors import CannotFit, Conflict, InternalError, ModelPoolError

from .base import RemoteFile

SUFFIX = ".part"
RECORD_SUFFIX = ".part.json"
READ_BYTES = 1 << 20
BYTES_PER_MB = 1_000_000
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Hash(Protocol):
    """As hashlib's."""

    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


@dataclass(frozen=True)
class Names:
    """Where a file's partial and its record lie: hidden, so that nobody takes them for models."""

    partial: Path
    record: Path

    @classmethod
    def of(cls, target: Path) -> Names:
        """Of the file that it will be."""
        return cls(
            target.with_name(f".{target.name}{SUFFIX}"),
            target.with_name(f".{target.name}{RECORD_SUFFIX}"),
        )


class Partial:
    """One that is written. It belongs to one process at a time.

    Attributes:
        remote: what it will be, as far as is known by now.
        size: bytes that are there.
        was_resumed: some of them were there before.
    """

    def __init__(self, file: BinaryIO, names: Names, remote: RemoteFile, subject: str) -> None:
        self._file = file
        self._names = names
        self._subject = subject
        self._hashes: dict[str, Hash] = {}
        self.remote = remote
        self.size = 0
        self.was_resumed = False

    def begin(self) -> str:
        """Go on with what is there, if it is of the same content; otherwise begin anew. Why it is
        begun anew is returned, empty where it is not."""
        there = os.fstat(self._file.fileno()).st_size
        record = read_record(self._names.record)
        if not self.remote.identity:  # then the next answer tells whether it is the same
            etag, modified = (str(record.get(key) or "") for key in ("etag", "modified"))
            self.remote = dataclasses.replace(self.remote, etag=etag, modified=modified)
        is_same = bool(self.remote.identity) and record.get("identity") == self.remote.identity
        if is_same and there and (self.remote.size is None or there <= self.remote.size):
            self._hash_what_is_there()
            return ""
        self.restart()
        is_other = there and record.get("identity")
        return "another version is published since it was begun" if is_other else ""

    def learn(self, remote: RemoteFile) -> None:
        """An answer said more of what it will be."""
        self.remote = remote
        if not self.size:
            self._hashes = _hashes(remote)
        self._write_record()

    def restart(self) -> None:
        """Forget the bytes that are there."""
        with writing(self._names.partial):
            self._file.truncate(0)
            self._file.seek(0)
        self._hashes = _hashes(self.remote)
        self.size, self.was_resumed = 0, False
        self._write_record()

    def write(self, data: bytes) -> None:
        """Add bytes.

        Raises:
            CannotFit: code ``disk_full``; what is there stays.
        """
        with writing(self._names.partial):
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
        for each in self._hashes.values():
            each.update(data)
        self.size += len(data)

    @property
    def sha256(self) -> str:
        """Of all that is there, as ``sha256:…``."""
        return f"sha256:{self._hashes['sha256'].hexdigest()}"

    def digest(self, kind: str) -> str:
        """Of all that is there; ``kind`` is ``sha256`` or what the remote file's digest is."""
        found = self._hashes.get(kind)
        return f"{kind}:{found.hexdigest()}" if found is not None else ""

    def finish(self, target: Path) -> None:
        """It is whole: give it its name."""
        with writing(self._names.partial):
            self._file.flush()
            os.fsync(self._file.fileno())
            os.replace(self._names.partial, target)
        self._names.record.unlink(missing_ok=True)

    def _hash_what_is_there(self) -> None:
        self._hashes = _hashes(self.remote)
        self._file.seek(0)
        while data := self._file.read(READ_BYTES):
            for each in self._hashes.values():
                each.update(data)
            self.size += len(data)
        self.was_resumed = True

    def _write_record(self) -> None:
        marks = {key: getattr(self.remote, key) for key in ("identity", "etag", "modified", "size")}
        with writing(self._names.record):
            write_json(self._names.record, {**marks, "subject": self._subject})


@contextmanager
def opened(target: Path, remote: RemoteFile, subject: str) -> Iterator[Partial]:
    """The partial of a file, which nobody else writes meanwhile.

    Args:
        subject: for whom it is fetched, to be written beside it.

    Raises:
        Conflict: code ``being_pulled``: another process writes it.
        ModelPoolError: it cannot be written.
    """
    names = Names.of(target)
    with writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(names.partial, flags, 0o644)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        if not _is_locked(descriptor) or not _is_at(descriptor, names.partial):
            raise Conflict(f"{target.name} is being pulled already", code="being_pulled")
        yield Partial(file, names, remote, subject)


def is_in_use(partial: Path) -> bool:
    """Whether some process writes it."""
    try:
        with partial.open("rb") as file:
            return not _is_locked(file.fileno())
    except OSError:
        return False


def read_record(path: Path) -> dict[str, object]:
    """What a record says; nothing where it is missing or damaged."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, value: object) -> None:
    """A whole file, or the one that was there."""
    new = path.with_name(f"{path.name}.new")
    try:
        new.write_text(json.dumps(value, indent=1))
        os.replace(new, path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def file_hash(path: Path, remote: RemoteFile) -> dict[str, str]:
    """Digests of a file by their kinds: ``sha256`` and what the remote file's is."""
    with path.open("rb") as file:
        return digests_of(file, remote)


def digests_of(file: BinaryIO, remote: RemoteFile) -> dict[str, str]:
    """The same of what is still to be read of an open file."""
    hashes = _hashes(remote)
    while data := file.read(READ_BYTES):
        for each in hashes.values():
            each.update(data)
    return {kind: f"{kind}:{each.hexdigest()}" for kind, each in hashes.items()}


def _hashes(remote: RemoteFile) -> dict[str, Hash]:
    kind = remote.digest.partition(":")[0]
    found: dict[str, Hash] = {"sha256": hashlib.sha256()}
    if kind == "md5":
        found["md5"] = hashlib.md5(usedforsecurity=False)
    elif kind == "git":  # of a blob: its kind and size, then its bytes
        header = f"blob {remote.size}\0".encode()
        found["git"] = hashlib.sha1(header, usedforsecurity=False)
    return found


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whoever had the lock before may have given the file its name."""
    with contextlib.suppress(OSError):
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    return False


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system has against it is told in words.

    Raises:
        CannotFit: code ``disk_full``.
        InternalError: code ``cannot_write``.
    """
    try:
        yield
    except OSError as e:
        raise _explained(path, e) from None


def _explained(path: Path, error: OSError) -> ModelPoolError:
    if error.errno in NO_ROOM:
        text = f"no room is left for {path} ({error.strerror}): {_room(path)}"
        step = "what was fetched is kept; make room (`poolctl prune`, `poolctl rm`) and resume"
        return CannotFit(f"{text}; {step} the job", code="disk_full")
    return InternalError(f"{path} cannot be written: {error.strerror}", code="cannot_write")


def _room(path: Path) -> str:
    """What is there, and what the disk has yet."""
    place = next((each for each in (path, *path.parents) if each.exists()), Path("/"))
    size = place.stat().st_size if place == path else 0
    free = shutil.disk_usage(place).free
    return f"{size / BYTES_PER_MB:,.1f} MB of it are there, {free / BYTES_PER_MB:,.1f} MB are free"
