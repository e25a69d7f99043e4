"""PURE. ``model_preferences.json`` and ``advanced_model_settings.json``: which models, and which
parameters, for each class of caller. What they say is a virtual model of kind ``by_class``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelpool_client.errors import Conflict, InvalidRequest

from modelpool.catalog.request_rules import KEYS

from .presets import read_preset

KIND, NAME = "by_class", "preferred"
# Under which files have their classes, where these do not stand at the top.
_CLASSES = ("classes", "preferences", "agent_classes", "settings", "model_preferences")
_FIRST, _OTHERS = ("model", "primary", "preferred", "target"), ("fallbacks", "fallback", "models")


@dataclass(frozen=True)
class Settings:
    """What an ``advanced_model_settings.json`` says.

    Attributes:
        presets: values by name.
        classes: for each class what is changed of its requests, as ``request_rules`` has it.
    """

    presets: Mapping[str, Mapping[str, Any]]
    classes: Mapping[str, Mapping[str, Any]]


def with_preferences(entry: Mapping[str, Any], data: object) -> dict[str, Any]:
    """An entry with the models of a ``model_preferences.json`` in the place of its own.

    Raises:
        InvalidRequest: it says something else.
    """
    lists = {name: _models(name, value) for name, value in _classes(data).items()}
    default = lists.pop("default", lists.pop("*", None))
    kept = {key: entry[key] for key in ("settings", "request", "description") if key in entry}
    made: dict[str, Any] = {"kind": KIND, **kept}
    made |= {"classes": lists} if lists else {}
    return made | ({"default": default} if default else {})


def preferences_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The file that ``with_preferences`` reads."""
    told = {name: list(models) for name, models in entry.get("classes", {}).items()}
    return told | ({"default": list(entry["default"])} if "default" in entry else {})


def read_settings(data: object) -> Settings:
    """What a file says.

    Raises:
        InvalidRequest: something else.
    """
    if not isinstance(data, Mapping):
        raise InvalidRequest("the settings must be an object of classes", param="body")
    said = data.get("presets", {})
    if not isinstance(said, Mapping):
        raise InvalidRequest("presets must be an object", param="presets")
    try:
        presets = {name: read_preset(name, values) for name, values in said.items()}
    except ValueError as e:
        raise InvalidRequest(str(e), param="presets") from None
    rest = {key: value for key, value in data.items() if key != "presets"}
    classes = _classes(rest) if rest else {}
    return Settings(presets, {name: _rules(name, value) for name, value in classes.items()})


def with_settings(
    entry: Mapping[str, Any], classes: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """An entry with these settings in the place of its own.

    Raises:
        Conflict: there is no entry yet, which would say whom to ask.
    """
    if not entry:
        text = "nothing says which models the classes ask: import model_preferences.json first"
        raise Conflict(text, code="no_preferences")
    return {**entry, "settings": dict(classes)}


def settings_of(
    entry: Mapping[str, Any], presets: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The file that ``read_settings`` reads: parameters beside each other, as people write them."""
    classes = {name: _flat(rules) for name, rules in entry.get("settings", {}).items()}
    return {"presets": {name: dict(v) for name, v in presets.items()}, "classes": classes}


def _classes(data: object) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise InvalidRequest("must be an object with a key for each class", param="body")
    inside = [key for key in _CLASSES if isinstance(data.get(key), Mapping)]
    if not inside:
        return data
    top = {key: data[key] for key in ("default",) if key in data}
    return {**data[inside[0]], **top}


def _models(name: str, value: Any) -> list[Any]:
    """The first is who is asked first."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return value
    if isinstance(value, Mapping):
        first = next((value[key] for key in _FIRST if key in value), None)
        others: Any = next((value[key] for key in _OTHERS if key in value), [])
        found = [first] if first is not None else []
        found += others if isinstance(others, list) else [others]
        if found:
            return found
    raise InvalidRequest(
        f"{name[:80]} must be the name of a model, a list of names, or like"
        ' {"model": NAME, "fallbacks": [NAME]}',
        param=name[:80],
    )


def _rules(name: str, value: Any) -> Mapping[str, Any]:
    """Parameters beside each other are defaults; keys of rules are what they are."""
    if isinstance(value, str):
        return {"preset": value}
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{name[:80]} must be an object of parameters", param=name[:80])
    own = {key: each for key, each in value.items() if key in KEYS}
    values = {key: each for key, each in value.items() if key not in KEYS}
    return {**own, **({"defaults": {**own.get("defaults", {}), **values}} if values else {})}


def _flat(rules: Mapping[str, Any]) -> dict[str, Any]:
    own = {key: value for key, value in rules.items() if key != "defaults"}
    return {**rules.get("defaults", {}), **own}
