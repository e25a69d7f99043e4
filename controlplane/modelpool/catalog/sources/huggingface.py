"""The cache of Hugging Face's hub: ``models--owner--repo/snapshots/REVISION/…``.

https://huggingface.co/docs/huggingface_hub/guides/manage-cache. The files are links to ``blobs``,
which are named by their SHA-256 where the hub keeps them outside git. Of several revisions that of
``main`` counts, as llama.cpp and transformers have it; without one the newest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from modelpool.catalog.formats.base import Listing

from .base import Sighting, Tree

PREFIX = "models--"
UNFINISHED = ".incomplete"
SHA256 = re.compile(r"[0-9a-f]{64}")


class HuggingFace:
    """Models are called ``owner/repo``."""

    name = "huggingface"

    def default_paths(self, environ: Mapping[str, str], home: Path) -> Iterable[Path]:
        """The first variable that is set counts; XDG_CACHE_HOME is that of all caches."""
        for variable, below in (
            ("HF_HUB_CACHE", ""),
            ("HUGGINGFACE_HUB_CACHE", ""),
            ("HF_HOME", "hub"),
            ("XDG_CACHE_HOME", "huggingface/hub"),
        ):
            if environ.get(variable):
                return (Path(os.path.expanduser(environ[variable])) / below,)
        return (home / ".cache" / "huggingface" / "hub",)

    def is_at(self, listing: Listing) -> bool:
        """It has the folder of a repository."""
        return any(e.is_folder and e.name.startswith(PREFIX) for e in listing.entries)

    def sightings(self, tree: Tree, root: Listing) -> Iterator[Sighting]:
        """Of one revision of each repository."""
        for entry in root.entries:
            if entry.is_folder and entry.name.startswith(PREFIX):
                yield from _of_repository(tree, root.path / entry.name)


def blobs(root: Path, name: str) -> Iterator[Path]:
    """Where a cache has a file that is called by its digest: hexadecimal digits, SHA-256 where the
    hub keeps it outside git, git's own elsewhere."""
    for repository in root.glob(f"{PREFIX}*"):
        yield repository / "blobs" / name


def _of_repository(tree: Tree, folder: Path) -> Iterator[Sighting]:
    _tell_unfinished(tree, folder / "blobs")
    snapshots = tree.listing(folder / "snapshots")
    if snapshots is None:
        return
    snapshot = _snapshot(tree, folder, [e.name for e in snapshots.entries if e.is_folder])
    top = tree.listing(snapshots.path / snapshot) if snapshot else None
    if top is None:
        return
    name = folder.name.removeprefix(PREFIX).replace("--", "/")
    for listing in tree.walk(top):
        for candidate in tree.candidates(listing):
            yield Sighting(
                candidate,
                name,
                str(folder),
                digest=_digest(candidate.files),
                is_repository=True,
            )


def _snapshot(tree: Tree, folder: Path, revisions: Sequence[str]) -> str | None:
    refs = tree.listing(folder / "refs")
    names = sorted(e.name for e in refs.entries if not e.is_folder) if refs is not None else []
    for ref in sorted(names, key=lambda n: n != "main"):
        revision = (tree.read_text(folder / "refs" / ref) or "").strip()
        if revision in revisions:
            return revision
    return max(revisions, key=lambda r: _changed_at(folder / "snapshots" / r), default=None)


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _tell_unfinished(tree: Tree, blobs: Path) -> None:
    listing = tree.listing(blobs)
    for entry in listing.entries if listing is not None else ():
        if entry.name.endswith(UNFINISHED):
            tree.trouble(blobs / entry.name, "is a download that has not ended")


def _digest(files: Sequence[Path]) -> str:
    """Of one file; several have none together."""
    if len(files) != 1:
        return ""
    try:
        blob = Path(os.readlink(files[0])).name
    except OSError:
        return ""
    return f"sha256:{blob}" if SHA256.fullmatch(blob) else ""
