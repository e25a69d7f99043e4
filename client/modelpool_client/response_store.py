"""What was kept of responses (``store`` of OpenAI's Responses API), as files of one folder.

All workers of a pool and its manager read and write there: whoever is asked goes on from a response
that another has given, and what was kept outlives its worker. A file is written by one of them,
once, under another name until it is complete. Whoever has written a good part of what may be there
removes the oldest.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from modelpool_client.errors import Unavailable
from modelpool_client.owners import NOBODY, is_owned_by

log = logging.getLogger(__name__)

# After the last use; OpenAI keeps them as long after they were made.
KEPT_SECONDS = 30 * 86_400
# A writer looks at the others' files after so much of the limit.
LOOK_SHARE = 1 / 16
_ID = re.compile(r"resp_[A-Za-z0-9]{1,100}")
_SUFFIX = ".json"
# A disk needs a millisecond; one that hangs is not to hold a client up.
DISK_SECONDS = 5.0
# Made once: json.dumps makes an encoder for every call that wants anything special.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class _File:
    path: str
    size: int
    used: float


class ResponseStore:
    """Keeps at most ``max_bytes`` in ``folder``, nothing where that is 0. Methods that are no
    coroutines may block for as long as the disk does. ``now`` gives unix seconds; an ``owner`` is
    one of ``owners``: what another has kept is not there."""

    def __init__(self, folder: Path, max_bytes: int, now: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._now = now
        self._unseen = max_bytes  # so that the first to write has a look

    async def find(self, response_id: str, owner: str = NOBODY) -> Any:
        """``get``, beside the loop.

        Raises:
            Unavailable: the disk did not answer in time.
        """
        return await _in_time(self.get, response_id, owner)

    async def keep(self, response_id: str, kept: Mapping[str, object], owner: str = NOBODY) -> bool:
        """``put``, beside the loop; what takes too long is taken for not kept."""
        try:
            return await _in_time(self.put, response_id, kept, owner)
        except Unavailable as e:
            log.warning("%s is not kept: %s", response_id, e)
            return False

    async def drop(self, response_id: str, owner: str = NOBODY) -> bool:
        """``delete``, beside the loop.

        Raises:
            Unavailable: the disk did not answer in time.
        """
        return await _in_time(self.delete, response_id, owner)

    def put(self, response_id: str, kept: Mapping[str, object], owner: str = NOBODY) -> bool:
        """Keep that of a response; whether it is kept. What cannot be is logged."""
        if not self._max_bytes:
            return False
        owned = {"owner": owner, **kept} if owner != NOBODY else kept
        data = _ENCODER.encode(owned).encode()
        if len(data) > self._max_bytes:
            log.warning("%s is not kept: it alone is larger than the store", response_id)
            return False
        try:
            self._write(self._path(response_id), data)
        except OSError as e:
            log.warning("%s is not kept: %s", response_id, e)
            return False
        self._unseen += len(data)
        if self._unseen > self._max_bytes * LOOK_SHARE:
            self.make_room()
        return True

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
        if _ID.fullmatch(response_id) is None:
            return None
        try:
            kept = json.loads(self._path(response_id).read_bytes())
        except (OSError, ValueError):
            return None
        return kept if is_owned_by(kept, owner) else None

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
            if total <= self._max_bytes and file.used >= oldest:
                break
            with contextlib.suppress(OSError):
                os.unlink(file.path)
            total -= file.size
        self._unseen = 0

    def _write(self, path: Path, data: bytes) -> None:
        unfinished = f"{self._folder}/{secrets.token_hex(8)}.unfinished"
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
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(path, flags, 0o600)

    def _files(self) -> list[_File]:
        found = []
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    stat = entry.stat()
                    found.append(_File(entry.path, stat.st_size, stat.st_mtime))
        return found

    def _path(self, response_id: str) -> Path:
        return self._folder / f"{response_id}{_SUFFIX}"


def _write_all(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


async def _in_time(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        async with asyncio.timeout(DISK_SECONDS):
            return await asyncio.to_thread(work, *args, **kwargs)
    except TimeoutError:
        text = f"the disk with the kept responses did not answer in {DISK_SECONDS:g} s"
        raise Unavailable(text, code="store_unavailable", retry_after=DISK_SECONDS) from None
