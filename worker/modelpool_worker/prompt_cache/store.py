"""The prompt caches of unloaded models on disk: a folder a model, a file a conversation.

A file is what the engine wrote; its name is its record, so that one rename makes both appear. What
a worker writes or reads has a name that begins with the worker's id until it is done: nobody else
takes it, and who ends the worker knows what to remove. Nothing is flushed to the disk for it, since
a file that a power cut tore does not have its checksum.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# Changes with what stands in names and files, so that older ones are refused.
FORMAT = 1
# Bytes of one token in the lists that a conversation is known by.
TOKEN_BYTES = 4
# A cache of which a later one has that much goes on in it, and is removed. Not all of it: an answer
# that comes back with the next request may have other tokens at its end than were generated.
CONTINUED = 0.9
# Of what is free on the disk one conversation may take that much.
FREE_SHARE = 0.5
_CHUNK = 1 << 20
_NAME = re.compile(r"([0-9a-f]{32})-([0-9a-f]{32})-(\d+)-(\d+)-([0-9a-f]{8})-(\d+)\.prompt")


def key_of(facts: Mapping[str, Any]) -> str:
    """The hash of all that a cache depends on: one with another key is of no use."""
    text = json.dumps({**facts, "format": FORMAT}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Entry:
    """The cache of one conversation, as its file's name tells it.

    Attributes:
        digest: of its tokens.
        key: of what it depends on, see ``key_of``.
        size: in bytes.
        checksum: CRC-32 of the file.
        prefill_rate: tokens per second that were measured when it was written.
    """

    digest: str
    key: str
    tokens: int
    size: int
    checksum: int
    prefill_rate: int

    @classmethod
    def parse(cls, name: str) -> Entry | None:
        """Of a file's name; None if that is no cache."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        digest, key, tokens, size, checksum, rate = match.groups()
        return cls(digest, key, int(tokens), int(size), int(checksum, 16), int(rate))

    @property
    def name(self) -> str:
        """Of the file."""
        return (
            f"{self.digest}-{self.key}-{self.tokens}-{self.size}"
            f"-{self.checksum:08x}-{self.prefill_rate}.prompt"
        )


class PromptStore:
    """The caches of one model, as one worker sees them; those of all others lie beside it.
    ``tokens_of`` reads the tokens of a file, ``TOKEN_BYTES`` each, and may raise ValueError.

    Every method leaves out what the disk does not let it do; no cache is worth an error.
    """

    def __init__(
        self, folder: str, worker_id: str, key: str, tokens_of: Callable[[str], bytes]
    ) -> None:
        self.folder = folder
        self._worker_id = worker_id
        self._key = key
        self._tokens_of = tokens_of

    def open(self) -> bool:
        """Make the folder, for its owner only. False if that cannot be."""
        try:
            for path in (os.path.dirname(self.folder), self.folder):
                os.makedirs(path, mode=0o700, exist_ok=True)
        except OSError as e:
            print(f"no prompt cache: {e}", file=sys.stderr, flush=True)
            return False
        return True

    def path(self, name: str) -> str:
        """Of a file of the model's folder."""
        return os.path.join(self.folder, name)

    def entries(self) -> list[Entry]:
        """What can be used, the latest first. What was made with another key, or is not as long
        as its name says, is removed."""
        found = []
        for file in _files(self.folder):
            entry = Entry.parse(file.name)
            if entry is None:
                continue
            if entry.key == self._key and entry.size == file.size:
                found.append((file.used, entry))
            else:
                _remove(file.path)
        return [entry for _, entry in sorted(found, key=lambda each: -each[0])]

    def take(self, entry: Entry, until: float = math.inf) -> str | None:
        """The name under which it may be read now, by us alone; None if it is broken, which ends
        it, if it is gone, or if it was not looked through at ``until`` of the monotonic clock. A
        reader that dies of it leaves nothing behind for the next one."""
        name = f"{self._worker_id}.{entry.digest}"
        try:
            os.rename(self.path(entry.name), self.path(name))
            if _checksum(self.path(name), until) == entry.checksum:
                return name
        except TimeoutError:
            self.put_back(entry, name)
            return None
        except OSError:
            return None
        self.drop(name)
        return None

    def put_back(self, entry: Entry, name: str) -> None:
        """It was read, and is good."""
        with contextlib.suppress(OSError):
            os.rename(self.path(name), self.path(entry.name))

    def begin(self, number: int) -> str | None:
        """The name of an empty file to write to; None if there can be none."""
        name = f"{self._worker_id}.{number}"
        flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY
        try:
            os.close(os.open(self.path(name), flags, 0o600))
        except OSError:
            return None
        return name

    def publish(self, name: str, prefill_rate: float, used: float) -> Entry | None:
        """That file is complete. What goes on in it is removed.

        Args:
            prefill_rate: tokens per second with which the engine reads a prompt.
            used: seconds since 1970; the oldest goes first.
        """
        path, rate = self.path(name), max(1, round(prefill_rate))
        try:
            tokens, size = self._tokens_of(path), os.stat(path).st_size
            digest, count = _digest(tokens), len(tokens) // TOKEN_BYTES
            entry = Entry(digest, self._key, count, size, _checksum(path), rate)
            for former in self.entries():
                if self._is_continued(former, tokens):
                    _remove(self.path(former.name))
            os.utime(path, (used, used))
            os.rename(path, self.path(entry.name))
        except (OSError, ValueError) as e:
            print(f"prompt cache: a file is good for nothing: {e}", file=sys.stderr, flush=True)
            _remove(path)
            return None
        return entry

    def _is_continued(self, former: Entry, tokens: bytes) -> bool:
        try:
            known = self._tokens_of(self.path(former.name))
        except (OSError, ValueError):
            return False
        return shared_tokens(known, tokens) >= CONTINUED * former.tokens

    def drop(self, name: str) -> None:
        """That file is good for nothing."""
        _remove(self.path(name))

    def make_room(self, size: int, limit: int) -> bool:
        """Whether a file of so many bytes may be written: all models' caches together stay below
        ``limit`` bytes, for which the oldest go, and the disk is not filled."""
        if size > limit:
            return False
        make_room(os.path.dirname(self.folder), limit - size)
        try:
            return size <= shutil.disk_usage(self.folder).free * FREE_SHARE
        except OSError:
            return False

    def keep_latest(self, count: int) -> None:
        """Remove all but so many of the model's."""
        for entry in self.entries()[count:]:
            _remove(self.path(entry.name))


