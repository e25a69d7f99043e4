"""PURE. ``${NAME}`` in the values of the config file: filled in, and never shown.

``${NAME}`` is the environment variable NAME, ``${NAME:-default}`` has a default for one that is
unset or empty, ``$${`` is a literal ``${``. What was filled in is of a class of its own until it is
checked: its ``repr``, which messages use, is what the file says. ``plain`` takes that away.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

SHORTEST_HIDDEN = 4
TYPED = ("integer", "number", "boolean")

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


class Filled:
    """A value from the environment; ``template`` is what the file says instead."""

    template: str

    def __repr__(self) -> str:
        return repr(self.template)


class FilledText(Filled, str):
    """A text with variables filled in."""


class FilledInteger(Filled, int):
    """Such a text, read as a whole number."""


class FilledNumber(Filled, float):
    """Such a text, read as a number."""


class BadReference(ValueError):
    """A variable that is not set, or ``${`` that begins none; the text is the rest of a sentence
    that begins with the key."""


def fill(text: str, environ: Mapping[str, str]) -> str:
    """The text with its variables; a plain one where it has none.

    Raises:
        BadReference: naming the variable.
    """
    if "${" not in text:
        return text
    is_filled = False

    def value(found: re.Match[str]) -> str:
        nonlocal is_filled
        if found[0] == "$${":
            return "${"
        is_filled = True
        return _value(found, environ)

    result = _REFERENCE.sub(value, text)
    return _marked(FilledText(result), text) if is_filled else result


def _value(found: re.Match[str], environ: Mapping[str, str]) -> str:
    named = _NAME.fullmatch(found[1])
    if named is None or not found[2] or "${" in (named[2] or ""):
        raise BadReference(
            f"has {found[0]!r}, which is no variable: write ${{NAME}} or ${{NAME:-default}},"
            " or $${ for a literal ${"
        )
    name, default = named.groups()
    value = environ.get(name)
    if value or (value is not None and default is None):
        return value
    if default is None:
        raise BadReference(
            f"names the environment variable {name}, which is not set:"
            f" set it, or give a default, ${{{name}:-default}}"
        )
    return default


def fill_all(
    data: Any, environ: Mapping[str, str], wrong: list[tuple[str, str]], key: str = ""
) -> Any:
    """A copy of JSON-like data with every text filled in; keys stay as they are. What is wrong goes
    to ``wrong``, as key and message, and such a text stays as it is."""
    if isinstance(data, str):
        try:
            return fill(data, environ)
        except BadReference as e:
            wrong.append((key, str(e)))
            return _marked(FilledText(data), data)
    if isinstance(data, list):
        return [fill_all(v, environ, wrong, f"{key}[{i}]") for i, v in enumerate(data)]
    if isinstance(data, dict):
        before = f"{key}." if key else ""
        return {k: fill_all(v, environ, wrong, f"{before}{k}") for k, v in data.items()}
    return data


def typed(value: Any, kind: str) -> Any:
    """A filled text as what is wanted, an ``integer``, ``number`` or ``boolean``, where it reads
    like it; anything else as it is."""
    if not isinstance(value, FilledText) or kind not in TYPED:
        return value
    try:
        read = json.loads(value)
    except ValueError:
        return value
    if isinstance(read, bool):
        return read if kind == "boolean" else value
    if kind == "boolean" or not isinstance(read, (int, float)):
        return value
    number = FilledInteger(read) if isinstance(read, int) else FilledNumber(read)
    return _marked(number, value.template)


# Of nothing else is most of a configuration, and most of it is in the file itself.
_SCALARS = frozenset({str, int, float, bool, type(None)})


def is_filled(data: Any) -> bool:
    """Whether anything in it came from the environment."""
    if type(data) in _SCALARS:
        return False
    return any(True for _ in _filled(data))


def _filled(data: Any) -> Iterator[Filled]:
    if isinstance(data, Filled):
        yield data
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from _filled(value)
    elif isinstance(data, (list, tuple)):
        for value in data:
            yield from _filled(value)


def template(data: Any) -> Any:
    """What a config file has to say to have the data: that of the filled ones, and others with
    ``${`` escaped."""
    if isinstance(data, Filled):
        return data.template
    if isinstance(data, str):
        return data.replace("${", "$${")
    return _mapped(data, template)


def plain(data: Any) -> Any:
    """The data without the marks."""
    if isinstance(data, FilledText):
        return str.__str__(data)
    if isinstance(data, FilledInteger):
        return int(data)
    if isinstance(data, FilledNumber):
        return float(data)
    return _mapped(data, plain)


def hidden(message: str, data: Any) -> str:
    """The message without the values that were filled into the data, longest first; one of a few
    characters is no secret, and would be found in any other word."""
    values = {str(plain(v)): v.template for v in _filled(data)}
    for value in sorted(values, key=len, reverse=True):
        if len(value) >= SHORTEST_HIDDEN:
            message = message.replace(value, values[value])
    return message


def _mapped(data: Any, change: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: change(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return type(data)(change(value) for value in data)
    return data


def _marked(value: T, text: str) -> T:
    value.template = text  # type: ignore[attr-defined]
    return value
