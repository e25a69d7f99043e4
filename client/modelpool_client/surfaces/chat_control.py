"""PURE. llama.cpp's way to end what a chat is thinking while it streams: it answers from there on.
The chat must have asked for it by ``reasoning_control``, and is named by the id of its answer.
"""

from __future__ import annotations

from typing import Any

from modelpool_client.surfaces.body import parse_object
from modelpool_client.surfaces.contract import FLAG, TEXT, Contract, constant, holds
from modelpool_client.surfaces.routes import CHAT_CONTROL_PATH
from modelpool_client.surfaces.schema import Schema, nullable
from modelpool_client.surfaces.schema_checks import Check

SHORT = CHAT_CONTROL_PATH.removeprefix("/v1")
_BODY: Schema = {
    "type": "object",
    "required": ["id", "action"],
    "properties": {
        "id": {**TEXT, "description": "of the chat, as its chunks have it"},
        "action": constant("reasoning_end"),
        "model": nullable(TEXT),
    },
}
CONTRACT = Contract(
    holds(success=FLAG), _BODY, summary="End what a chat of llama.cpp's is thinking"
)
_check = Check(_BODY)


def said(body: bytes) -> dict[str, Any]:
    """What a body says.

    Raises:
        InvalidRequest: it names no chat, or an action that there is not.
    """
    data = parse_object(body)
    _check(data)
    return {name: data[name] for name in _BODY["properties"] if data.get(name) is not None}
