"""LM Studio's models: ``publisher/repo/file``, as its documentation of sideloading has it.

https://lmstudio.ai/docs/app/advanced/import-model; the second folder is that of versions before
0.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from modelpool.catalog.formats.base import Listing

from .base import Sighting, Tree
from .named_folders import in_folders


class LmStudio:
    """Models are called ``publisher/repo``."""

    name = "lm_studio"

    def default_paths(self, environ: Mapping[str, str], home: Path) -> Iterable[Path]:
        """Both folders that it ever had."""
        return (home / ".lmstudio" / "models", home / ".cache" / "lm-studio" / "models")

    def is_at(self, listing: Listing) -> bool:
        """By the folder's own place: what is in it looks like any other tree."""
        return listing.path.parts[-2:] in ((".lmstudio", "models"), ("lm-studio", "models"))

    def sightings(self, tree: Tree, root: Listing) -> Iterator[Sighting]:
        """Of all below."""
        for listing in tree.walk(root):
            for candidate in tree.candidates(listing):
                yield in_folders(candidate, listing.path, root.path)
