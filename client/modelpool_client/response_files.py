"""What was kept of responses (``store`` of OpenAI's Responses API), as files of one folder.

All workers of a pool and its manager read and write there: whoever is asked goes on from a response
that another has given, and what was kept outlives its worker. A file is written by one of them,
once, under another name until it is complete. Whoever has written a good part of what may be there
removes the oldest.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelpool_client.owners import NOBODY, is_owned_by

# After the last use; OpenAI keeps them as long after they were made.
KEPT_SECONDS = 30 * 86_400
# A writer looks at the others' files after so much of the limit.
LOOK_SHARE = 1 / 16
_ID = re.compile(r"resp_[A-Za-z0-9]{1,100}")
_SUFFIX = ".json"
# Made once: json.dumps makes an encoder for every call that wants anything special.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def is_id(response_id: str) -> bool:
    """PURE. May a response be called so? Others lead out of the folder."""
    return _ID.fullmatch(response_id) is not None


def encoded(kept: Mapping[str, object], owner: str) -> bytes:
    """PURE. What is kept of a response, and for whom, as it stands in its file."""
    owned = {"owner": owner, **kept} if owner != NOBODY else kept
    return _ENCODER.encode(owned).encode()


def read(data: bytes, owner: str) -> Any:
    """PURE. What a file says to that owner; None where it says nothing."""
    try:
        kept = json.loads(data)
        return kept if is_owned_by(kept, owner) else None
    except (ValueError, AttributeError):
        return None


@dataclass(frozen=True)
class _File:
    path: str
    size: int
    used: float


class ResponseFiles:
    """Holds at most ``max_bytes`` in ``folder``. All of it may block for as long as the disk does.
    ``now`` gives unix seconds; an ``owner`` is one of ``owners``: what another has kept is not
    there."""

    def __init__(self, folder: Path, max_bytes: int, now: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._now = now
        self._unseen = max_bytes  # so that the first to write has a look

    def write(self, response_id: str, data: bytes) -> None:
        """Keep what is ``encoded`` of a response.

        Raises:
            OSError: it cannot be; nothing of it is there then.
        """
        self._write(self._path(response_id), data)
        self._unseen += len(data)
        if self._unseen > self.max_bytes * LOOK_SHARE:
            self.make_room()

    def get(self, response_id: str, owner: str = NOBODY) -> Any:
        """What was kept under that id; None where nothing is. It is used now, and stays longer."""
        kept = self._read(response_id, owner)
        if kept is not None:
            try:
                os.utime(self._path(response_id), (self._now(), self._now()))
            except OSError:  # it was deleted meanwhile
                return None
        return kept

    def _read(self, response_id: str, owner: str) -> Any:
        if not is_id(response_id):
            return None
        try:
            return read(self._path(response_id).read_bytes(), owner)
        except OSError:
            return None

    def delete(self, response_id: str, owner: str = NOBODY) -> bool:
        """Keep nothing of it any more; whether there was anything."""
        if self._read(response_id, owner) is None:
            return False
        try:
            self._path(response_id).unlink()
        except OSError:
            return False
        return True

    def make_room(self) -> None:
        """Remove what is too old, and the oldest of what is too much."""
        files = sorted(self._files(), key=lambda file: file.used)
        total, oldest = sum(file.size for file in files), self._now() - KEPT_SECONDS
        for file in files:
            if total <= self.max_bytes and file.used >= oldest:
                break
            with contextlib.suppress(OSError):
                os.unlink(file.path)
            total -= file.size
        self._unseen = 0

    def _write(self, path: Path, data: bytes) -> None:
        unfinished = f"{self.folder}/{secrets.token_hex(8)}.unfinished"
        try:
            # By the system's calls: a file object asks for what nobody here wants to know.
            file = self._created(unfinished)
            try:
                _write_all(file, data)
                if self._now is not time.time:  # which is what it has by then
                    os.utime(file, (self._now(), self._now()))
            finally:
                os.close(file)
            os.replace(unfinished, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(unfinished)
            raise

    def _created(self, path: str) -> int:
        flags = os.O_CREAT | os.O_WRONLY
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(path, flags, 0o600)

    def _files(self) -> list[_File]:
        found = []
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir():  # of ``response_writers``
                        continue
                    stat = entry.stat()
                    found.append(_File(entry.path, stat.st_size, stat.st_mtime))
        return found

    def _path(self, response_id: str) -> Path:
        return self.folder / f"{response_id}{_SUFFIX}"


def _write_all(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]