def clear(folder: str) -> None:
    """Keep nothing of the model with that folder."""
    shutil.rmtree(folder, ignore_errors=True)


def make_room(root: str, limit: int) -> None:
    """Remove the oldest caches below ``root`` until all of it has at most ``limit`` bytes."""
    files = [file for model in _folders(root) for file in _files(model)]
    total = sum(file.size for file in files)
    for file in sorted(files, key=lambda each: each.used):
        if total <= limit:
            return
        if Entry.parse(file.name) is not None:  # else someone is at it
            _remove(file.path)
            total -= file.size


def remove_unfinished(folder: str, worker_id: str) -> None:
    """Remove what that worker, which has ended, was writing or reading."""
    for file in _files(folder):
        if file.name.startswith(f"{worker_id}."):
            _remove(file.path)


@dataclass(frozen=True)
class _File:
    """``used`` is in seconds since 1970, as ``PromptStore.publish`` was told."""

    path: str
    name: str
    size: int
    used: float


def _files(folder: str) -> Iterator[_File]:
    with contextlib.suppress(OSError), os.scandir(folder) as found:
        for each in found:
            with contextlib.suppress(OSError):
                stat = each.stat(follow_symlinks=False)
                yield _File(each.path, each.name, stat.st_size, stat.st_mtime)


def _folders(root: str) -> list[str]:
    try:
        with os.scandir(root) as found:
            return [each.path for each in found if each.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def shared_tokens(one: bytes, other: bytes) -> int:
    """How many tokens at their beginning two lists have in common."""
    low, high = 0, min(len(one), len(other)) // TOKEN_BYTES
    while low < high:
        middle = (low + high + 1) // 2
        part = slice(low * TOKEN_BYTES, middle * TOKEN_BYTES)
        low, high = (middle, high) if one[part] == other[part] else (low, middle - 1)
    return low


def _digest(tokens: bytes) -> str:
    return hashlib.sha256(tokens).hexdigest()[:32]


def _checksum(path: str, until: float = math.inf) -> int:
    value = 0
    with open(path, "rb", buffering=0) as f:
        while data := f.read(_CHUNK):
            value = zlib.crc32(data, value)
            if time.monotonic() > until:
                raise TimeoutError
    return value


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
