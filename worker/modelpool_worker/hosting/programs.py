"""What programs write, for models that are programs: run per request, never by a shell."""

from __future__ import annotations

import os
import selectors
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from modelpool_client.errors import EngineFailed

from .cancel import Cancel

_PIECE = 1 << 16
# How soon a client that leaves ends a program that says nothing.
_LOOK_SECONDS = 0.05


def output_of(
    command: Sequence[str],
    given: bytes,
    cancel: Cancel,
    environment: Mapping[str, str] | None = None,
) -> Iterator[bytes]:
    """What it writes to standard output, in pieces as they come, with ``given`` as its standard
    input and ``environment`` beside our own. It is killed when nobody wants more.

    Raises:
        Cancelled: ``cancel`` was set.
        EngineFailed: it cannot be started, or fails; with its last words.
    """
    # A file, for a pipe would have to be written while the other is read.
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as words:
        source.write(given)
        source.seek(0)
        try:
            process = subprocess.Popen(
                command,
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=words,
                bufsize=0,
                env={**os.environ, **(environment or {})},
            )
        except OSError as e:
            raise EngineFailed(f"{command[0]} cannot be run: {e}", source="engine") from None
        try:
            assert process.stdout is not None
            yield from _pieces(process.stdout, cancel)
            code = process.wait()
        finally:
            # Whoever ignores SIGTERM, as an engine child does, hands that on.
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        if code:
            raise EngineFailed(f"{command[0]} failed: {_last(words, code)}", source="engine")


def _pieces(pipe: IO[bytes], cancel: Cancel) -> Iterator[bytes]:
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            cancel.check()
            if selector.select(_LOOK_SECONDS):
                piece = pipe.read(_PIECE)
                if not piece:
                    return
                yield piece


def _last(words: IO[Any], code: int) -> str:
    words.seek(0)
    lines = words.read().decode(errors="replace").strip().splitlines()
    return str(lines[-1][:500]) if lines else f"exit code {code}"
