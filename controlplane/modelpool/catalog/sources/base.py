"""The contract of a source: where a program keeps models, and what it calls them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from modelpool.catalog.formats.base import Candidate, Listing


@dataclass(frozen=True)
class Sighting:
    """Files that a layout has in one place, under the name that it gives them.

    Attributes:
        name: what the layout calls the model, without its quantisation: ``owner/repo``,
            ``llama3.2``; empty where it has no names and the files' own count.
        tag: what the layout itself puts behind the name: ``7b``; else the quantisation does.
        other_names: further full names of the same files.
        family: of which models and companions go together: a folder, or a repository.
        digest: of the content, where the layout says it: ``sha256:…``.
        companions: what the layout says goes with it, by kind, as paths.
        facts: what the layout keeps beside the model, as plain JSON.
        is_repository: the name is that of a hub's repository, whatever its files are called.
        provider: who made it, where the layout says so.
    """

    candidate: Candidate
    name: str
    family: str
    tag: str = ""
    other_names: tuple[str, ...] = ()
    digest: str = ""
    companions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    provider: str = ""
    is_repository: bool = False


class Tree(Protocol):
    """The way of a source to the disk: every folder is read once, within bounds."""

    def walk(self, listing: Listing, enters: Callable[[Listing], bool] = ...) -> Iterator[Listing]:
        """The folder and all below it but hidden ones; what is below one that ``enters`` refuses is
        left out. What cannot be read is told as trouble and left out."""
        ...

    def listing(self, path: Path) -> Listing | None:
        """One folder; None where there is none, or it cannot be read."""
        ...

    def candidates(self, listing: Listing) -> Iterable[Candidate]:
        """What the formats see in a folder."""
        ...

    def read_text(self, path: Path) -> str | None:
        """A small file; None where there is none, or it is no text. Trouble where it is too
        large or cannot be read."""
        ...

    def trouble(self, path: Path, problem: str) -> None:
        """Tell of something that is no model, and why; for the end of a sentence that begins with
        the path."""
        ...


class Source(Protocol):
    """One layout."""

    name: str

    def default_paths(self, environ: Mapping[str, str], home: Path) -> Iterable[Path]:
        """Where it is unless somebody says otherwise. PURE."""
        ...

    def is_at(self, listing: Listing) -> bool:
        """Whether a folder has this layout, by what is in it. PURE."""
        ...

    def sightings(self, tree: Tree, root: Listing) -> Iterator[Sighting]:
        """All that looks like a model. Blocks."""
        ...
