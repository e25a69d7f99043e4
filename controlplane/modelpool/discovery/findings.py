"""PURE. What is found on a disk, as the child tells it and the store keeps it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from sys import intern
from typing import Any, Literal

from modelpool_client import __version__

from modelpool.catalog.fingerprint import Fingerprint
from modelpool.catalog.model_info import ModelInfo
from modelpool.catalog.packed import NOTHING

NO_TEXTS: Mapping[str, str] = {}
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
        quantization, context_length, title, base_model, tokenizer, vocabulary_size: as the files
            say, where they do; the title is their own name for the model.
        info_text, fingerprint_text: all that they say, and which files they were, as JSON: there
            may be very many findings, and few are ever asked for it.
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
    quantization: str = ""
    context_length: int | None = None
    title: str = ""
    base_model: str = ""
    tokenizer: str = ""
    vocabulary_size: int = 0
    companions: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    facts: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    info_text: str = ""
    fingerprint_text: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON, without what is empty."""
        values = {name: getattr(self, name) for name in _NAMES}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items() if v}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Finding:
        """The reverse; keys of other versions are ignored."""
        values: dict[str, Any] = {
            k: intern(v) if k in _FEW else tuple(v) if type(v) is list else v
            for k, v in data.items()
            if k in _NAMES
        }
        return cls(**values)

    @property
    def info(self) -> ModelInfo | None:
        """What its files say; None where it is none that can be read."""
        return info_from_text(self.info_text) if self.info_text else None

    @property
    def fingerprint(self) -> Fingerprint:
        """Of its files, as they were when they were read."""
        digest, changed_at, files = json.loads(self.fingerprint_text)
        return Fingerprint(digest, changed_at, tuple((path, text) for path, text in files))


class Findings(Mapping[str, Finding]):
    """By path. One that a former manager wrote down, as ``texts``, is read when it is first asked
    for: the manager starts before anybody does."""

    def __init__(self, texts: Mapping[str, str] = NO_TEXTS) -> None:
        self._kept: dict[str, Finding | str] = dict(texts)

    def __getitem__(self, path: str) -> Finding:
        kept = self._kept[path]
        if isinstance(kept, str):
            kept = self._kept[path] = Finding.from_dict(json.loads(kept))
        return kept

    def put(self, findings: Mapping[str, Finding]) -> None:
        """Add or replace some."""
        self._kept.update(findings)

    def drop(self, path: str) -> None:
        """Remove one."""
        del self._kept[path]

    def __contains__(self, path: object) -> bool:
        return path in self._kept

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)


_NAMES = {f.name: None for f in dataclasses.fields(Finding)}
# Most findings have one of few values there: each is kept once.
_FEW = frozenset({"root", "kind", "format", "provider", "quantization", "companion", "tokenizer"})


def info_as_text(info: ModelInfo) -> str:
    """What the files say, as JSON, without what they do not say."""
    said = {
        f.name: _plain(value)
        for f in dataclasses.fields(info)
        if f.name != "draft" and (value := getattr(info, f.name)) != getattr(_BLANK, f.name)
    }
    return json.dumps(said, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def info_from_text(text: str) -> ModelInfo:
    """The reverse; keys of other versions are ignored."""
    said: Mapping[str, Any] = json.loads(text)
    known = {k: _tuple_of_list(v) for k, v in said.items() if k in _INFO_NAMES}
    return dataclasses.replace(_BLANK, **known)


_BLANK = ModelInfo("", 0, 0, 0)
_INFO_NAMES = frozenset(f.name for f in dataclasses.fields(ModelInfo))


def _tuple_of_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def edition() -> str:
    """Of what is known of a file: with another version it is read anew."""
    fields = ",".join(f.name for cls in (ModelInfo, Finding) for f in dataclasses.fields(cls))
    return f"{__version__}-{hashlib.sha256(fields.encode()).hexdigest()[:8]}"
