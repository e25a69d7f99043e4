"""PURE. The JSON schema of a config file, in whose values a variable may stand for anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .config_keys import PoolConfig

VARIABLE = {"type": "string", "pattern": r"\$\{"}
# What is said of a value, not what it must be.
_ABOUT = ("title", "description", "default")
_BY_NAME = ("properties", "$defs", "patternProperties")
_BY_PLACE = ("anyOf", "allOf", "oneOf")


def json_schema() -> dict[str, Any]:
    """JSON schema (2020-12) of the configuration file."""
    schema = _with_variables(PoolConfig.model_json_schema())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "modelpool configuration",
    }


def _with_variables(schema: Any) -> Any:
    """The schema, a text with ``${`` allowed wherever a number, a truth value or one of some words
    is wanted; where any text may stand, one with a variable may."""
    if not isinstance(schema, Mapping):
        return schema
    inner = {key: _inner(key, value) for key, value in schema.items()}
    kinds = schema.get("type", ())
    kinds = {kinds} if isinstance(kinds, str) else set(kinds)
    is_narrow = "enum" in schema or "pattern" in schema
    if not kinds & {"integer", "number", "boolean"} and not (kinds == {"string"} and is_narrow):
        return inner
    about = {key: inner.pop(key) for key in _ABOUT if key in inner}
    return {"anyOf": [inner, dict(VARIABLE)], **about}


def _inner(key: str, value: Any) -> Any:
    if key in _BY_NAME:
        return {name: _with_variables(each) for name, each in value.items()}
    if key in _BY_PLACE:
        return [_with_variables(each) for each in value]
    return _with_variables(value) if key in ("items", "additionalProperties") else value
