"""PURE. The LoRA adapters of a model in llama.cpp, by their places in the list of its option or by
their names: scaled by one request, or for every request that says nothing of its own, until the
model is loaded again, which scales them as its options say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.contract import COUNT, FLAG, Contract, holds, listed
from modelpool_client.surfaces.schema import Schema, check

PATH = "/lora-adapters"
PARAMETER = "lora"
SCALE: Schema = {"type": "number", "minimum": -100, "maximum": 100}
NAME: Schema = {"type": "string", "minLength": 1}
# Those that are not named are off.
_SCALES: Schema = {
    **listed(
        {
            "type": "object",
            "additionalProperties": False,
            "properties": {"id": COUNT, "name": NAME, "scale": SCALE},
            "required": ["scale"],
        }
    ),
    "maxItems": 64,
}
CONTRACT = Contract(
    holds(success=FLAG),
    _SCALES,
    summary="Scale llama.cpp's LoRA adapters, for every client of this worker",
)


def scales(body: bytes, names: Sequence[str]) -> list[dict[str, Any]]:
    """What a body says, for a model whose adapters are called so, as llama.cpp wants it.

    Raises:
        InvalidRequest: it is no list of adapters with scales, names one twice, or one that is not
            there, which llama.cpp would pass over.
    """
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as e:
        raise InvalidRequest(f"the body is not valid JSON: {e}", param="body") from None
    check(_SCALES, said, "")
    return _by_id(said, names, "")


def of_request(body: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A request's body with the adapters that it scales as llama.cpp wants them.

    Raises:
        InvalidRequest: as ``scales``.
    """
    said = body[PARAMETER]
    check(_SCALES, said, PARAMETER)
    return {**body, PARAMETER: _by_id(said, names, PARAMETER)}


def names_in(listed: bytes) -> list[str]:
    """What llama.cpp's list, in the order of their ids, knows them by: their files.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is none.
    """
    found = sorted(json.loads(listed), key=lambda adapter: int(adapter["id"]))
    return [str(adapter.get("path", "")) for adapter in found]


def with_names(listed: bytes, names: Sequence[str]) -> bytes:
    """llama.cpp's list, which knows adapters by their files, with what they are called here."""
    adapters = [
        {**adapter, "name": names[adapter["id"]]} if adapter["id"] < len(names) else adapter
        for adapter in json.loads(listed)
    ]
    return json.dumps(adapters).encode()


def _by_id(
    said: Sequence[dict[str, Any]], names: Sequence[str], where: str
) -> list[dict[str, Any]]:
    ids = [_id(adapter, names, f"{where}[{n}]") for n, adapter in enumerate(said)]
    for n, number in enumerate(ids):
        if number in ids[:n]:
            text = f"adapter {names[number]!r} ({number}) is scaled twice"
            raise InvalidRequest(text, param=f"{where}[{n}]")
    return [{"id": n, "scale": float(each["scale"])} for n, each in zip(ids, said, strict=True)]


def _id(adapter: dict[str, Any], names: Sequence[str], where: str) -> int:
    if ("id" in adapter) == ("name" in adapter):
        raise InvalidRequest(f"{where} must have either an id or a name", param=where)
    key = "id" if "id" in adapter else "name"
    known = range(len(names)) if key == "id" else names
    if adapter[key] not in known:
        has = ", ".join(f"{name!r} ({n})" for n, name in enumerate(names))
        text = f"there is no adapter {adapter[key]!r}; this model has "
        text += has or "none: its load option lora says them"
        raise InvalidRequest(text, param=f"{where}.{key}")
    return int(adapter["id"]) if key == "id" else names.index(adapter["name"])
