"""The way of a scan to the disk: each folder is read once, and there is an end to it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from modelpool.catalog.formats.base import Candidate, Entry, Format, Listing

MAX_DEPTH = 16
MAX_ENTRIES = 1_000_000
MAX_TEXT_BYTES = 1_048_576
# What the system makes up: no models, devices that hang, and links to everywhere.
OF_THE_SYSTEM = ("/dev", "/proc", "/sys")
# Of an entry that cannot be looked at, or is no file: not empty, so that whoever reads it says why.
UNKNOWN_BYTES = 1
IS_OF_THE_SYSTEM = "is made up by the system: there are no models in it"


@dataclass(frozen=True)
class Trouble:
    """Something that was left out, and why."""

    path: Path
    problem: str


class DiskTree:
    """The ``Tree`` of one scan.

    Attributes:
        troubles: what could not be read.
        folders, entries: how many were seen.
    """

    def __init__(self, formats: Mapping[str, Format], seen: Callable[[], object]) -> None:
        """``seen`` is called after each folder: it goes on."""
        self._formats = formats
        self._seen_one = seen
        self._visited: set[tuple[int, int]] = set()
        self._not_files = _devices(OF_THE_SYSTEM) - _devices(("/",))
        self._told: set[Path] = set()
        self.troubles: list[Trouble] = []
        self.folders = 0
        self.entries = 0

    def walk(
        self, listing: Listing, enters: Callable[[Listing], bool] = lambda _: True
    ) -> Iterator[Listing]:
        """See ``Tree``. Folders that links lead back to are not entered again, and those of the
        system not at all. Links come last: what lies here is called by the folders that it is
        in."""
        waiting: list[tuple[Path, int]] = [(listing.path, 0)]
        links: deque[tuple[Path, int]] = deque()
        while waiting or links:
            path, depth = waiting.pop() if waiting else links.popleft()
            at = self._entered(path, listing if depth == 0 else None)
            if at is None:
                continue
            yield at
            if not enters(at):
                continue
            below = [e.name for e in at.entries if e.is_folder and not e.name.startswith(".")]
            if depth == MAX_DEPTH and below:
                self.trouble(at.path, f"holds folders more than {MAX_DEPTH} deep, left out")
                continue
            folders = {at.path / name: (at.path / name).is_symlink() for name in below}
            links += [(folder, depth + 1) for folder, is_link in folders.items() if is_link]
            waiting += [(f, depth + 1) for f, is_link in reversed(folders.items()) if not is_link]

    def _entered(self, path: Path, listing: Listing | None) -> Listing | None:
        """None where it was entered before, or cannot be; ``listing`` where it is known already."""
        return (listing or self.listing(path)) if self._is_new(path) else None

    def _is_new(self, path: Path) -> bool:
        try:
            about = path.stat()
        except OSError as e:
            self.trouble(path, unreadable(e))
            return False
        if about.st_dev in self._not_files:
            self.trouble(path, IS_OF_THE_SYSTEM)
            return False
        key = (about.st_dev, about.st_ino)
        is_new = key not in self._visited
        self._visited.add(key)
        return is_new

    def listing(self, path: Path) -> Listing | None:
        """See ``Tree``."""
        if self.entries >= MAX_ENTRIES:
            self.trouble(path, f"was not looked at: over {MAX_ENTRIES} files were before it")
            return None
        try:
            with os.scandir(path) as found:
                entries = [entry for each in found for entry in self._entry(each)]
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as e:
            self.trouble(path, unreadable(e))
            return None
        self.folders += 1
        self.entries += len(entries)
        self._seen_one()
        return Listing(path, tuple(sorted(entries, key=lambda e: e.name)))

    def _entry(self, entry: os.DirEntry[str]) -> Iterator[Entry]:
        if not _is_text(entry.name):
            shown = entry.name.encode(errors="surrogateescape").decode(errors="backslashreplace")
            self.trouble(Path(entry.path).parent / shown, "has a name that is no UTF-8: rename it")
            return
        try:
            about = entry.stat()
        except OSError:
            yield Entry(entry.name, False, UNKNOWN_BYTES)
            return
        is_folder = stat.S_ISDIR(about.st_mode)
        is_file = stat.S_ISREG(about.st_mode)
        yield Entry(entry.name, is_folder, about.st_size if is_file else UNKNOWN_BYTES)

    def candidates(self, listing: Listing) -> Iterable[Candidate]:
        """See ``Tree``. Where several formats claim one path, the first has it."""
        found: dict[Path, Candidate] = {}
        for each in self._formats.values():
            for candidate in each.candidates(listing):
                found.setdefault(candidate.path, candidate)
        return found.values()

    def read_text(self, path: Path) -> str | None:
        """See ``Tree``."""
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                return None
            with path.open("rb") as file:
                data = file.read(MAX_TEXT_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as e:
            self.trouble(path, unreadable(e))
            return None
        if len(data) > MAX_TEXT_BYTES:
            self.trouble(path, f"has over {MAX_TEXT_BYTES} bytes, which is too much for what it is")
            return None
        return data.decode(errors="replace")

    def trouble(self, path: Path, problem: str) -> None:
        """See ``Tree``."""
        if path not in self._told:
            self._told.add(path)
            self.troubles.append(Trouble(path, problem))


def _devices(folders: Iterable[str]) -> set[int]:
    """The numbers of the file systems that these are on."""
    found = set()
    for folder in folders:
        with contextlib.suppress(OSError):
            found.add(os.stat(folder).st_dev)
    return found


def unreadable(error: OSError) -> str:
    """Why something cannot be read, for the end of a sentence."""
    return f"cannot be read: {error.strerror or error}"


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
