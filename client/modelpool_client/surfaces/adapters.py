"""PURE. llama.cpp's way to scale the LoRA adapters of a model, for every request that says nothing
of its own: until the model is loaded again, which scales them as its options say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from modelpool_client.errors import InvalidRequest
from modelpool_client.surfaces.contract import COUNT, FLAG, Contract, holds, listed
from modelpool_client.surfaces.schema import Schema
from modelpool_client.surfaces.schema_checks import Check

PATH = "/lora-adapters"
SCALE: Schema = {"type": "number", "minimum": -100, "maximum": 100}
# By the place of each in the list of the model's option; those that are not named are off.
_SCALES: Schema = {**listed(holds(id=COUNT, scale=SCALE)), "maxItems": 64}
CONTRACT = Contract(
    holds(success=FLAG),
    _SCALES,
    summary="Scale llama.cpp's LoRA adapters, for every client of this worker",
)
_check = Check(_SCALES)


def scales(body: bytes) -> list[dict[str, Any]]:
    """What a body says.

    Raises:
        InvalidRequest: it is no list of ids with scales, or names one twice.
    """
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as e:
        raise InvalidRequest(f"the body is not valid JSON: {e}", param="body") from None
    _check(said)
    ids = [int(adapter["id"]) for adapter in said]
    twin = next((n for n in ids if ids.count(n) > 1), None)
    if twin is not None:
        raise InvalidRequest(f"the body scales adapter {twin} twice", param="id")
    return [{"id": n, "scale": float(each["scale"])} for n, each in zip(ids, said, strict=True)]


def check_known(scales: Sequence[Mapping[str, Any]], listed: bytes) -> None:
    """Whether the list that the engine gives has them all; llama.cpp passes over others.

    Raises:
        InvalidRequest: one is not there.
    """
    known = {adapter["id"] for adapter in json.loads(listed)}
    for adapter in scales:
        if adapter["id"] not in known:
            has = ", ".join(map(str, sorted(known))) or "none: the model's option lora says them"
            text = f"there is no adapter {adapter['id']}; this model has {has}"
            raise InvalidRequest(text, param="id")
