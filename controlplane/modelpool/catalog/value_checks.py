"""Checks of single JSON values. Each returns the value to keep or raises ValueError with the rest
of a sentence that begins with the key ("must be …"). PURE."""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any], Any]

MAX_TEXT = 4096
MAX_ITEMS = 256
MAX_JSON_BYTES = 65_536
MAX_DEPTH = 8
MAX_INTEGER = 2**63 - 1
CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f]")


def _short(value: object) -> str:
    return reprlib.repr(value)


def text(value: Any) -> str:
    """A string without control characters, not empty, at most ``MAX_TEXT`` characters."""
    if not isinstance(value, str):
        raise ValueError(f"must be a string, not {_short(value)}")
    if not value.strip():
        raise ValueError("must not be empty")
    if len(value) > MAX_TEXT:
        raise ValueError(f"has {len(value)} characters, {MAX_TEXT} are allowed")
    if CONTROL_CHARACTER.search(value):
        raise ValueError("must not hold control characters")
    return _unicode(value)


def _unicode(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode") from None
    return value


def flag(value: Any) -> bool:
    """true or false; nothing that merely looks like it."""
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {_short(value)}")
    return value


def number(low: float, high: float = MAX_INTEGER) -> Check:
    """A finite number within the bounds; true and false are none."""

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"must be a number, not {_short(value)}")
        if not low <= value <= high or not math.isfinite(value):
            raise ValueError(f"must be between {low:g} and {high:g}, not {_short(value)}")
        return value

    return check


def integer(low: int, high: int = MAX_INTEGER) -> Check:
    """A whole number within the bounds."""
    within = number(low, high)

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"must be a whole number, not {_short(value)}")
        return int(within(value))

    return check


def choice(*allowed: str) -> Check:
    """One of these words."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}, not {_short(value)}")
        return value

    return check


def integer_or(*words: str, low: int) -> Check:
    """A whole number of at least ``low``, or one of these words."""

    def check(value: Any) -> int | str:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if not (is_number and low <= value <= MAX_INTEGER) and value not in words:
            allowed = f"a whole number from {low}, or {' or '.join(words)}"
            raise ValueError(f"must be {allowed}, not {_short(value)}")
        assert isinstance(value, (int, str))
        return value

    return check


def optional(check: Check) -> Check:
    """None, or what ``check`` wants."""
    return lambda value: None if value is None else check(value)


def several(check: Check) -> Check:
    """A list without repetition, each item checked; kept as a tuple."""

    def check_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"must be a list, not {_short(value)}")
        if len(value) > MAX_ITEMS:
            raise ValueError(f"has {len(value)} items, {MAX_ITEMS} are allowed")
        return tuple(dict.fromkeys(_item(check, i, v) for i, v in enumerate(value)))

    return check_all


def _item(check: Check, index: int, value: Any) -> Any:
    try:
        return check(value)
    except ValueError as e:
        raise ValueError(f"item {index} {e}") from None


def json_object(value: Any) -> dict[str, Any]:
    """Any JSON object of bounded size and depth."""
    if not isinstance(value, Mapping):
        raise ValueError(f"must be an object, not {_short(value)}")
    plain = _plain(dict(value))
    size = len(json.dumps(plain))
    if size > MAX_JSON_BYTES:
        raise ValueError(f"has {size} bytes as JSON, {MAX_JSON_BYTES} are allowed")
    assert isinstance(plain, dict)
    return plain


def _plain(value: Any, depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError(f"is nested more than {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        return {_unicode_key(k): _plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, depth + 1) for v in value]
    return _scalar(value)


def _unicode_key(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError(f"has a key that is not a string: {_short(key)}")
    return _unicode(key)


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _unicode(value)
    if isinstance(value, (int, float)):
        return number(-MAX_INTEGER)(value)
    kinds = "numbers, strings, booleans and lists, also of objects,"
    raise ValueError(f"holds {_short(value)}, only {kinds} may be in it")
