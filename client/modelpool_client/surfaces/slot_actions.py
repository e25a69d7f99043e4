"""PURE. llama.cpp's way to keep what its slots hold: a client saves the prompt cache of one to a
file, has it back later, in any slot, or empties it. For every client of a worker, as its slots are.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs

from modelpool_client.errors import InvalidRequest, NotSupported
from modelpool_client.surfaces.body import parse_object
from modelpool_client.surfaces.contract import ANY_OBJECT, TEXT, Contract
from modelpool_client.surfaces.schema import Schema
from modelpool_client.surfaces.schema_checks import Check

PATH = "/slots/{id_slot}"
# The option of a model that says where: without it nobody saves anything.
OPTION = "slot_save_path"
ERASE = "erase"
ACTIONS = ("save", "restore", ERASE)
_AT = re.compile(r"/slots/[0-9]{1,9}")
# A name and no path; what else a server makes of one is its own affair.
_PLAIN = re.compile(r"(?!\.{1,2}$)[^/\\\x00-\x1f]{1,255}")
_BODY: Schema = {
    "type": "object",
    "properties": {"filename": {"type": "string", "description": "not for erase"}},
}
_NAMED: Schema = {**_BODY, "required": ["filename"]}
CONTRACT = Contract(
    ANY_OBJECT, _BODY, summary="Save, restore or erase a slot of llama.cpp, as ?action says"
)
PARAMETERS: list[dict[str, Any]] = [
    {"name": "id_slot", "in": "path", "required": True, "schema": TEXT},
    {
        "name": "action",
        "in": "query",
        "required": True,
        "schema": {"type": "string", "enum": list(ACTIONS)},
    },
]
_check_body, _check_named = Check(_BODY), Check(_NAMED)


def is_asked(path: str) -> bool:
    """Whether it is about one slot."""
    return path.startswith("/slots/") and _AT.fullmatch(path) is not None


def not_kept(model_id: str) -> NotSupported:
    """Of a model without the option."""
    return NotSupported(
        f"{model_id} has no option {OPTION}, a folder of this machine for what clients save of its "
        "slots; the pool itself keeps conversations while a model is not loaded: prompt_cache",
        source="worker",
    )


def target(path: str, query: str) -> tuple[str, str]:
    """What is asked of the engine, and the action.

    Raises:
        InvalidRequest: the query says no action that there is.
    """
    action = parse_qs(query).get("action", [""])[0]
    if action not in ACTIONS:
        text = f"action must be one of {', '.join(ACTIONS)}, in the query, not {action[:80]!r}"
        raise InvalidRequest(text, param="action")
    return f"{path}?action={action}", action


def body_of(action: str, body: bytes) -> bytes:
    """What the engine is told.

    Raises:
        InvalidRequest: no file is named where one must be, or it is no name.
    """
    said = parse_object(body or b"{}")
    (_check_body if action == ERASE else _check_named)(said)
    name = said.get("filename")
    if name is None:
        return b"{}"
    if not _PLAIN.fullmatch(name):
        raise InvalidRequest(f"{name[:80]!r} is not the name of a file", param="filename")
    return json.dumps({"filename": name}).encode()
