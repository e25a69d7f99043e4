"""PURE. From the template of a command to its arguments; there is never a shell.

A template is a list. A text in it is one argument, in which ``{name}`` stands for a value. A list
in it is a piece that is left out unless every value it names is given: ``["--ctx", "{length}"]``.
``{?name}`` holds a piece only where the value is true, and gives nothing itself. ``{*name}``
stands alone and is a list: as many arguments as it has, or in a piece the piece as often.
``{{name}}`` is ``{name}`` itself; any other brace, as in JSON, is just one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

Part: TypeAlias = str | Sequence[str]

_PLACE = re.compile(r"\{\{(?P<literal>\w+)\}\}|\{(?P<kind>[?*]?)(?P<name>\w+)\}")


class BadTemplate(ValueError):
    """A command that cannot be filled in; the text says why."""


def names_in(template: Iterable[Part]) -> list[str]:
    """The values that it names, in their order."""
    texts = [text for part in template for text in ([part] if isinstance(part, str) else part)]
    found = (match["name"] for text in texts for match in _PLACE.finditer(text))
    return list(dict.fromkeys(name for name in found if name))


def fill(template: Iterable[Part], values: Mapping[str, Any]) -> list[str]:
    """The arguments. A value that is None is not given; what a list in ``values`` holds may name
    values too.

    Raises:
        BadTemplate: a value that is not given is named outside of a piece.
    """
    return [argument for part in template for argument in _filled(part, values)]


def fill_text(text: str, values: Mapping[str, Any]) -> str | None:
    """One text; ``{?name}`` alone is ``1`` where the value is true, and None where it is not.

    Raises:
        BadTemplate: a value is not given.
    """
    whole = _PLACE.fullmatch(text)
    if whole is not None and whole["kind"] == "?":
        return "1" if values.get(whole["name"]) else None
    return _text(text, values)


def _filled(part: Part, values: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(part, str):
        if (name := _list_named(part)) is not None:
            yield from (_text(str(item), values) for item in values.get(name) or ())
        else:
            yield _text(part, values)
        return
    several = next((name for text in part if (name := _list_named(text)) is not None), None)
    if several is not None:
        for item in values.get(several) or ():
            yield from _piece(part, {**values, several: _text(str(item), values)})
    else:
        yield from _piece(part, values)


def _piece(part: Sequence[str], values: Mapping[str, Any]) -> Iterator[str]:
    places = [match for text in part for match in _PLACE.finditer(text) if match["name"]]
    given = all(
        values.get(p["name"]) if p["kind"] == "?" else values.get(p["name"]) is not None
        for p in places
    )
    if given:
        shown = (text for text in part if not _is_condition(text))
        yield from (_text(text, values) for text in shown)


def _is_condition(text: str) -> bool:
    match = _PLACE.fullmatch(text)
    return match is not None and match["kind"] == "?"


def _list_named(text: str) -> str | None:
    match = _PLACE.fullmatch(text)
    return match["name"] if match is not None and match["kind"] == "*" else None


def _text(text: str, values: Mapping[str, Any]) -> str:
    def value(match: re.Match[str]) -> str:
        if match["literal"]:
            return "{" + match["literal"] + "}"
        found = values.get(match["name"])
        if found is None:
            name = match["name"]
            raise BadTemplate(
                f"{{{name}}} has no value; put what names it into a list of its own, "
                f"which is left out then"
            )
        return shown(found)

    return _PLACE.sub(value, text)


def shown(value: Any) -> str:
    """A value as an argument."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(map(shown, value))
    if isinstance(value, Mapping):
        return json.dumps(value)
    return str(value)
