"""What of the wire an engine child needs, too: dataclasses as JSON and back.

``encode`` gives plain JSON values; ``decode`` ignores keys it does not know, so that a worker and
a manager of neighbouring versions understand each other, and names the wrong or missing key.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

# In a worker's folder: what has to be ended beside its processes if it is killed.
LEFT_BEHIND_NAME = "left-behind.json"


@dataclass(frozen=True)
class PromptCacheLimits:
    """What the prompt caches of unloaded models may take: bytes of disk for all models together,
    0 for none at all, and seconds that a load or an unload may last longer for one."""

    max_bytes: int = 0
    seconds: float = 0.0


class DecodeError(ValueError):
    """A message does not have the shape it should; the text names the key."""


_PLAIN = frozenset({str, int, float, bool, type(None)})


def encode(value: Any) -> Any:
    """Plain JSON values of a wire dataclass (or of anything made of them)."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): encode(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        # Rows of requests are long and many, and all they hold is plain.
        return [v if type(v) in _PLAIN else encode(v) for v in value]
    return value


def decode(cls: type[T], data: object) -> T:
    """Build ``cls`` from JSON values.

    Raises:
        DecodeError: a key is missing or has a value of another type.
    """
    if not isinstance(data, Mapping):
        raise DecodeError(f"{cls.__name__}: expected an object, got {type(data).__name__}")
    hints = _hints(typing.cast("Any", cls))
    values = {}
    for f in dataclasses.fields(cls):  # type: ignore[arg-type]
        if f.name in data:
            values[f.name] = _convert(hints[f.name], data[f.name], f"{cls.__name__}.{f.name}")
    try:
        return cls(**values)
    except TypeError as e:
        raise DecodeError(f"{cls.__name__}: {e}") from None


def prepare_decoding(*classes: type[Any]) -> None:
    """Look at these ahead of the first message, of which that would take more than half of the
    time."""
    for cls in classes:
        hints = _hints(typing.cast("Any", cls)).values()
        parts = (part for hint in hints for part in (hint, *get_args(hint)))
        prepare_decoding(*(p for p in parts if isinstance(p, type) and dataclasses.is_dataclass(p)))


@functools.cache
def _hints(cls: type[Any]) -> Mapping[str, Any]:
    """Annotations are text here, and each look at them would compile that anew."""
    return get_type_hints(cls)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        hint = next(a for a in get_args(hint) if a is not type(None))
        return _convert(hint, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise DecodeError(f"{where}: expected a list")
        return tuple(_convert(get_args(hint)[0], v, where) for v in value)
    if hint is Any:
        return value
    if origin is not None:
        return _checked(Mapping, value, where)
    if dataclasses.is_dataclass(hint):
        return decode(typing.cast("type[Any]", hint), value)
    if issubclass(hint, StrEnum):
        return _member(hint, value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return _checked(hint, value, where)


def _member(hint: type[StrEnum], value: Any, where: str) -> StrEnum:
    try:
        return hint(value)
    except ValueError:
        raise DecodeError(f"{where}: {value!r} is none of {[m.value for m in hint]}") from None


def _checked(hint: Any, value: Any, where: str) -> Any:
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise DecodeError(f"{where}: expected {hint.__name__}, got {type(value).__name__}")
    return value
