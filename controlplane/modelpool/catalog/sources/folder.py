"""Any tree of folders; one that is in it and has a layout of its own is read as that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from modelpool.catalog.formats.base import Listing

from .base import Sighting, Source, Tree
from .named_folders import in_folders
from .registry import source_at


class Folder:
    """Models are called by the folders that they are in."""

    name = "folder"

    def default_paths(self, environ: Mapping[str, str], home: Path) -> Iterable[Path]:
        """None: somebody has to say which."""
        return ()

    def is_at(self, listing: Listing) -> bool:
        """Never of its own: it is what is left."""
        return False

    def sightings(self, tree: Tree, root: Listing) -> Iterator[Sighting]:
        """Of all below."""

        def other(listing: Listing) -> Source | None:
            found = source_at(listing) if listing.path != root.path else self
            return found if found.name != self.name else None

        for listing in tree.walk(root, lambda at: other(at) is None):
            source = other(listing)
            if source is not None:
                yield from source.sightings(tree, listing)
                continue
            for candidate in tree.candidates(listing):
                yield in_folders(candidate, listing.path, root.path)
