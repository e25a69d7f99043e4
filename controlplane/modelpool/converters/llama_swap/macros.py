"""PURE. llama-swap's macros: ``${name}`` in any value, and ``${env.NAME}``.

Macros are filled in here, as there; variables of the environment stay, in our own way of writing
them, for the pool to fill in: a secret is in no file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from modelpool.converters.base import BadSettings

# Known only when a model is started.
LATER = frozenset({"PORT", "PID"})
_MACRO = re.compile(r"\$\{([A-Za-z0-9_-]+)\}")
VARIABLE = re.compile(r"\$\{env\.([A-Za-z_][A-Za-z0-9_]*)\}")
# A macro that names itself by way of others.
MOST_ROUNDS = 20


def expanded(value: Any, macros: Mapping[str, Any], place: str) -> Any:
    """The value with macros filled in; one that is nothing but a macro has the macro's type.

    Raises:
        BadSettings: naming one that is not defined.
    """
    if isinstance(value, str):
        return _text(value, macros, place)
    if isinstance(value, Mapping):
        return {
            str(_text(str(key), macros, place)): expanded(v, macros, f"{place}.{key}")
            for key, v in value.items()
        }
    if isinstance(value, list):
        return [expanded(v, macros, f"{place}[{i}]") for i, v in enumerate(value)]
    return value


def _text(text: str, macros: Mapping[str, Any], place: str) -> Any:
    for _ in range(MOST_ROUNDS):
        whole = _MACRO.fullmatch(text)
        if whole is not None and whole[1] not in LATER:
            value = _value(whole[1], macros, place)
            if not isinstance(value, str):
                return value
            text = value
        elif any(name not in LATER for name in _MACRO.findall(text)):
            text = _MACRO.sub(lambda m: _filled(m, macros, place), text)
        else:
            return text
    raise BadSettings(f"{place} has macros that name each other")


def _filled(found: re.Match[str], macros: Mapping[str, Any], place: str) -> str:
    if found[1] in LATER:
        return found[0]
    value = _value(found[1], macros, place)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value(name: str, macros: Mapping[str, Any], place: str) -> Any:
    if name not in macros:
        raise BadSettings(f"{place} has ${{{name}}}, which is no macro there")
    return macros[name]


def filled(text: str, environ: Mapping[str, str], place: str) -> str:
    """The text with the variables of the environment, to look at what it says.

    Raises:
        BadSettings: naming one that is not set.
    """

    def value(found: re.Match[str]) -> str:
        if found[1] not in environ:
            raise BadSettings(
                f"{place} names the environment variable {found[1]}, which is not set:"
                " set it as llama-swap has it"
            )
        return environ[found[1]]

    return VARIABLE.sub(value, text)


def ours(value: Any) -> Any:
    """A value as our config file has it: variables as ``${NAME}``."""
    if isinstance(value, str):
        kept = _MACRO.sub(lambda m: f"$${{{m[1]}}}", value)
        return VARIABLE.sub(lambda m: f"${{{m[1]}}}", kept)
    if isinstance(value, Mapping):
        return {key: ours(v) for key, v in value.items()}
    return [ours(v) for v in value] if isinstance(value, list) else value
