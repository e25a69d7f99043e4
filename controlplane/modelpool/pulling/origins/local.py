"""A file or folder of this machine: used where it lies, never copied."""

from __future__ import annotations

from pathlib import Path

from modelpool_client.errors import InvalidRequest

from modelpool.homes import expanded
from modelpool.pulling.base import Listing, OriginSettings, RemoteFile
from modelpool.pulling.reference import Reference

MAX_FILES = 10_000


class Local:
    """See ``Origin``."""

    def __init__(self, settings: OriginSettings) -> None: ...

    def folder(self, reference: Reference) -> str:
        return ""

    def list(self, reference: Reference) -> Listing:
        try:
            path = Path(expanded(reference.name))
        except ValueError as e:
            text = f"source {reference.name[:200]!r} {e}"
            raise InvalidRequest(text, param="source", code="bad_file") from None
        if not path.is_absolute():
            text = f"{reference.name!r} must be an absolute path: the pool has a folder of its own"
            raise InvalidRequest(text, param="source")
        try:
            return _listing(path.resolve(strict=True))
        except OSError as e:
            text = f"{path} cannot be read: {e.strerror or e}"
            raise InvalidRequest(text, param="source", code="bad_file") from None


def _listing(path: Path) -> Listing:
    """Of a file, its neighbours: another part, or a projector, may belong to it."""
    folder = path if path.is_dir() else path.parent
    files = []
    for found in sorted(folder.iterdir())[:MAX_FILES]:
        if found.is_file() and _belongs(found, path):
            size = found.stat().st_size
            files.append(RemoteFile(found.name, found.as_uri(), size, etag=f"{size}"))
    return Listing("", files, place=folder)


def _belongs(found: Path, path: Path) -> bool:
    """A file was named: then itself and the other parts of it."""
    if path.is_dir() or found == path:
        return True
    stem = path.name.rpartition("-00001-of-")[0]
    return bool(stem) and found.name.startswith(f"{stem}-0")
