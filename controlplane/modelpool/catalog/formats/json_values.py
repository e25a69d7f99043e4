"""JSON that somebody else wrote: parsed within bounds, values by their types. PURE."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

MAX_COUNT = 2**31 - 1
MAX_TEXT = 1_048_576
MAX_ITEMS = 4096


class Wrong(Exception):
    """What is wrong with a file, for the end of a sentence that begins with its name."""


def parse_json(data: bytes) -> Any:
    """What the text holds.

    Raises:
        Wrong: it is empty, not UTF-8, no JSON, or nested beyond all measure.
    """
    if not data.strip():
        raise Wrong("is empty")
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Wrong("is corrupt: it is not UTF-8") from None
    except RecursionError:
        raise Wrong("is corrupt: its JSON is nested too deeply") from None
    except ValueError as e:  # syntax, and numbers of thousands of digits
        raise Wrong(f"is truncated or corrupt: it is no JSON: {str(e)[:120]}") from None


class JsonValues:
    """An object's values by type. What is null or negative is not stated; what is of another type
    is the file's fault. ``name`` is the file's.

    Every question takes several keys: the names under which writers state the same thing; the
    first that is stated counts.
    """

    def __init__(self, values: Mapping[str, Any], name: str) -> None:
        self._values = values
        self.name = name

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __bool__(self) -> bool:
        return bool(self._values)

    def raw(self, *keys: str) -> tuple[str, Any]:
        """The first stated value and its key; None and an empty one where none is."""
        for key in keys:
            value = self._values.get(key)
            if value is not None:
                return key, value
        return "", None

    def text(self, *keys: str) -> str | None:
        """A text; None where it is empty."""
        key, value = self.raw(*keys)
        if value is not None and not isinstance(value, str):
            raise self._wrong(key, value)
        return value[:MAX_TEXT] if value else None

    def texts(self, *keys: str) -> tuple[str, ...]:
        """A list of texts; one text is a list of one."""
        key, value = self.raw(*keys)
        if isinstance(value, str):
            return (value,)
        if value is not None and not _is_list_of(value, str):
            raise self._wrong(key, value)
        return tuple((value or ())[:MAX_ITEMS])

    def flag(self, *keys: str) -> bool | None:
        """True or false."""
        key, value = self.raw(*keys)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(key, value)
        return value

    def count(self, *keys: str) -> int | None:
        """A number of things, at most ``MAX_COUNT``."""
        key, value = self.raw(*keys)
        if value is None or value is False:
            return None
        if not _is_whole(value) or value > MAX_COUNT:
            raise self._wrong(key, value)
        return int(value) if value >= 0 else None

    def counts(self, *keys: str) -> int | tuple[int, ...] | None:
        """One number, or one for each layer."""
        key, value = self.raw(*keys)
        if not isinstance(value, list):
            return self.count(*keys)
        if not all(_is_whole(v) and 0 <= v <= MAX_COUNT for v in value):
            raise self._wrong(key, value)
        return tuple(int(v) for v in value[:MAX_ITEMS])

    def real(self, *keys: str) -> float | None:
        """A finite number."""
        key, value = self.raw(*keys)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, value)
        return float(value) if abs(value) <= 2**63 and math.isfinite(value) else None

    def part(self, *keys: str) -> JsonValues:
        """An object within; empty where there is none."""
        key, value = self.raw(*keys)
        if value is not None and not isinstance(value, dict):
            raise self._wrong(key, value)
        return JsonValues(value or {}, self.name)

    def items(self) -> Mapping[str, Any]:
        """All of it, of any type."""
        return self._values

    def _wrong(self, key: str, value: object) -> Wrong:
        return Wrong(f"is corrupt: {self.name} says that {key} is {_shown(value)}")


def _is_whole(value: object) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


def _is_list_of(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(v, kind) for v in value[:MAX_ITEMS])


def _shown(value: object) -> str:
    kept = value[:20] if isinstance(value, list | str) else value
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, int) and abs(value) > 2**64:
        return "a number beyond all measure"
    return repr(kept)[:80]
