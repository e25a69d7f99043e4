"""PURE. A small JSON Schema: the same tables check requests, check options and describe the API.

Knows: type, enum, minimum, maximum, minLength, maxLength, minItems, maxItems, items, properties,
required, additionalProperties, anyOf. Anything else in a table is documentation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from modelpool_client.errors import InvalidRequest

Schema = Mapping[str, Any]


# Of a call in a conversation, where an API has them as an object.
CALL_ARGUMENTS: Schema = {
    "type": ["object", "string", "null"],
    "maxLength": 0,
    "description": "an object; none, and an empty text, is {}",
}


def check(schema: Schema, value: Any, where: str = "") -> None:
    """Check ``value``; ``where`` is its name in messages, like ``messages[0].role``.

    Raises:
        InvalidRequest: with ``param`` naming the innermost offending value.
    """
    if "anyOf" in schema:
        _check_any(schema["anyOf"], value, where)
        return
    kinds = schema.get("type")
    if kinds is not None:
        names = [kinds] if isinstance(kinds, str) else list(kinds)
        if not any(_is(name, value) for name in names):
            _refuse(where, f"must be {_words(names)}, not {_name(value)}")
    if "enum" in schema and value not in schema["enum"]:
        allowed = ", ".join(repr(v) for v in schema["enum"] if v is not None)
        _refuse(where, f"must be one of {allowed}")
    for kind, verify in _BY_KIND:
        if isinstance(value, kind) and not isinstance(value, bool):
            verify(schema, value, where)


def nullable(schema: Schema) -> dict[str, Any]:
    """The same schema, null allowed as well (OpenAI's clients send null for "not given")."""
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    kinds = schema["type"]
    names = [kinds] if isinstance(kinds, str) else list(kinds)
    if "null" in names:
        return {**schema}
    wider = {**schema, "type": [*names, "null"]}
    if "enum" in schema:
        wider["enum"] = [*schema["enum"], None]
    return wider


def whole(schema: Schema, value: Any) -> Any:
    """JSON Schema counts 2.0 as an integer; engines and lists do not."""
    return int(value) if isinstance(value, float) and "integer" in schema.get("type", ()) else value


def _check_any(options: list[Schema], value: Any, where: str) -> None:
    fitting = [s for s in options if "type" not in s or any(_is(n, value) for n in _types(s))]
    if not fitting:
        names = [name for s in options for name in _types(s)]
        _refuse(where, f"must be {_words(names)}, not {_name(value)}")
    errors = []
    for option in fitting:
        try:
            check(option, value, where)
            return
        except InvalidRequest as e:
            errors.append(e)
    # What came furthest is what was meant.
    raise max(reversed(errors), key=lambda e: (len(e.param or ""), e.param or ""))


def _types(schema: Schema) -> list[str]:
    kinds = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else list(kinds)


def _check_number(schema: Schema, value: float, where: str) -> None:
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    if not low <= value <= high:
        text = _between(low, high) if value > high else f"at least {low}"
        _refuse(where, f"must be {text}")


def _check_string(schema: Schema, value: str, where: str) -> None:
    low, high = schema.get("minLength", 0), schema.get("maxLength", math.inf)
    if not low <= len(value) <= high:
        _refuse(where, f"must have {_between(low, high)} characters, not {len(value)}")


def _check_list(schema: Schema, value: list[Any], where: str) -> None:
    low, high = schema.get("minItems", 0), schema.get("maxItems", math.inf)
    if not low <= len(value) <= high:
        _refuse(where, f"must have {_between(low, high)} items, not {len(value)}")
    if "items" in schema:
        for i, item in enumerate(value):
            check(schema["items"], item, f"{where}[{i}]")


def _check_object(schema: Schema, value: dict[str, Any], where: str) -> None:
    for name in schema.get("required", ()):
        if name not in value:
            _refuse(_join(where, name), "is required")
    known = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    for name, item in value.items():
        if name in known:
            check(known[name], item, _join(where, name))
        elif others is False:
            names = ", ".join(sorted(known)) or "none"
            _refuse(_join(where, name), f"is unknown{near(name, known)}; known are {names}")
        elif others is not True:
            check(others, item, _join(where, name))


_BY_KIND: tuple[tuple[type | tuple[type, ...], Callable[[Schema, Any, str], None]], ...] = (
    ((int, float), _check_number),
    (str, _check_string),
    (list, _check_list),
    (dict, _check_object),
)
_NAMES: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    type(None): "null",
}
_WORDS = {
    "object": "an object",
    "array": "a list",
    "string": "a string",
    "boolean": "a boolean",
    "integer": "an integer",
    "number": "a number",
    "null": "null",
}


def _is(name: str, value: Any) -> bool:
    if name == "integer":
        # JSON Schema counts 2.0 as an integer.
        whole = isinstance(value, float) and value.is_integer()
        return whole or (isinstance(value, int) and not isinstance(value, bool))
    if name == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return _NAMES.get(type(value)) == _WORDS[name]


def _words(names: list[str]) -> str:
    return " or ".join(dict.fromkeys(_WORDS[n] for n in names if n != "null" or len(names) == 1))


def _name(value: Any) -> str:
    return _NAMES.get(type(value), type(value).__name__)


def _between(low: float, high: float) -> str:
    if high == math.inf:
        return f"at least {low}"
    if low in (0, -math.inf):
        return f"at most {high}"
    return f"between {low} and {high}"


def _join(where: str, name: str) -> str:
    short = name if len(name) <= 64 else f"{name[:61]}..."
    return f"{where}.{short}" if where else short


def near(name: str, known: Iterable[str]) -> str:
    """``", did you mean a"``, or nothing."""
    import difflib  # for errors only

    close = difflib.get_close_matches(name[:64], list(known), n=1)
    return f", did you mean {close[0]}" if close else ""


def _refuse(where: str, why: str) -> None:
    raise InvalidRequest(f"{where or 'the body'} {why}", param=where or None)
