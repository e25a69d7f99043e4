"""safetensors, of Hugging Face: folders for transformers, and files alone."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from modelpool.catalog.model_info import ModelInfo

from .base import Candidate, Companion, Listing
from .transformers_files import SUFFIX, candidates, companion_of_kind, is_for_mlx, single_files
from .transformers_folder import read_file, read_folder


class Safetensors:
    """Folders with a ``config.json``, adapters of PEFT, tokenizers, and files of weights alone.

    A folder whose name does not tell that it was made for MLX is found here; ``ModelInfo.format``
    says what it is.
    """

    name = "safetensors"
    engine = "transformers"
    suffixes = (SUFFIX,)
    magic = b""

    def candidates(self, listing: Listing) -> Iterable[Candidate]:
        """The folder itself, else each file or set of parts."""
        if not is_for_mlx(listing.path):
            yield from candidates(listing, self.name)
        yield from single_files(listing)

    def read(self, path: Path) -> ModelInfo:
        """What the folder or the file says."""
        return read_folder(path) if os.path.isdir(path) else read_file(path)

    def companion(self, info: ModelInfo) -> Companion | None:
        """Adapters and tokenizers."""
        return companion_of_kind(info.kind)
