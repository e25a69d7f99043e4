"""Where the files of a pull go, and what is there already."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from modelpool_client.errors import BadGateway, Conflict, ModelPoolError

from .base import RemoteFile, path_problem
from .download import Fetched, whole
from .records import PulledFile, PullRecord, read_records
from .reference import Reference, parse_reference

MARK, MARK_DIGITS = "~", 8


def check_paths(files: Sequence[RemoteFile]) -> None:
    """Whatever an origin announces stays below its folder. PURE.

    Raises:
        BadGateway: code ``bad_path``.
    """
    for file in files:
        if problem := path_problem(file.path):
            text = f"a file that is announced as {file.path[:200]!r} {problem}"
            raise BadGateway(text, source="upstream", code="bad_path")


def folder_name(
    usual: str, reference: Reference, files: Sequence[RemoteFile], records: Sequence[PullRecord]
) -> str:
    """The folder below ``models_dir``: the origin's usual one, or one beside it where a pull from
    elsewhere has other files under the same names: two URLs that end alike. PURE."""
    wanted = {f"{usual}/{file.path}": file for file in files}
    for record in records:
        if _comes_from(record.reference) == _comes_from(str(reference)):
            continue
        for held in record.files:
            file = wanted.get(held.path)
            if file is not None and not _is_same(file, held.sha256):
                digest = hashlib.sha256(str(reference).encode()).hexdigest()[:MARK_DIGITS]
                return f"{usual}{MARK}{digest}"
    return usual


def _comes_from(text: str) -> tuple[str, ...]:
    """What has one folder: quantisations of a repository share theirs."""
    try:
        found = parse_reference(text)
    except ModelPoolError:  # an origin of another package
        return (text,)
    parts = (found.scheme, found.host, found.name, found.revision)
    return parts if found.scheme == "hf" else (*parts, found.variant)


def _is_same(file: RemoteFile, sha256: str) -> bool:
    return bool(sha256) and file.digest == sha256


class Place:
    """The folder of one pull: what is there, and whose it is."""

    def __init__(
        self,
        models_dir: Path,
        name: str,
        files: Sequence[RemoteFile],
        records: Sequence[PullRecord],
        former: PullRecord | None,
    ) -> None:
        self._models_dir = models_dir
        self._name = name
        self._files = files
        self._former = former
        held = {file.path: file for record in records for file in record.files}
        self._known = {
            path: Fetched(models_dir / path, file.size, file.sha256, file.reused)
            for path, file in held.items()
            if file.sha256
        }
        self._owned = {f.path for record in records for f in record.files if f.is_ours}

    @classmethod
    def taken(
        cls, models_dir: Path, usual: str, reference: Reference, files: Sequence[RemoteFile]
    ) -> Place:
        """The place of a pull, by what earlier ones put there."""
        records = read_records(models_dir)
        former = next((r for r in records if r.reference == str(reference)), None)
        name = folder_name(usual, reference, files, records)
        return cls(models_dir, name, files, records, former)

    @property
    def folder(self) -> Path:
        """Where the files go."""
        return self._models_dir / self._name

    def target(self, file: RemoteFile) -> Path:
        """Where that file goes."""
        return self.folder / file.path

    def present(self) -> dict[str, Fetched]:
        """Files that are there already, by their paths.

        Raises:
            Conflict: code ``file_in_the_way``: another is there, which no pull put there.
        """
        found = {}
        for file in self._files:
            target = self.target(file)
            fetched = whole(file, target, self._known.get(self._path(file)))
            if fetched is not None:
                found[file.path] = fetched
            elif self._path(file) not in self._owned and os.path.lexists(target):
                text = f"{target} is another file than that of the origin, and was not pulled"
                step = "move it away, or name another models_dir"
                raise Conflict(f"{text}: {step}", code="file_in_the_way")
        return found

    @cached_property
    def plan(self) -> tuple[PulledFile, ...]:
        """What the pull's record says before anything is fetched; what lies there and no pull put
        there stays its owner's."""
        planned = []
        for file in self._files:
            path = self._path(file)
            known = self._known.get(path)
            is_known = known is not None and file.digest == known.sha256
            size, sha256 = (known.size, known.sha256) if known and is_known else (0, "")
            is_ours = path in self._owned or not os.path.lexists(self.target(file))
            planned.append(
                PulledFile(path, file.path, size, sha256, file.identity, is_ours=is_ours)
            )
        return (*planned, *self._no_more())

    def pulled(self, present: Mapping[str, Fetched]) -> tuple[PulledFile, ...]:
        """What it says when all is there."""
        ours = {file.path: file.is_ours for file in self.plan}
        files = []
        for file in self._files:
            path, found = self._path(file), present[file.path]
            identity = file.identity or found.sha256
            files.append(
                PulledFile(
                    *(path, file.path, found.size, found.sha256, identity),
                    reused=found.reused,
                    is_ours=ours.get(path, True),
                )
            )
        return (*files, *self._no_more())

    def give_up(self, record: PullRecord) -> None:
        """Nothing was begun: its record says again what it said before."""
        if self._former is not None:
            self._former.write(self._models_dir)
        else:
            record.path(self._models_dir).unlink(missing_ok=True)

    def _no_more(self) -> Iterator[PulledFile]:
        """What an earlier pull of the same put there and this one does not know: it goes when the
        model goes."""
        now = {self._path(file) for file in self._files}
        for file in self._former.files if self._former is not None else ():
            if file.path not in now:
                yield dataclasses.replace(file, is_former=True)

    def _path(self, file: RemoteFile) -> str:
        return f"{self._name}/{file.path}"
