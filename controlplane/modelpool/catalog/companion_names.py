"""PURE. What was found with a model, taken by name: ``draft_model: tiny-draft``,
``lora: [pirate]``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from modelpool_client.errors import InvalidRequest

from .model import did_you_mean, printable

# Options that name one file, with the kind of it.
KINDS = {"mmproj": "projector", "draft_model": "draft"}
LORA = "lora"


def with_paths(
    options: Mapping[str, Any], companions: Mapping[str, Iterable[str]]
) -> dict[str, Any]:
    """The options, with the path of each companion that they call by its name: that of its file,
    with or without its suffix.

    Args:
        companions: paths of what goes with the model, by kind.

    Raises:
        InvalidRequest: none is called so.
    """
    done = dict(options)
    for option, kind in KINDS.items():
        name = options.get(option)
        if isinstance(name, str) and _is_name(name):
            done[option] = _path(name, option, kind, companions)
    adapters = options.get(LORA)
    if isinstance(adapters, list | tuple):
        done[LORA] = [_adapter(each, companions) for each in adapters]
    return done


def _adapter(said: Any, companions: Mapping[str, Iterable[str]]) -> Any:
    entry = {"name": said} if isinstance(said, str) else said
    if not isinstance(entry, Mapping):
        return said
    name = entry.get("path", entry.get("name"))
    if not isinstance(name, str) or not _is_name(name):
        return said
    path = _path(name, LORA, "adapter", companions)
    return {"name": _stem(path), **entry, "path": path}


def _is_name(text: str) -> bool:
    return bool(text) and "/" not in text


def _path(name: str, option: str, kind: str, companions: Mapping[str, Iterable[str]]) -> str:
    known = {PurePath(p).name: p for p in reversed(tuple(companions.get(kind, ())))}
    known = {_stem(path): path for path in known.values()} | known
    if name in known:
        return known[name]
    stems = sorted({_stem(path) for path in known.values()})
    there = f"those are {', '.join(stems)}" if stems else "there is none"
    text = f"options.{option} {printable(name[:200])!r} is no {kind} that was found with the model"
    raise InvalidRequest(
        f"{text}: {there}{did_you_mean(name, stems)}; or give an absolute path",
        param=f"options.{option}",
    )


def _stem(path: str) -> str:
    return PurePath(path).stem
