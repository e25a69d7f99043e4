"""What llama-swap reads: a file, or those of a folder together, as its ``-config-dir``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelpool.config_file import UnreadableFile, read_text
from modelpool.converters.base import BadSettings

from .macros import VARIABLE

SUFFIXES = (".yaml", ".yml")
# Mappings whose keys are names of things: none of them may be in two files.
NAMED = frozenset(
    {
        "models",
        "groups",
        "profiles",
        "peers",
        "matrix",
        "routing.router.settings.groups",
        "routing.router.settings.matrix",
    }
)
# llama-swap fills in variables before it reads YAML, where a brace within brackets would be
# something else.
_OPEN, _CLOSE = "\ue000", "\ue001"


def read_document(file: Path) -> dict[str, Any]:
    """The keys of one file; variables stay as they are.

    Raises:
        UnreadableFile: it cannot be read or is none.
    """

    def guarded(text: str) -> str:
        return VARIABLE.sub(lambda found: f"{_OPEN}{found[1]}{_CLOSE}", text)

    document: dict[str, Any] = _restored(read_text(file, guarded))
    return document


def _restored(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace(_OPEN, "${env.").replace(_CLOSE, "}")
    if isinstance(value, Mapping):
        return {_restored(key): _restored(v) for key, v in value.items()}
    return [_restored(v) for v in value] if isinstance(value, list) else value


def read_folder(folder: Path) -> dict[str, Any]:
    """The keys of all YAML files that lie directly in it, by their names.

    Raises:
        BadSettings: one cannot be read, or they do not go together; the text names it.
    """
    try:
        files = sorted(f for f in folder.iterdir() if f.suffix in SUFFIXES and f.is_file())
    except OSError as e:
        raise BadSettings(f"{folder} cannot be read: {e.strerror}") from None
    if not files:
        raise BadSettings(f"{folder} holds no file *.yaml or *.yml")
    whole: dict[str, Any] = {}
    for file in files:
        try:
            document = read_document(file)
        except UnreadableFile as e:
            raise BadSettings(f"{file} {e}") from None
        whole = merged(whole, document, str(file))
    return whole


def merged(
    one: Mapping[str, Any], other: Mapping[str, Any], file: str, at: str = ""
) -> dict[str, Any]:
    """PURE. Both together: lists one behind the other, mappings by their keys.

    Raises:
        BadSettings: a thing is in both, or they say different things; ``file`` is of the other.
    """
    both = dict(one)
    for key, value in other.items():
        place = f"{at}.{key}" if at else str(key)
        if both.get(key) is None:
            both[key] = value
        elif value is not None:
            if at in NAMED:
                raise BadSettings(f"{file} has {place}, which another file of the folder has, too")
            both[key] = _together(both[key], value, file, place)
    return both


def _together(one: Any, other: Any, file: str, place: str) -> Any:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return merged(one, other, file, place)
    if isinstance(one, list) and isinstance(other, list):
        return [*one, *other]
    if one != other:
        raise BadSettings(f"{file} says of {place} what another file of the folder contradicts")
    return one
