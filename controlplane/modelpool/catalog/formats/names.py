"""What names of files tell: parts of one model, companions, downloads that did not end. PURE."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from .base import Companion, Listing

MAX_PARTS = 1024
PART_NAME = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\.[A-Za-z]+)", re.DOTALL)
# What browsers, curl, huggingface_hub, aria2 and the like put behind the name of what they fetch.
UNFINISHED = (".part", ".partial", ".incomplete", ".download", ".crdownload", ".tmp")
# Of aria2, beside the file itself, which has its full length from the first byte on.
CONTROL = ".aria2"
DOWNLOADING = "is a download that has not ended"

# Words of a name, between anything that is no letter or digit.
_WORDS = re.compile(r"[^a-z0-9]+")
_COMPANION_WORDS: tuple[tuple[Companion, frozenset[str]], ...] = (
    ("projector", frozenset({"mmproj"})),
    ("adapter", frozenset({"lora", "qlora", "adapter"})),
    ("draft", frozenset({"draft", "drafter", "eagle3", "speculator"})),
)
# Of an adapter that was worked into a model, which then is a model like any other.
_MERGED = frozenset({"merged", "merge", "fused"})
# As llama.cpp names files of a vocabulary alone.
_VOCABULARY = "ggml-vocab-"


@dataclass(frozen=True)
class Part:
    """One of the files of a split model: the ``index``-th of ``count``, from 1."""

    stem: str
    index: int
    count: int
    suffix: str


def part_of(name: str) -> Part | None:
    """What a name such as ``model-00001-of-00003.gguf`` says; None for any other."""
    match = PART_NAME.fullmatch(name)
    if match is None:
        return None
    part = Part(match[1], int(match[2]), int(match[3]), match[4])
    return part if 1 <= part.index <= part.count <= MAX_PARTS else None


def parts_of(path: Path) -> list[Path]:
    """All parts of a model of which this is the first; itself where it has no others."""
    part = part_of(path.name)
    if part is None or part.index != 1:
        return [path]
    return [
        path.with_name(f"{part.stem}-{i:05}-of-{part.count:05}{part.suffix}")
        for i in range(1, part.count + 1)
    ]


def missing_part(files: Collection[Path], names: Collection[str]) -> str:
    """That one of a model's parts is not there; empty where all are."""
    missing = [i for i, f in enumerate(files, 1) if f.name not in names]
    return f"misses part {missing[0]} of {len(files)}" if missing else ""


def companion_by_name(name: str) -> Companion | None:
    """What a file or folder of that name is for other models, if the name says so."""
    words = frozenset(_WORDS.split(name.lower()))
    if name.lower().startswith(_VOCABULARY):
        return "tokenizer"
    kind = next((kind for kind, said in _COMPANION_WORDS if words & said), None)
    return None if kind == "adapter" and words & _MERGED else kind


def has_word(name: str, word: str) -> bool:
    """Whether it is one of the words of a name."""
    return word in _WORDS.split(name.lower())


def finished_name(name: str) -> str | None:
    """What a download that has not ended will be called; None for any other file."""
    return next((name.removesuffix(s) for s in UNFINISHED if name.endswith(s)), None)


def file_names(listing: Listing) -> dict[str, int]:
    """Every file of a folder with its bytes."""
    return {e.name: e.size for e in listing.entries if not e.is_folder}


def folder_names(listing: Listing) -> set[str]:
    """Every folder in a folder."""
    return {e.name for e in listing.entries if e.is_folder}


def file_problem(name: str, names: Mapping[str, int]) -> str:
    """What its name, its neighbours and its size tell against a file that should be there."""
    if f"{name}{CONTROL}" in names:
        return DOWNLOADING
    if name not in names and any(f"{name}{s}" in names for s in UNFINISHED):
        return DOWNLOADING
    return "is empty" if names.get(name) == 0 else ""


def promised(names: Mapping[str, int], suffix: str) -> dict[str, str]:
    """Every file with that suffix that is there, or that a download will make: what it will be
    called, with the name that it has now."""
    found = {name: name for name in names if name.lower().endswith(suffix)}
    for name in names:
        later = finished_name(name)
        if later is not None and later.lower().endswith(suffix):
            found.setdefault(later, name)
    return found
