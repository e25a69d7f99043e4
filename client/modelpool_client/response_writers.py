"""Who has kept responses that are on no disk yet, and what of them: asked by all that share the
folder of ``response_files``, over unix sockets.

A writer says in a small file of that folder where it listens. What it holds for a moment so is
found, and deleted, by others as if it were written.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from modelpool_client.errors import Unavailable

log = logging.getLogger(__name__)

# Beside the files of responses.
FOLDER = "writers"
GET, DELETE = "get", "delete"
YES = b"true"
# They answer from memory: whoever takes longer hangs, and is ended by its manager.
ANSWER_SECONDS = 2.0
# Gives the answer to one of the two for an id and an owner; empty: there is nothing.
Answer = Callable[[str, str], Awaitable[bytes]]


class Listener:
    """Where one writer is asked: ``listen`` until ``close``. ``path`` is that of its socket, in a
    folder that nobody else may enter."""

    def __init__(self, folder: Path, path: str, answers: Mapping[str, Answer]) -> None:
        self._path = path
        self._file = _file_of(folder, path)
        self._answers = answers
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        """Can be asked from now on.

        Raises:
            OSError: it cannot.
        """
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)  # of a dead process that was called so, too
        server = await asyncio.start_unix_server(self._answer, self._path)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await asyncio.to_thread(self.announce)
        except OSError:  # or the disk hangs
            server.close()
            raise
        self._server = server

    def announce(self) -> None:
        """Say so in the folder, unless that stands there; blocks.

        Raises:
            OSError: it cannot be said.
        """
        if not self._file.exists():
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file.write_bytes(os.fsencode(self._path))

    def close(self) -> None:
        """Holds nothing any more that others could want."""
        if self._server is not None:
            for path in (self._file, self._path):
                with contextlib.suppress(OSError):
                    os.unlink(path)
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                what, response_id, owner = json.loads(await reader.readline())
            answer = await self._answers[what](response_id, owner)
            # With its length first: an answer that ends early is none.
            writer.write(b"%d\n%b" % (len(answer), answer))
            await writer.drain()
        except (OSError, TimeoutError, ValueError, KeyError) as e:
            log.warning("somebody who asked for a kept response got no answer: %r", e)
        except Unavailable as e:
            log.warning("somebody who asked for a kept response got no answer: %s", e)
        finally:
            writer.close()


def _file_of(folder: Path, path: str) -> Path:
    """Where the socket of that path is told of. Sockets are called alike, by processes that may be
    called so anew; the folders that they lie in are not."""
    *_, own, name = Path(path).parts
    return folder / FOLDER / f"{own}.{name}"


def addresses(folder: Path, but: str = "") -> list[str]:
    """The sockets of all writers of the folder but for one's own."""
    found = []
    with contextlib.suppress(OSError):
        for file in (folder / FOLDER).iterdir():
            with contextlib.suppress(OSError):
                found.append(os.fsdecode(file.read_bytes()))
    return [path for path in found if path and path != but]


async def ask_all(
    folder: Path, paths: Sequence[str], what: str, response_id: str, owner: str
) -> list[bytes]:
    """The answers of those that have one. Who is gone is forgotten: nothing it has not written is
    anywhere.

    Raises:
        Unavailable: one that may have it does not answer.
    """
    question = json.dumps([what, response_id, owner]).encode() + b"\n"
    answers = await asyncio.gather(*(_ask(folder, path, question) for path in paths))
    return [answer for answer in answers if answer]


async def _ask(folder: Path, path: str, question: bytes) -> bytes:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await _conversation(path, question)
    except (ConnectionRefusedError, FileNotFoundError):
        with contextlib.suppress(OSError):
            os.unlink(_file_of(folder, path))
        return b""
    except TimeoutError:
        raise _unanswered(f"did not answer in {ANSWER_SECONDS:g} s") from None
    except (asyncio.IncompleteReadError, ValueError):
        if _has_ended(path):  # meanwhile, and has written all
            return b""
        raise _unanswered("failed to answer") from None
    except (ConnectionError, PermissionError):  # it ends, and has written all; or is a stranger's
        return b""
    except OSError as e:  # such as too many that ask
        raise _unanswered(f"cannot be asked: {e.strerror or e}") from None


def _has_ended(path: str) -> bool:
    return not os.path.exists(path)


def _unanswered(why: str) -> Unavailable:
    text = f"a worker that may have it {why}"
    return Unavailable(text, code="store_unavailable", retry_after=ANSWER_SECONDS)


async def _conversation(path: str, question: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(question)
        await writer.drain()
        return await reader.readexactly(int(await reader.readline()))
    finally:
        writer.close()
