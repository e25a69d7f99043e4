"""What was pulled: a record of each pull, and which of its files are in use."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .base import path_problem
from .partial import read_record, write_json, writing

FOLDER = ".pulled"
ID_LENGTH = 24


@dataclass(frozen=True)
class PulledFile:
    """A file that was fetched.

    Attributes:
        path: relative to ``models_dir``.
        remote: its path at its origin.
        size: bytes.
        sha256: ``sha256:…`` of them.
        identity: what its origin called this content, see ``RemoteFile.identity``.
        reused: the file of another program that it is a link to; empty where it was fetched.
        is_ours: it is there because of a pull. Another lay there before, and is never removed.
        is_former: an earlier pull of the same fetched it, and there is none of that name any more.
    """

    path: str
    remote: str
    size: int
    sha256: str
    identity: str
    reused: str = ""
    is_ours: bool = True
    is_former: bool = False


@dataclass(frozen=True)
class PullRecord:
    """One pull that came to its end. It is written beside the models, so that it goes with them.

    Attributes:
        reference: what was asked for.
        model_id: as what it was registered.
        revision: of its origin, see ``Listing``.
        pulled_at: seconds since 1970; 0 while it is under way, or where it was given up: of files
            that are not there yet ``sha256`` is empty then.
    """

    reference: str
    model_id: str
    revision: str
    files: tuple[PulledFile, ...]
    pulled_at: float

    def path(self, models_dir: Path) -> Path:
        """Where it is kept."""
        name = hashlib.sha256(self.reference.encode()).hexdigest()[:ID_LENGTH]
        return models_dir / FOLDER / f"{name}.json"

    def write(self, models_dir: Path) -> None:
        """Keep it, in place of the one of an earlier pull of the same."""
        path = self.path(models_dir)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, dataclasses.asdict(self))


def read_records(models_dir: Path) -> list[PullRecord]:
    """All that can be read, by what was asked for."""
    found = map(read_record, sorted((models_dir / FOLDER).glob("*.json")))
    records = [record for record in map(_record, found) if record is not None]
    return sorted(records, key=lambda r: r.reference)


def _record(data: Mapping[str, Any]) -> PullRecord | None:
    try:
        files = tuple(PulledFile(**file) for file in data["files"])
        if any(path_problem(file.path) for file in files):  # nobody's hand leads out of the folder
            return None
        return PullRecord(**{**data, "files": files})
    except (AttributeError, KeyError, TypeError):
        return None


def used_paths(models: Iterable[tuple[str, Mapping[str, Any], Mapping[str, Any]]]) -> set[str]:
    """Every path that models name: their sources, and what their options and metadata name. PURE.

    Args:
        models: source, options and metadata of each.
    """
    used: set[str] = set()
    for source, options, metadata in models:
        used.update(_texts([source, options, metadata.get("projector")]))
    return {path for path in used if path.startswith("/")}


def _texts(value: Any) -> Iterator[str]:
    """All that a value of JSON holds."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def in_use(record: PullRecord, models_dir: Path, used: Collection[str]) -> bool:
    """Whether a model needs what was pulled: it names one of the files, or the folder that they lie
    in. PURE."""
    return any(not used_by(file, models_dir, used).isdisjoint(used) for file in record.files)


def used_by(file: PulledFile, models_dir: Path, used: Collection[str]) -> set[str]:
    """By which of the paths that models name the file is meant: its own, or a folder's. PURE."""
    path = models_dir / file.path
    own = {str(path), *map(str, path.parents)}
    return own & set(used)


def unneeded(
    records: Sequence[PullRecord],
    models_dir: Path,
    used: Collection[str],
    kept: Collection[str] = (),
) -> list[tuple[PullRecord, list[PulledFile]]]:
    """Each pull that no model uses, with those of its files that no other pull shares. PURE.

    Args:
        used: paths that models name.
        kept: what was asked for by pulls that go on.
    """
    stays = [r for r in records if r.reference in kept or in_use(r, models_dir, used)]
    needed = {file.path for record in stays for file in record.files}
    return [
        (record, [file for file in record.files if file.is_ours and file.path not in needed])
        for record in records
        if record not in stays
    ]
