"""What the manager does about pulled models: what the disk holds, and making room on it.

All that looks at the disk does so in a thread: it may be slow, or hang.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelpool.catalog.catalog import Catalog
from modelpool.catalog.model import Model
from modelpool.jobs.runner import Jobs

from .partial import RECORD_SUFFIX, SUFFIX, is_in_use, read_record
from .records import PulledFile, PullRecord, in_use, read_records, unneeded, used_paths

KIND = "pull"


@dataclass(frozen=True)
class UnfinishedFile:
    """A file that is not whole: of what pull, and whether one goes on with it."""

    path: Path
    size: int
    reference: str
    is_wanted: bool


@dataclass(frozen=True)
class Holding:
    """What one pull put on the disk, in bytes, and the ids of the models that use it."""

    record: PullRecord
    size: int
    models: tuple[str, ...]


@dataclass(frozen=True)
class Disk:
    """What is in ``models_dir``, and what room its disk has, in bytes."""

    models_dir: Path
    total: int
    free: int
    holdings: Sequence[Holding] = ()
    unfinished: Sequence[UnfinishedFile] = ()


@dataclass(frozen=True)
class Removal:
    """Files that are gone, or would be: absolute paths, their bytes; ``kept``: others that stay,
    because other models use them."""

    files: tuple[str, ...] = ()
    size: int = 0
    kept: tuple[str, ...] = ()


class Pulls:
    """Reads and removes what pulls left in ``models_dir``. ``folder`` tells where that is."""

    def __init__(self, catalog: Catalog, jobs: Jobs, folder: Callable[[], Path]) -> None:
        self._catalog = catalog
        self._jobs = jobs
        self._folder = folder
        self._removing = asyncio.Lock()

    async def disk(self) -> Disk:
        """What there is."""
        models, wanted = list(self._catalog), self._wanted()
        return await asyncio.to_thread(_disk, self._folder(), models, wanted)

    async def prune(self, *, dry_run: bool) -> Removal:
        """Remove what no model uses: pulled files, and files that are not whole, unless their job
        may go on by itself or waits to be resumed."""
        async with self._removing:
            used, wanted = _used(self._catalog), self._wanted()
            return await asyncio.to_thread(_prune, self._folder(), used, wanted, dry_run=dry_run)

    async def remove(self, model: Model) -> Removal:
        """Remove the files that were pulled for a model that is gone from the catalog; not those
        that others use, and nothing that was not pulled."""
        async with self._removing:
            used = _used(m for m in self._catalog if m.model_id != model.model_id)
            return await asyncio.to_thread(_remove, self._folder(), model, used, self._wanted())

    def _wanted(self) -> set[str]:
        """What pulls that are not over are about."""
        return {job.subject for job in self._jobs.list(KIND) if not job.state.is_over}


def _used(models: Iterable[Model]) -> set[str]:
    return used_paths(
        (m.source, {"options": m.options, "companions": m.companions}, m.metadata) for m in models
    )


def _by_every_name(used: set[str], models_dir: Path) -> set[str]:
    """Paths that models name, and how those begin with ``models_dir`` that get there by links."""
    real, found = os.path.realpath(models_dir), set(used)
    for path in used:
        for name in (os.path.realpath(path), _real_folder(path)):
            if name == real or name.startswith(f"{real}{os.sep}"):
                found.add(f"{models_dir}{name.removeprefix(real)}")
    return found


def _real_folder(path: str) -> str:
    """Links of the way resolved, and not the last, which may be one of ours out of the folder."""
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)


def _disk(models_dir: Path, models: Sequence[Model], wanted: set[str]) -> Disk:
    place = next(path for path in (models_dir, *models_dir.parents) if path.exists())
    usage = shutil.disk_usage(place)
    uses = {m.model_id: _by_every_name(_used([m]), models_dir) for m in models}
    holdings = [
        Holding(
            record,
            sum(_size(models_dir / file.path) for file in record.files),
            tuple(i for i, used in uses.items() if in_use(record, models_dir, used)),
        )
        for record in read_records(models_dir)
    ]
    unfinished = list(_unfinished(models_dir, wanted))
    return Disk(models_dir, usage.total, usage.free, holdings, unfinished)


def _unfinished(models_dir: Path, wanted: set[str]) -> Iterable[UnfinishedFile]:
    for path in sorted(models_dir.rglob(f".*{SUFFIX}")):
        subject = str(read_record(_record_of(path)).get("subject", ""))
        if not subject:  # another program's, that calls its own so, too
            continue
        is_wanted = subject in wanted or is_in_use(path)
        yield UnfinishedFile(path, _size(path), subject, is_wanted)


def _record_of(partial: Path) -> Path:
    return partial.with_name(partial.name.removesuffix(SUFFIX) + RECORD_SUFFIX)


def _prune(models_dir: Path, used: set[str], wanted: set[str], *, dry_run: bool) -> Removal:
    used = _by_every_name(used, models_dir)
    goes = unneeded(read_records(models_dir), models_dir, used, wanted)
    found = [path for _, files in goes for path in _there(files, models_dir)]
    found += [file.path for file in _unfinished(models_dir, wanted) if not file.is_wanted]
    removal = _removed(found, models_dir, dry_run=dry_run)
    if not dry_run:
        _forget((record for record, _ in goes), models_dir)
    return removal


def _remove(models_dir: Path, model: Model, used: set[str], wanted: set[str]) -> Removal:
    records = read_records(models_dir)
    used, own_paths = (_by_every_name(each, models_dir) for each in (used, _used([model])))
    own = [r for r in records if in_use(r, models_dir, own_paths)]
    goes = {id(r): files for r, files in unneeded(records, models_dir, used, wanted)}
    found: list[Path] = []
    kept: list[str] = []
    for record in own:
        files = goes.get(id(record), [])
        kept += [str(models_dir / file.path) for file in record.files if file not in files]
        found += _there(files, models_dir)
    removed = _removed(found, models_dir, dry_run=False)
    _forget((record for record in own if id(record) in goes), models_dir)
    return Removal(removed.files, removed.size, tuple(kept))


def _there(files: Iterable[PulledFile], models_dir: Path) -> list[Path]:
    """Those that are there; a link is, whose file another program has removed."""
    paths = [models_dir / file.path for file in files]
    return [path for path in paths if path.is_file() or path.is_symlink()]


def _forget(records: Iterable[PullRecord], models_dir: Path) -> None:
    """After their files: what a kill leaves in between is found the next time."""
    for record in records:
        record.path(models_dir).unlink(missing_ok=True)


def _removed(paths: Sequence[Path], models_dir: Path, *, dry_run: bool) -> Removal:
    unique = list(dict.fromkeys(paths))
    size = sum(map(_own_size, unique))
    if not dry_run:
        for path in unique:
            path.unlink(missing_ok=True)
            _record_of(path).unlink(missing_ok=True)
            _remove_empty(path.parent, models_dir)
    return Removal(tuple(map(str, unique)), size)


def _remove_empty(folder: Path, models_dir: Path) -> None:
    with contextlib.suppress(OSError):  # the first that is not empty
        while folder != models_dir and folder.is_relative_to(models_dir):
            folder.rmdir()
            folder = folder.parent


def _own_size(path: Path) -> int:
    """What its disk has more without it: nothing, where it is one of several links."""
    try:
        found = path.lstat()
    except OSError:
        return 0
    return 0 if path.is_symlink() or found.st_nlink > 1 else found.st_size


def _size(path: Path) -> int:
    """As the file says, not as its disk stores it; 0 where it is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
