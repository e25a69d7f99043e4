"""Looks through one folder. Blocks, for ever where a network is gone: run by ``scanner``."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from modelpool_client.errors import InvalidRequest

from modelpool.catalog.errors import BadModelFile
from modelpool.catalog.fingerprint import fingerprint
from modelpool.catalog.formats.base import Format, Listing
from modelpool.catalog.formats.registry import formats
from modelpool.catalog.model import Model
from modelpool.catalog.sources.base import Sighting, Source
from modelpool.catalog.sources.registry import source_at, sources
from modelpool.discovery.findings import Finding, info_as_text
from modelpool.discovery.identity import Identities
from modelpool.discovery.tree import DiskTree, Trouble, unreadable

SETTLING_ROUNDS = 2
STILL_WRITTEN = "is still being written, or was until a moment ago"


@dataclass(frozen=True)
class ScanRequest:
    """What is to be looked through, and how.

    Attributes:
        source: the name of its layout; empty: what it looks like.
        known: the stamp of each path that was read before; those are not read again.
        calm_seconds: a file that was written within that time is looked at again after it.
        left_out: names of formats that are not looked for.
    """

    root: str
    source: str = ""
    known: Mapping[str, str] | None = None
    calm_seconds: float = 0.0
    left_out: Collection[str] = ()


@dataclass(frozen=True)
class Same:
    """What was known of a path is still so, but for what its layout says."""

    path: str
    about: Mapping[str, Any]


# Told of folders, files and models so far.
Progress = Callable[[int, int, int], object]


class Scan:
    """One look through one folder.

    Attributes:
        source: the name of the layout, once it is known.
        files_read: whose headers were read.
    """

    def __init__(
        self,
        request: ScanRequest,
        progress: Progress = lambda *_: None,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._request = request
        self._progress = progress
        self._wall = wall
        self._sleep = sleep
        wanted = {n: f for n, f in formats().items() if n not in request.left_out}
        self._formats: Mapping[str, Format] = wanted
        self._tree = DiskTree(wanted, self._tell)
        self._identities = Identities()
        self._known = request.known or {}
        self._models = 0
        self.source = request.source
        self.files_read = 0

    def _tell(self) -> None:
        self._progress(self._tree.folders, self._tree.entries, self._models)

    @property
    def counts(self) -> dict[str, int]:
        """Of folders, entries and files that were read."""
        tree = self._tree
        return {"folders": tree.folders, "entries": tree.entries, "files_read": self.files_read}

    def run(self) -> Iterator[Finding | Same]:
        """All that is there. A root that is a file stands for itself.

        Raises:
            InvalidRequest: the root cannot be read: nothing is known of what is in it.
        """
        listing = self._root()
        source = sources()[self.source] if self.source else source_at(listing)
        self.source = source.name
        fresh: list[Sighting] = []
        for sighting in self._sightings(source, listing):
            if self._is_fresh(sighting):
                fresh.append(sighting)
            else:
                yield self._finding(sighting)
        yield from self._settled(fresh)
        yield from map(self._broken, self._tree.troubles)

    def _root(self) -> Listing:
        path = Path(self._request.root)
        try:
            if path.is_file():
                path = path.parent
            os.listdir(path)
        except OSError as e:
            raise InvalidRequest(f"{path} {unreadable(e)}", param="paths") from None
        listing = self._tree.listing(path)
        assert listing is not None
        return listing

    def _sightings(self, source: Source, listing: Listing) -> Iterator[Sighting]:
        """Each path once. Of a root that is a file only that."""
        seen, only = set(), Path(self._request.root)
        for sighting in source.sightings(self._tree, listing):
            path = sighting.candidate.path
            if path not in seen and (listing.path == only or path == only):
                seen.add(path)
                self._models += 1
                yield sighting

    def _is_fresh(self, sighting: Sighting) -> bool:
        if sighting.candidate.problem:
            return False
        age = self._wall() - _changed_at(sighting.candidate.files)
        return 0 <= age < self._request.calm_seconds

    def _settled(self, fresh: list[Sighting]) -> Iterator[Finding | Same]:
        """Those that were written just now, once nobody writes to them."""
        for _ in range(SETTLING_ROUNDS):
            if not fresh:
                return
            self._wait()
            calm = [each for each in fresh if not self._is_fresh(each)]
            fresh = [each for each in fresh if each not in calm]
            yield from map(self._finding, calm)
        yield from (self._as(each, "unsettled", problem=STILL_WRITTEN) for each in fresh)

    def _wait(self) -> None:
        """Telling meanwhile that it lives."""
        until = self._wall() + self._request.calm_seconds
        while (left := until - self._wall()) > 0:
            self._sleep(min(1.0, left))
            self._tell()

    def _finding(self, sighting: Sighting) -> Finding | Same:
        candidate = sighting.candidate
        stamp = _stamp(candidate.files)
        if candidate.problem:
            return self._as(sighting, "broken", stamp=stamp, problem=candidate.problem)
        if self._known.get(str(candidate.path)) == stamp:
            about = self._as(sighting, "model").as_dict()
            return Same(str(candidate.path), {k: about.get(k) for k in _BY_LAYOUT})
        self.files_read += 1
        self._tell()
        return self._read(sighting, stamp)

    def _read(self, sighting: Sighting, stamp: str) -> Finding:
        candidate = sighting.candidate
        read_by = self._formats[candidate.format]
        try:
            model = Model("", read_by.engine, str(candidate.path))
            files = fingerprint(model)  # first: what changes meanwhile is seen to have changed
            info = read_by.read(candidate.path)
            identity = self._identities.of(p for p in candidate.files if p.is_file())
        except BadModelFile as e:
            if _may_pass(e.__context__):
                stamp = ""
            where = "" if e.path == candidate.path else f"{e.path.name}: "
            return self._as(sighting, "broken", stamp=stamp, problem=f"{where}{e.problem}")
        except OSError as e:
            return self._as(sighting, "broken", problem=unreadable(e))
        kind = formats()[info.format].companion(info) or candidate.companion
        return self._as(
            sighting,
            "companion" if kind else "model",
            stamp=stamp,
            companion=kind or "",
            format=info.format,
            identity=identity,
            size_bytes=info.file_bytes,
            quantization=info.quantization or "",
            context_length=info.context_length,
            title=info.name or "",
            base_model=info.base_model or "",
            tokenizer=info.tokenizer or "",
            vocabulary_size=info.vocabulary_size or 0,
            info_text=info_as_text(info),
            fingerprint_text=json.dumps(files, separators=(",", ":")),
        )

    def _as(self, sighting: Sighting, kind: str, **values: Any) -> Finding:
        candidate = sighting.candidate
        said: dict[str, Any] = {
            "path": str(candidate.path),
            "root": self._request.root,
            "kind": kind,
            "format": candidate.format,
            **{name: getattr(sighting, name) for name in _BY_LAYOUT},
        }
        return Finding(**said | values)

    def _broken(self, trouble: Trouble) -> Finding:
        return Finding(str(trouble.path), self._request.root, "broken", problem=trouble.problem)


_BY_LAYOUT = (
    "name",
    "tag",
    "other_names",
    "family",
    "digest",
    "companions",
    "facts",
    "provider",
    "is_repository",
)


def _may_pass(error: BaseException | None) -> bool:
    """PURE. Whether a file may be readable the next time though nothing of it changed."""
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError)


def updated(finding: Finding, same: Same) -> Finding:
    """PURE. What was known of a path, with what its layout says now."""
    said = Finding.from_dict({"path": "", "root": "", "kind": "model"} | _without_none(same.about))
    return replace(finding, **{name: getattr(said, name) for name in _BY_LAYOUT})


def _without_none(data: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in data.items() if v is not None}


def _stamp(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        try:
            about = os.stat(path)
        except OSError as e:
            digest.update(f"{path.name} {e.errno};".encode())
            continue
        # Not only what was written: who may read it, too.
        times = f"{about.st_mtime_ns} {about.st_ctime_ns}"
        digest.update(f"{path.name} {about.st_size} {times} {about.st_ino};".encode())
    return digest.hexdigest()[:16]


def _changed_at(files: Iterable[Path]) -> float:
    """When the last of them was written, in seconds since 1970."""
    times = [0.0]
    for path in files:
        try:
            times.append(path.stat().st_mtime)
        except OSError:  # reading it says why
            continue
    return max(times)
