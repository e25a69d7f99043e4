"""Which files of the host an option may name that came by the API: whoever reaches that must not
have any file read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .model import Model
from .parse_rules import Problem

# Whose values are paths of files, which are read beside a model's own.
FILE_OPTIONS = (
    "ca_file",
    "chat_template_file",
    "draft_model",
    "mmproj",
    "slot_save_path",
    "vae",
    "voices_file",
)
# Of a model's own folder: no notes, no keys.
COMPANIONS = (".bin", ".gguf", ".jinja", ".jinja2", ".npz", ".onnx", ".pt", ".pth", ".safetensors")
# A list of objects, each with a ``path``.
ADAPTERS = "lora"


def file_problems(
    model: Model, folders: Iterable[str], trusted: Mapping[str, Any] | None = None
) -> list[Problem]:
    """What is wrong with the files that a model's options name: they must lie in ``folders``, links
    followed, or be called as what goes with models is and lie in the model's own: whoever names a
    model in a home has not opened the home. Values that ``trusted`` has are let pass.

    Blocks for as long as the file system takes to follow links.
    """
    return list(_problems(model, list(folders), trusted or {}))


def with_files_below(base: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same options, in which relative paths of files are relative to that folder."""
    changed: dict[str, Any] = {}
    for name in FILE_OPTIONS:
        if isinstance(path := options.get(name), str):
            changed[name] = _below(base, path)
    adapters = options.get(ADAPTERS)
    if isinstance(adapters, list | tuple):
        changed[ADAPTERS] = [_with_path_below(base, adapter) for adapter in adapters]
    return {**options, **changed}


def _with_path_below(base: str, adapter: Any) -> Any:
    if not isinstance(adapter, Mapping) or not isinstance(path := adapter.get("path"), str):
        return adapter
    return {**adapter, "path": _below(base, path)}


def _below(base: str, path: str) -> str:
    """What is no path, and what is a template's name, say, is left for the engine to refuse."""
    return os.path.normpath(os.path.join(base, os.path.expanduser(path))) if path.strip() else path


def _problems(model: Model, folders: list[str], trusted: Mapping[str, Any]) -> Iterator[Problem]:
    known = set(_named(trusted))
    for param, path in _named(model.options):
        # The engine refuses what is no absolute path.
        if not os.path.isabs(path) or (param, path) in known:
            continue
        if not (any(is_below(path, f) for f in folders) or _goes_with(model.source, path)):
            text = (
                f"{param} {path[:200]!r} is in no folder that requests may name files of: the"
                " model's own (of that, files of models and templates, by their names), models_dir,"
                " discovery_paths and option_file_paths of the config file; put the file there, or"
                " name its folder in option_file_paths"
            )
            yield Problem(param, text, "bad_config")


def _named(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each file with the parameter that names it."""
    for name in FILE_OPTIONS:
        if isinstance(path := options.get(name), str):
            yield f"options.{name}", path
    adapters = options.get(ADAPTERS)
    for adapter in adapters if isinstance(adapters, list | tuple) else ():
        if isinstance(adapter, Mapping) and isinstance(path := adapter.get("path"), str):
            yield f"options.{ADAPTERS}", path


def _goes_with(source: str, path: str) -> bool:
    """Whether it lies in the model's own folder, and is called as what goes with models is."""
    if not os.path.isabs(source):
        return False
    folder = source if os.path.isdir(source) else os.path.dirname(source)
    if not is_below(path, folder):
        return False
    return os.path.isdir(path) or os.path.realpath(path).lower().endswith(COMPANIONS)


def is_below(path: str, folder: str) -> bool:
    """Whether it lies in there, links followed. Blocks."""
    try:
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
    except (OSError, ValueError):  # no path at all
        return False
