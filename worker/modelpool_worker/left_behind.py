"""What a worker has to end that is no process below it: a container, a model in a server elsewhere.

It is written down before it begins and struck out at an orderly end. Where the worker is killed
before that, its manager runs ``python -m modelpool_worker clean FILE`` (``clean.py``).
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from modelpool_client.wire_base import LEFT_BEHIND_NAME


def note_command(
    folder: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    working_directory: str | None,
    seconds: float,
) -> None:
    """Note the command that ends a server, for which it has so many seconds."""
    _write(
        folder,
        {
            "command": list(command),
            "environment": dict(environment),
            "working_directory": working_directory,
            "seconds": seconds,
        },
    )


def note_job(folder: str, job: Mapping[str, Any]) -> None:
    """Note the job (an ``EngineJob``) of a link that holds memory of a server elsewhere."""
    _write(folder, {"job": dict(job)})


def read(path: str) -> dict[str, Any]:
    """What a note says. It names commands: one that somebody else can have written is not read.

    Raises:
        OSError, ValueError: it is no note, or not ours.
    """
    folder = os.stat(os.path.dirname(path), follow_symlinks=False)
    if not stat.S_ISDIR(folder.st_mode):
        raise ValueError("its folder is a link")
    _refuse_foreign(folder, "its folder")
    # A pipe would wait for a writer.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(fd, encoding="utf-8") as file:
        about = os.fstat(fd)
        _refuse_foreign(about, "it")
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("it is no file")
        said = json.load(file)
    if not isinstance(said, dict):
        raise ValueError("it holds no JSON object")
    return said


def _refuse_foreign(about: os.stat_result, what: str) -> None:
    if about.st_uid != os.geteuid():
        raise PermissionError(f"{what} is of another user ({about.st_uid})")
    if about.st_mode & 0o022:
        raise PermissionError(f"{what} can be written to by other users")


def strike_out(folder: str) -> None:
    """All was ended."""
    if folder:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder, LEFT_BEHIND_NAME))


def _write(folder: str, said: Mapping[str, Any]) -> None:
    """Whole or not at all; for nobody else's eyes."""
    if not folder:
        return
    path = os.path.join(folder, LEFT_BEHIND_NAME)
    temporary = f"{path}.{os.getpid()}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(said, file)
        os.replace(temporary, path)
    except OSError as e:
        text = f"what has to be ended if this worker is killed was not written down: {e}"
        print(text, file=sys.stderr, flush=True)
