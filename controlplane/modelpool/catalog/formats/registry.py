"""Which formats of model files there are, built in or plugged in; each is imported when used."""

from __future__ import annotations

import importlib.metadata
import os
from functools import cache
from importlib import import_module
from pathlib import Path

from modelpool.catalog.errors import BadModelFile
from modelpool.catalog.model_info import ModelInfo

from .base import Candidate, Companion, Format
from .files import opened, read_listing

GROUP = "modelpool.formats"
BUILT_IN = {
    "gguf": "modelpool.catalog.formats.gguf:Gguf",
    "mlx": "modelpool.catalog.formats.mlx:Mlx",
    "safetensors": "modelpool.catalog.formats.safetensors:Safetensors",
    "onnx": "modelpool.catalog.formats.onnx:Onnx",
    "coreml": "modelpool.catalog.formats.coreml:CoreMl",
}
MAX_NAMED = 5


@cache
def formats() -> dict[str, Format]:
    """Every format by its name."""
    return {name: _made(location) for name, location in {**_plugins(), **BUILT_IN}.items()}


def read(path: Path | str) -> ModelInfo:
    """What the model at a path says of itself: a file, the first of several parts, or a folder that
    is a model. Which format that is, is found out.

    ``formats()[info.format].engine`` runs it, and ``companion_of(info)`` says whether it is a model
    by itself. Blocks, for milliseconds up to some tenths of a second: not for the event loop.

    Raises:
        BadModelFile: it is missing, unreadable, half-downloaded, truncated, corrupt, of no format
            known here, or a folder that holds models and is none.
    """
    path = Path(path)
    found = _of_folder(path) if os.path.isdir(path) else _of_file(path)
    return found.read(path)


def companion_of(info: ModelInfo) -> Companion | None:
    """What it is for other models, where it is no model by itself."""
    return formats()[info.format].companion(info)


def _of_file(path: Path) -> Format:
    """By its name, else by its first bytes: stores that name files by their digests have no
    suffixes."""
    by_name = [f for f in formats().values() if path.name.lower().endswith(f.suffixes)]
    if by_name:
        return by_name[0]
    with opened(path) as (file, _):
        begin = file.read(max(len(f.magic) for f in formats().values()))
    by_magic = [f for f in formats().values() if f.magic and begin.startswith(f.magic)]
    if not by_magic:
        raise BadModelFile(path, f"is of no format known here: {', '.join(formats())}")
    return by_magic[0]


def _of_folder(path: Path) -> Format:
    listing = read_listing(path)
    found = [c for f in formats().values() for c in f.candidates(listing)]
    own = sorted((c for c in found if c.path == path), key=_worth)
    if not own:
        raise BadModelFile(path, _no_model(found))
    if own[0].problem:
        raise BadModelFile(path, own[0].problem)
    return formats()[own[0].format]


def _worth(candidate: Candidate) -> tuple[bool, bool]:
    """A model before what goes with one, what can be loaded before what cannot."""
    return candidate.companion is not None, bool(candidate.problem)


def _no_model(found: list[Candidate]) -> str:
    names = [c.path.name for c in found[:MAX_NAMED]]
    if not names:
        return f"is a folder that is no model of a format known here: {', '.join(formats())}"
    more = " and more" if len(found) > MAX_NAMED else ""
    return f"is a folder with models in it and none itself: name one of {', '.join(names)}{more}"


def _made(location: str) -> Format:
    module, _, attribute = location.partition(":")
    made: Format = getattr(import_module(module), attribute)()
    return made


def _plugins() -> dict[str, str]:
    return {e.name: e.value for e in importlib.metadata.entry_points(group=GROUP)}
