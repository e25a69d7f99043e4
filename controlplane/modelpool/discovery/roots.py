"""PURE. Which folders are looked through, when, and what came of it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from modelpool.catalog.sources.registry import sources
from modelpool.catalog.sources.windows_paths import posix_path

RootState = Literal["new", "scanning", "ready", "unreadable", "hung"]
# One that hangs keeps a process each time, which nobody can end.
HUNG_RETRY_SECONDS = 600.0
# A folder that is written to all the time is looked at nevertheless.
MOST_CALM_PERIODS = 6
# How the kernel writes spaces and the like.
OCTAL = re.compile(r"\\([0-7]{3})")
# Where the kernel tells of no change that another machine makes; WSL's drives are 9p or drvfs.
REMOTE = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "drvfs", "afs", "ceph", "glusterfs", "lustre"}
    | {"virtiofs", "vboxsf", "prl_fs", "ncpfs", "beegfs", "gpfs", "orangefs"}
)


class PathEntry(Protocol):
    """One of ``discovery_paths``."""

    @property
    def path(self) -> str | None: ...
    @property
    def source(self) -> str | None: ...


@dataclass(frozen=True)
class Root:
    """A folder to look through, or a single file; ``source`` is the name of its layout, empty for
    what it looks like. ``is_asked`` where a client named it, not the configuration.
    ``only_models``: of what is no model there nothing is told, not even that it is there."""

    path: str
    source: str = ""
    is_asked: bool = False
    only_models: bool = False

    def told_by(self, folders: Collection[str]) -> Root:
        """As it is told of: all that is in one of these folders, elsewhere only models. Their own
        links count as they do in a look, which follows them."""
        is_open = any(f"{self.path}/".startswith(f"{f.rstrip('/')}/") for f in folders)
        return dataclasses.replace(self, only_models=not is_open)


@dataclass(frozen=True)
class RootReport:
    """How a root is.

    Attributes:
        reason: why it could not be looked through.
        looked_at: when the last look ended that saw all of it, in seconds since 1970.
        tried_at: when the last look ended.
        seconds: that it took.
        files_read: whose headers it read; the others were known.
        device: of the file system, to tell a folder that is empty from one that is not mounted.
        edition: of what is known of its files.
    """

    root: Root
    state: RootState = "new"
    reason: str = ""
    source: str = ""
    looked_at: float | None = None
    tried_at: float | None = None
    seconds: float = 0.0
    folders: int = 0
    entries: int = 0
    files_read: int = 0
    device: int = 0
    edition: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values of every field."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RootReport:
        """The reverse; one that was looked through just then is not any more."""
        known = {f.name for f in dataclasses.fields(cls)}
        values = {k: v for k, v in data.items() if k in known} | {"root": Root(**data["root"])}
        report = cls(**values)
        if report.state != "scanning":
            return report
        return dataclasses.replace(report, state="ready" if report.looked_at else "new")


def wanted_roots(
    entries: Iterable[PathEntry], external: str | None, environ: Mapping[str, str], home: Path
) -> dict[str, Root]:
    """Every root of the configuration by its path, in its order.

    Args:
        external: M3's folder of providers.
    """
    found: dict[str, Root] = {}
    for entry in entries:
        source = entry.source or ""
        if entry.path is not None:
            found.setdefault(entry.path, Root(entry.path, source))
            continue
        for path in sources()[source].default_paths(environ, home):
            found.setdefault(str(path), Root(str(path), source))
    if external is not None:
        found.setdefault(external, Root(external, "external"))
    return found


def given_path(text: str, home: str, base: str | None = None) -> str:
    """A path as somebody wrote it, made absolute: ``~``, Windows' spellings, relative to ``base``.

    Raises:
        ValueError: it is none, or relative and nothing says to what.
    """
    if not text.strip() or "\0" in text:
        raise ValueError("should be the path of a folder")
    path = posix_path(text)
    if path == "~" or path.startswith("~/"):
        path = home + path[1:]
    if not path.startswith("/"):
        if base is None:
            raise ValueError("must be absolute here")
        path = f"{base}/{path}"
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def is_due(
    report: RootReport,
    now: float,
    interval: float,
    changed: tuple[float, float] | None,
    calm: float,
    is_watched: bool,
) -> bool:
    """Whether a root is to be looked through now.

    Args:
        now: seconds since 1970, as all times here.
        interval: between two looks at one that is not watched; 0: never.
        changed: when it was first and last told to have changed since the last look.
        calm: for which nothing must have changed.
    """
    if report.state == "scanning":
        return False
    if report.state == "hung":
        return now - (report.tried_at or 0.0) >= HUNG_RETRY_SECONDS
    if report.tried_at is None:
        return True
    if changed is not None:
        first, last = changed
        return now - last >= calm or now - first >= MOST_CALM_PERIODS * calm
    is_polled = not is_watched or report.state == "unreadable"
    return is_polled and interval > 0 and now - report.tried_at >= interval


def file_system_of(path: str, mountinfo: str) -> str:
    """The type of the file system that a path is on, by ``/proc/self/mountinfo``: nothing touches
    the path itself, which may hang. Empty where that cannot be told."""
    best, kind = "", ""
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if " - " not in line or len(fields) < 5:
            continue
        point = OCTAL.sub(lambda m: chr(int(m[1], 8)), fields[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, line.split(" - ", 1)[1].split(" ")[0]
    return kind


def can_be_watched(file_system: str) -> bool:
    """Whether the kernel tells of every change there."""
    return file_system not in REMOTE and not file_system.startswith("fuse")
