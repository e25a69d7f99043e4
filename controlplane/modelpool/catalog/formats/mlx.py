"""MLX, of Apple: folders like those for transformers, whose weights are quantised its own way."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from modelpool.catalog.model_info import ModelInfo

from .base import Candidate, Companion, Listing
from .transformers_files import candidates, companion_of_kind, is_for_mlx
from .transformers_folder import read_folder


class Mlx:
    """Folders whose names tell that they were made for MLX; what they are says
    ``ModelInfo.format``."""

    name = "mlx"
    engine = "mlx"
    suffixes = ()
    magic = b""

    def candidates(self, listing: Listing) -> Iterable[Candidate]:
        """The folder itself."""
        return candidates(listing, self.name) if is_for_mlx(listing.path) else ()

    def read(self, path: Path) -> ModelInfo:
        """What the folder says."""
        return read_folder(path)

    def companion(self, info: ModelInfo) -> Companion | None:
        """Adapters and tokenizers."""
        return companion_of_kind(info.kind)
