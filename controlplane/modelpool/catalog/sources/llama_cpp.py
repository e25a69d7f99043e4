"""llama.cpp's own cache: ``owner_repo_file.gguf`` beside ``manifest=owner=repo=tag.json``.

Newer versions keep what they fetch as Hugging Face's hub does (``common/hf-cache.cpp``), in the
same folder where LLAMA_CACHE names it; both are read.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from modelpool.catalog.formats.base import Listing

from .base import Sighting, Tree
from .huggingface import HuggingFace

MANIFEST = "manifest="
UNFINISHED = ".downloadInProgress"


class LlamaCpp:
    """Models are called ``owner/repo`` where a manifest says so, else by their files."""

    name = "llama_cpp"

    def __init__(self) -> None:
        self._hub = HuggingFace()

    def default_paths(self, environ: Mapping[str, str], home: Path) -> Iterable[Path]:
        """LLAMA_CACHE, else the folder for caches of the system."""
        if environ.get("LLAMA_CACHE"):
            return (Path(os.path.expanduser(environ["LLAMA_CACHE"])),)
        caches = environ.get("XDG_CACHE_HOME")
        if caches:
            return (Path(caches) / "llama.cpp",)
        if sys.platform == "darwin":
            return (home / "Library" / "Caches" / "llama.cpp",)
        return (home / ".cache" / "llama.cpp",)

    def is_at(self, listing: Listing) -> bool:
        """It has a manifest."""
        return any(e.name.startswith(MANIFEST) for e in listing.entries)

    def sightings(self, tree: Tree, root: Listing) -> Iterator[Sighting]:
        """Of the folder alone, and of the hub's folders in it."""
        yield from self._hub.sightings(tree, root)
        repositories = _repositories([e.name for e in root.entries])
        for entry in root.entries:
            if entry.name.endswith(UNFINISHED):
                tree.trouble(root.path / entry.name, "is a download that has not ended")
        for candidate in tree.candidates(root):
            name = _repository(candidate.path.name, repositories)
            family = f"{root.path}:{name or candidate.path.stem}"
            yield Sighting(candidate, name, family, is_repository=bool(name))


def _repositories(names: Sequence[str]) -> dict[str, str]:
    """How the files of each repository begin, longest first, with its name."""
    found = {}
    for name in names:
        parts = name.removeprefix(MANIFEST).removesuffix(".json").split("=")
        if name.startswith(MANIFEST) and len(parts) == 3:
            found[f"{parts[0]}_{parts[1]}_"] = f"{parts[0]}/{parts[1]}"
    return dict(sorted(found.items(), key=lambda pair: -len(pair[0])))


def _repository(file: str, repositories: Mapping[str, str]) -> str:
    return next((name for begin, name in repositories.items() if file.startswith(begin)), "")
