"""The config file as keys and values, before anything in it is checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml


class UnreadableFile(Exception):
    """The file cannot be read as a mapping of keys; the text says why."""


def read_file(file: Path) -> dict[str, Any]:
    """What the file says; JSON by its name, else YAML.

    Raises:
        UnreadableFile: it cannot be read or is none.
    """
    return read_text(file, lambda text: text)


def read_text(file: Path, prepared: Callable[[str], str]) -> dict[str, Any]:
    """The same of its text as ``prepared`` makes it."""
    try:
        text = prepared(file.read_text(encoding="utf-8"))
        data = _from_json(text) if file.suffix == ".json" else yaml.load(text, _Yaml)
    except UnicodeDecodeError as e:
        raise UnreadableFile(f"is not UTF-8 ({e.reason} at byte {e.start})") from None
    except OSError as e:
        raise UnreadableFile(f"cannot be read: {e.strerror}") from None
    except RecursionError:
        raise UnreadableFile("is nested too deeply") from None
    except (ValueError, yaml.YAMLError) as e:
        if "maximum nesting depth" in str(e):  # libyaml counts it
            raise UnreadableFile("is nested too deeply") from None
        raise UnreadableFile(f"is not valid: {e}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UnreadableFile(f"should hold keys and values, not {type(data).__name__}")
    return {str(key): value for key, value in data.items()}


def _unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    data: dict[Any, Any] = {}
    for key, value in pairs:
        if key in data:
            raise ValueError(f"the key {key!r} stands there twice")
        data[key] = value
    return data


def _from_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique)


# Ten times as quick where libyaml is there; wheels of PyYAML have it.
if TYPE_CHECKING:
    from yaml import SafeLoader
else:
    SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Yaml(SafeLoader):
    """YAML in which a key that stands twice is an error, not silently the last one."""


def _yaml_mapping(loader: _Yaml, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    return _unique(loader.construct_pairs(node, deep=True))


_Yaml.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _yaml_mapping)
