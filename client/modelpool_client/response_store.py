"""Keeps responses (``store`` of OpenAI's Responses API): their clients are answered first, and what
is kept is written a moment later.

Until then, and for as long as it cannot be written, it is found in memory, by other processes too
(``response_writers``). A process that ends writes what is left. One that is killed loses what it
has kept in its last moment, and nothing of what is written (``response_files``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from modelpool_client import response_writers
from modelpool_client.errors import Unavailable
from modelpool_client.owners import NOBODY
from modelpool_client.response_files import ResponseFiles, encoded, is_id, read
from modelpool_client.response_writers import DELETE, GET, YES, Listener

log = logging.getLogger(__name__)

# A disk needs a millisecond; one that hangs is not to hold a client up.
DISK_SECONDS = 5.0
# What is kept within it is written together, by one thread that is asked once.
TOGETHER_SECONDS = 0.02
# Until what could not be written is tried again.
RETRY_SECONDS = 5.0
# Of memory, for what is not written.
UNWRITTEN_BYTES = 32 << 20
P = ParamSpec("P")
T = TypeVar("T")


class ResponseStore:
    """Keeps at most ``max_bytes`` in ``folder``, nothing where that is 0; see ``ResponseFiles``.

    Args:
        socket_path: where others ask for what is not written yet. Empty: they cannot, and a client
            has its answer when it is written.
        now: unix seconds.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        socket_path: str = "",
        now: Callable[[], float] = time.time,
    ) -> None:
        self._files = ResponseFiles(folder, max_bytes, now)
        self._socket_path = socket_path
        self._listener: asyncio.Task[Listener | None] | None = None
        self._unwritten: dict[str, bytes] = {}
        self._bytes = 0  # of all these
        self._most_bytes = min(UNWRITTEN_BYTES, max_bytes)
        self._writer: asyncio.Task[None] | None = None
        self._in_hand: Collection[str] = ()  # of the thread that writes
        self._tried = asyncio.Condition()  # told of whenever it has tried
        self._hurry = asyncio.Event()
        self._fails = False
        self._is_closing = False

    def __repr__(self) -> str:
        return f"<ResponseStore {self._files.folder}: {len(self._unwritten)} not written>"

    def make_room(self) -> None:
        """Remove what is too old, and the oldest of what is too much; blocks."""
        self._files.make_room()

    async def keep(self, response_id: str, kept: Mapping[str, object], owner: str = NOBODY) -> bool:
        """Keep that of a response; whether it is kept. What cannot be is logged.

        It is found from now on, and written once the caller awaits something else.
        """
        most = self._files.max_bytes
        if not most:
            return False
        data = encoded(kept, owner)
        if len(data) > most:
            log.warning("%s is not kept: it alone is larger than the store", response_id)
            return False
        try:
            await self._take(response_id, data)
        except (OSError, Unavailable) as e:
            log.warning("%s is not kept: %s", response_id, e)
            return False
        return True

    async def find(self, response_id: str, owner: str = NOBODY) -> Any:
        """What was kept under that id; None where nothing is.

        Raises:
            Unavailable: the disk, or a worker that may have it, did not answer in time.
        """
        if not is_id(response_id):
            return None
        if (data := self._unwritten.get(response_id)) is not None:
            return read(data, owner)
        others, kept = await _in_time(self._look, response_id, owner)
        if kept is not None or not others:
            return kept
        folder = self._files.folder
        for data in await response_writers.ask_all(folder, others, GET, response_id, owner):
            if (kept := read(data, owner)) is not None:
                return kept
        # It may have been written since.
        return await _in_time(self._files.get, response_id, owner)

    async def drop(self, response_id: str, owner: str = NOBODY) -> bool:
        """Keep nothing of it any more; whether there was anything.

        Raises:
            Unavailable: the disk, or a worker that may have it, did not answer in time.
        """
        if not is_id(response_id):
            return False
        was_here = await self._drop(response_id, owner)
        # One that has just written it still tells it from memory.
        folder = self._files.folder
        others = await _in_time(response_writers.addresses, folder, self._socket_path)
        return bool(
            await response_writers.ask_all(folder, others, DELETE, response_id, owner) or was_here
        )

    async def close(self) -> None:
        """Write what is left; what cannot be is lost, and logged."""
        self._is_closing = True
        self._hurry.set()
        if self._writer is not None:
            await asyncio.wait([self._writer], timeout=DISK_SECONDS)
        if self._unwritten:
            log.error("%d responses are lost: they could not be written", len(self._unwritten))
        if self._listener is not None and (listener := await self._listener) is not None:
            listener.close()

    async def _take(self, response_id: str, data: bytes) -> None:
        if len(data) > self._most_bytes or not await self._is_asked():
            await _in_time(self._files.write, response_id, data)
            return
        if self._bytes + len(data) > self._most_bytes:
            await self._make_room_for(len(data))
        self._unwritten[response_id] = data
        self._bytes += len(data)
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def _is_asked(self) -> bool:
        """Can others ask for what is not written?"""
        if self._listener is None:
            self._listener = asyncio.get_running_loop().create_task(self._listen())
        return await asyncio.shield(self._listener) is not None

    async def _listen(self) -> Listener | None:
        if not self._socket_path:
            return None
        answers = {GET: self._told, DELETE: self._dropped}
        listener = Listener(self._files.folder, self._socket_path, answers)
        try:
            await listener.listen()
        except OSError as e:
            log.warning("responses are written before they are sent: %s", e)
            return None
        return listener

    def _announce(self) -> None:
        if self._listener is not None and (listener := self._listener.result()) is not None:
            listener.announce()

    async def _told(self, response_id: str, owner: str) -> bytes:
        """To another process, which looks on the disk by itself."""
        data = self._unwritten.get(response_id, b"")
        return data if read(data, owner) is not None else b""

    async def _dropped(self, response_id: str, owner: str) -> bytes:
        return YES if await self._drop(response_id, owner) else b""

    async def _drop(self, response_id: str, owner: str) -> bool:
        await self._until(lambda: response_id not in self._in_hand)
        data = self._unwritten.get(response_id)
        if data is None:
            return await _in_time(self._files.delete, response_id, owner)
        if read(data, owner) is None:
            return False
        self._forget(response_id)
        return True

    def _forget(self, response_id: str) -> None:
        self._bytes -= len(self._unwritten.pop(response_id, b""))

    def _look(self, response_id: str, owner: str) -> tuple[list[str], Any]:
        """Who else may have it, then whether it is written: who ends meanwhile has written it."""
        others = response_writers.addresses(self._files.folder, self._socket_path)
        return others, self._files.get(response_id, owner)

    async def _write(self) -> None:
        while self._unwritten:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_SECONDS if self._fails else TOGETHER_SECONDS):
                    await self._hurry.wait()
            self._hurry.clear()
            batch = self._in_hand = dict(self._unwritten)
            written, error = await asyncio.to_thread(self._write_all, batch)
            for response_id in written:
                self._forget(response_id)
            self._in_hand = ()
            self._tell(error)
            async with self._tried:
                self._tried.notify_all()
            if self._fails and self._is_closing:
                break
        self._writer = None

    def _write_all(self, batch: Mapping[str, bytes]) -> tuple[list[str], OSError | None]:
        """Those that are written, and why others are not."""
        written, error = [], None
        with contextlib.suppress(OSError):  # whoever removed the folder has removed that, too
            self._announce()
        for response_id, data in batch.items():
            try:
                self._files.write(response_id, data)
            except OSError as e:
                error = e
            else:
                written.append(response_id)
        return written, error

    def _tell(self, error: OSError | None) -> None:
        if error is not None and not self._fails:
            text = "responses cannot be written: %s; they are kept in memory meanwhile"
            log.warning(text, error)
        elif error is None and self._fails:
            log.info("responses are written again")
        self._fails = error is not None

    async def _make_room_for(self, size: int) -> None:
        """In memory: wait for the disk, or let go of the oldest where that takes nothing."""

        def fits() -> bool:
            return self._bytes + size <= self._most_bytes

        while not fits():
            if self._fails and not self._in_hand:
                oldest = next(iter(self._unwritten))
                log.warning("%s is not kept any more: it could not be written", oldest)
                self._forget(oldest)
            else:
                self._hurry.set()
                await self._until(lambda: fits() or (self._fails and not self._in_hand))

    async def _until(self, is_so: Callable[[], bool]) -> None:
        if is_so():
            return
        try:
            async with asyncio.timeout(DISK_SECONDS), self._tried:
                await self._tried.wait_for(is_so)
        except TimeoutError:
            raise _hangs() from None


async def _in_time(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        async with asyncio.timeout(DISK_SECONDS):
            return await asyncio.to_thread(work, *args, **kwargs)
    except TimeoutError:
        raise _hangs() from None


def _hangs() -> Unavailable:
    text = f"the disk with the kept responses did not answer in {DISK_SECONDS:g} s"
    return Unavailable(text, code="store_unavailable", retry_after=DISK_SECONDS)
