"""What is kept of many models and asked for of few, in little memory. PURE."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

# Of all that have nothing to say. Nobody changes what a model says, so they can share it.
NOTHING: Mapping[str, Any] = {}
# One for all: to make one takes longer than what it does here.
_ENCODE = json.JSONEncoder(separators=(",", ":")).encode


class Packed(Mapping[str, Any]):
    """Plain JSON values by their names, as text; each look unpacks it."""

    __slots__ = ("_text",)

    def __init__(self, values: Mapping[str, Any] | str) -> None:
        """``values`` may be the text of a former one."""
        self._text = values if isinstance(values, str) else _ENCODE(dict(values))

    def __repr__(self) -> str:
        return f"Packed({self._text})"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Packed) and self._text == other._text:
            return True
        return isinstance(other, Mapping) and self._values() == dict(other)

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        return self._text != "{}"

    def __getitem__(self, name: str) -> Any:
        return self._values()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values())

    def __len__(self) -> int:
        return len(self._values())

    @property
    def text(self) -> str:
        """All of it, as JSON."""
        return self._text

    def _values(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self._text)
        return values


def packed(values: Mapping[str, Any] | str) -> Mapping[str, Any]:
    """The same values in less memory; see ``Packed``."""
    if isinstance(values, Packed):
        return values
    return Packed(values) if values else NOTHING
