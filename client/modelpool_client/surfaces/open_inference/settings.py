"""PURE. The settings of a request, wherever it has them, in the words of OpenAI's completions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.body import parse_object
from modelpool_client.surfaces.open_inference.tables import (
    NUMBERS,
    REFUSED,
    RENAMED,
    RESERVED,
    SAMPLING,
    STOPS,
)


@dataclass(frozen=True)
class Given:
    """A value, and where it stands, for errors."""

    where: str
    value: Any


@dataclass(frozen=True)
class Settings:
    """What a request says of how its texts are to be written.

    Attributes:
        body: for completions; whether an engine honours a name that is not OpenAI's is found out
            with it.
        stream: None where it does not say.
        excludes_input: the answer is without the prompt; None where it does not say.
        wants_reason: the answer says why it ended.
        ignored: names that have no meaning here.
    """

    body: dict[str, Any]
    stream: bool | None = None
    excludes_input: bool | None = None
    wants_reason: bool = False
    ignored: tuple[str, ...] = ()


def settings_of(parameters: Mapping[str, Any], own: Mapping[str, Given]) -> Settings:
    """
    Args:
        parameters: of the request.
        own: its tensors, or what stands beside ``parameters``; these go before ``parameters``, and
            before what ``sampling_parameters`` says.

    Raises:
        InvalidRequest: with ``param``.
    """
    given = {name: Given(f"parameters.{name}", value) for name, value in parameters.items()}
    given |= own
    sampling = given.pop(SAMPLING, None)
    if sampling is not None:
        said = _object(sampling)
        told = {name: Given(f"{sampling.where}.{name}", value) for name, value in said.items()}
        given |= told | {name: one for name, one in own.items() if name != SAMPLING}
    kept = {name: one for name, one in given.items() if not _is_reserved(name)}
    kept = {name: one for name, one in kept.items() if one.value is not None}
    flags = [_flag(kept.pop(name, None)) for name in ("stream", "exclude_input_in_output")]
    wants_reason = _flag(kept.pop("return_finish_reason", None))
    body = _body({name: one for name, one in kept.items() if not _says_nothing(name, one)})
    ignored = sorted({one.where for name, one in given.items() if _is_reserved(name)})
    return Settings(body, flags[0], flags[1], wants_reason is True, tuple(ignored))


def _is_reserved(name: str) -> bool:
    return name in RESERVED or name.startswith("triton_")


def _object(given: Given) -> dict[str, Any]:
    if not isinstance(given.value, str):
        _refuse(given.where, "must be a string with a JSON object")
    try:
        return parse_object(given.value.encode())
    except (InvalidRequest, UnicodeEncodeError):
        _refuse(given.where, "must be a JSON object")


def _flag(given: Given | None) -> bool | None:
    if given is None:
        return None
    if not isinstance(given.value, bool):
        _refuse(given.where, "must be true or false")
    return given.value


def _says_nothing(name: str, given: Given) -> bool:
    if name not in REFUSED:
        return False
    if given.value not in REFUSED[name]:
        text = f"{name} is not supported here; leave it out"
        raise InvalidRequest(text, param=given.where)
    return True


def _body(given: Mapping[str, Given]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    stops: list[str] = []
    for name, one in given.items():
        if name in STOPS:
            stops += _texts(one)
        elif name in NUMBERS:
            body[RENAMED.get(name, name)] = _number(one, is_whole=NUMBERS[name] != "FP32")
        else:
            body[name] = one.value
    return {**body, "stop": stops} if stops else body


def _texts(given: Given) -> Sequence[str]:
    value = [given.value] if isinstance(given.value, str) else given.value
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        _refuse(given.where, "must be a string or a list of strings")
    return [text for text in value if text]


def _number(given: Given, *, is_whole: bool) -> float:
    value = given.value
    if isinstance(value, str):
        value = _read(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _refuse(given.where, "must be a number")
    if isinstance(value, float) and not math.isfinite(value):
        _refuse(given.where, "must be a finite number")
    if is_whole and value != int(value):
        _refuse(given.where, "must be an integer")
    return int(value) if is_whole else value


def _read(text: str) -> float | None:
    """A number of at most as many digits as anybody means."""
    if len(text) > 32:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def _refuse(where: str, why: str) -> NoReturn:
    raise InvalidRequest(f"{where} {why}", param=where)
