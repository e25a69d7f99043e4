"""Open model files so that whatever is wrong with one becomes one BadModelFile.

Plain reads, no mmap: a file that shrinks under a mapping would kill the manager with SIGBUS.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from modelpool.catalog.errors import BadModelFile

from .base import Entry, Listing
from .json_values import JsonValues, Wrong, parse_json

BUFFER_BYTES = 262_144
# A config.json has some kilobytes, a tokenizer_config.json with thousands of added tokens some
# megabytes.
MAX_JSON_BYTES = 16 * 1_048_576
# What clones and downloads leave where a file should be; none is larger than that.
MAX_STAND_IN_BYTES = 1_048_576
STAND_INS = {
    b"version https://git-lfs.github.com/": "is a pointer of Git LFS, not the file itself; in the"
    " clone that it is in, `git lfs pull` fetches it",
    b"<!doctype html": "is a web page: whoever fetched it was given an error, or a login page",
    b"<html": "is a web page: whoever fetched it was given an error, or a login page",
}
# More entries than that are no model's folder.
MAX_ENTRIES = 4096


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """The file and its size in bytes. What is wrong with it, found by the system or by whoever
    reads it (``Wrong``), is raised as one error.

    Raises:
        BadModelFile: it is missing, no file, unreadable, or what the reader found.
    """
    with translated(path):
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for a writer
            raise Wrong("is not a file")
        with path.open("rb", buffering=BUFFER_BYTES) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            if size <= MAX_STAND_IN_BYTES:
                _check_stand_in(file)
            yield file, size


def _check_stand_in(file: BinaryIO) -> None:
    start = file.read(max(map(len, STAND_INS))).lower()
    file.seek(0)
    for mark, problem in STAND_INS.items():
        if start.startswith(mark):
            raise Wrong(problem)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Errors of the system and of readers as one of ours that names the path.

    Raises:
        BadModelFile: whatever it was.
    """
    try:
        yield
    except FileNotFoundError as e:
        raise BadModelFile(e.filename or path, "there is no such file") from None
    except Wrong as e:
        raise BadModelFile(path, str(e)) from None
    except (OSError, ValueError) as e:  # ValueError: a NUL byte in the path
        raise BadModelFile(path, f"cannot be read: {getattr(e, 'strerror', None) or e}") from None


def read_json(path: Path, most: int = MAX_JSON_BYTES) -> Any:
    """What a JSON file of at most so many bytes holds.

    Raises:
        BadModelFile: it is missing, unreadable, too large or no JSON.
    """
    with opened(path) as (file, size):
        if size > most:
            raise Wrong(f"has {size} bytes, which is too large to be what its name says")
        return parse_json(file.read(most))


def read_object(path: Path, most: int = MAX_JSON_BYTES) -> JsonValues:
    """The object of a JSON file, see ``read_json``; empty where there is no such file.

    Raises:
        BadModelFile: it is unreadable, too large, no JSON, or JSON of something else.
    """
    with translated(path):
        if not path.exists():
            return JsonValues({}, path.name)
    value = read_json(path, most)
    if not isinstance(value, dict):
        raise BadModelFile(path, "is corrupt: it holds no JSON object")
    return JsonValues(value, path.name)


def read_listing(path: Path) -> Listing:
    """A folder's entries, by name. Entries that cannot be looked at are left out.

    Raises:
        BadModelFile: it is missing, no folder, unreadable, or has over ``MAX_ENTRIES`` entries.
    """
    with translated(path), os.scandir(path) as found:
        entries: list[Entry] = []
        for entry in found:
            if len(entries) == MAX_ENTRIES:
                raise Wrong(f"has over {MAX_ENTRIES} entries: it is no model's folder")
            entries += _entry(entry)
    return Listing(path, tuple(sorted(entries, key=lambda e: e.name)))


def _entry(entry: os.DirEntry[str]) -> list[Entry]:
    try:
        is_folder = entry.is_dir()
        return [Entry(entry.name, is_folder, 0 if is_folder else entry.stat().st_size)]
    except OSError:  # it went meanwhile, or is a link to nowhere
        return []
