"""The contract of a format: which files of a folder make a model, and what they say of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from modelpool.catalog.model_info import ModelInfo

# What a model takes along, and is not one by itself.
Companion = Literal["projector", "adapter", "draft", "tokenizer"]


@dataclass(frozen=True)
class Entry:
    """One entry of a folder; of a link, ``is_folder`` and ``size`` (bytes) are its target's."""

    name: str
    is_folder: bool
    size: int


@dataclass(frozen=True)
class Listing:
    """A folder as it was read: its path, and its entries by name."""

    path: Path
    entries: Sequence[Entry]


@dataclass(frozen=True)
class Candidate:
    """Files that look like one model, or like what belongs to one.

    Attributes:
        format: the name of the format that reads it. What it is may be another, see
            ``ModelInfo.format``: MLX and safetensors have the same files.
        path: what an engine is given: the only file, the first of several parts, or the folder; of
            a download that has not ended, the file as it is called until then. A folder may be
            told twice with the same path: by the folder that it is in, and by itself.
        files: all that belong to it and are there.
        problem: why it is none that can be loaded, for the end of a sentence that begins with the
            path: ``misses part 2 of 3``; empty where names and sizes tell nothing against it.
        companion: what it is, where it is no model by itself and its name says so; the file may
            say so, too, see ``Format.companion``.
    """

    format: str
    path: Path
    files: tuple[Path, ...]
    problem: str = ""
    companion: Companion | None = None


class Format(Protocol):
    """One format of model files."""

    name: str
    # That runs it where nothing else is said.
    engine: str
    # Ends of names of its files, in lower case; none where only folders are models.
    suffixes: tuple[str, ...]
    # The first bytes of every such file; empty where it has none of its own.
    magic: bytes

    def candidates(self, listing: Listing) -> Iterable[Candidate]:
        """Which models the folder holds, or is, by names and sizes alone. PURE."""
        ...

    def read(self, path: Path) -> ModelInfo:
        """What the files say, from headers and configuration only: never a whole file of weights,
        and no code out of it. Blocks.

        Raises:
            BadModelFile: they are missing, unreadable, truncated, corrupt or no model.
        """
        ...

    def companion(self, info: ModelInfo) -> Companion | None:
        """What it is for other models, where it is no model by itself. PURE."""
        ...
