"""A folder of providers' folders, ``provider/repo/file``: EXTERNAL_MODELS_DIR of the environment.

Below the provider it is ``owner/repo``, or only a repository; several quantisations lie side by
side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from modelpool.catalog.formats.base import Listing

from .base import Sighting, Tree
from .named_folders import in_folders


class External:
    """As any folder, and the first one below says who made a model."""

    name = "external"

    def default_paths(self, environ: Mapping[str, str], home: Path) -> Iterable[Path]:
        """None: the configuration has it (``external_models_dir``)."""
        return ()

    def is_at(self, listing: Listing) -> bool:
        """Never of its own: what is in it looks like any other tree."""
        return False

    def sightings(self, tree: Tree, root: Listing) -> Iterator[Sighting]:
        """Of all below."""
        for listing in tree.walk(root):
            below = listing.path.relative_to(root.path).parts
            for candidate in tree.candidates(listing):
                yield in_folders(candidate, listing.path, root.path, below[0] if below else "")
