"""PURE. What is found on a disk, as the child tells it and the store keeps it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from modelpool_client import __version__

from modelpool.catalog.fingerprint import Fingerprint
from modelpool.catalog.model_info import ModelInfo

# A model; what goes with one; none that can be loaded, and why; one that is still being written.
Kind = Literal["model", "companion", "broken", "unsettled"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is at a path.

    Attributes:
        path: what an engine is given.
        root: the folder that was looked through.
        name, tag, other_names, family, digest, companions, facts, provider, is_repository: see
            ``Sighting``.
        stamp: of sizes, times and inodes of its files: another one means to read them anew.
        problem: why it is no model, for the end of a sentence that begins with the path.
        companion: which kind it is of those that go with a model.
        identity: of the content, see ``identity``.
        info: what the files say, as ``info_as_dict`` has it.
        files: their fingerprint, for estimates.
    """

    path: str
    root: str
    kind: Kind
    format: str = ""
    name: str = ""
    tag: str = ""
    other_names: tuple[str, ...] = ()
    family: str = ""
    digest: str = ""
    stamp: str = ""
    problem: str = ""
    companion: str = ""
    identity: str = ""
    provider: str = ""
    is_repository: bool = False
    size_bytes: int = 0
    companions: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Any, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON, without what is empty."""
        values = {name: getattr(self, name) for name in _NAMES}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items() if v}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Finding:
        """The reverse; keys of other versions are ignored."""
        known = {k: v for k, v in data.items() if k in _NAMES}
        values: dict[str, Any] = {k: _tuple_of_list(v) for k, v in known.items()}
        return cls(**values)

    @property
    def fingerprint(self) -> Fingerprint:
        """Of its files, as they were when they were read."""
        digest, changed_at, files = self.files
        return Fingerprint(digest, changed_at, tuple((path, text) for path, text in files))


_NAMES = tuple(f.name for f in dataclasses.fields(Finding))


def info_as_dict(info: ModelInfo) -> dict[str, Any]:
    """What the files say, as plain JSON, without what they do not say."""
    blank = ModelInfo("", 0, 0, 0)
    return {
        f.name: _plain(value)
        for f in dataclasses.fields(info)
        if f.name != "draft" and (value := getattr(info, f.name)) != getattr(blank, f.name)
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def info_from_dict(data: Mapping[str, Any]) -> ModelInfo:
    """The reverse; keys of other versions are ignored."""
    blank = ModelInfo("", 0, 0, 0)
    names = {f.name for f in dataclasses.fields(blank)}
    known: dict[str, Any] = {k: _tuple_of_list(v) for k, v in data.items() if k in names}
    return dataclasses.replace(blank, **known)


def _tuple_of_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def edition() -> str:
    """Of what is known of a file: with another version it is read anew."""
    fields = ",".join(f.name for cls in (ModelInfo, Finding) for f in dataclasses.fields(cls))
    return f"{__version__}-{hashlib.sha256(fields.encode()).hexdigest()[:8]}"
