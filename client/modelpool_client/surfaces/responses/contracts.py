"""PURE. What the routes of the Responses API look like that models answer, and those that tell what
was kept."""

from __future__ import annotations

from collections.abc import Mapping

from modelpool_client.surfaces.contract import (
    ANY_OBJECT,
    COUNT,
    EVENT_STREAM,
    FLAG,
    TEXT,
    Contract,
    Description,
    constant,
    holds,
    listed,
)
from modelpool_client.surfaces.openai_contracts import ERROR
from modelpool_client.surfaces.responses.tables import (
    BODIES,
    COUNT_PATH,
    RESPONSES_PATH,
    RULES,
)
from modelpool_client.surfaces.schema import nullable

_STATUS = constant("completed", "incomplete", "failed", "in_progress")
_ITEM = holds(id=TEXT, type=TEXT)
_USAGE = holds(input_tokens=COUNT, output_tokens=COUNT, total_tokens=COUNT)
RESPONSE = holds(
    id=TEXT,
    object=constant("response"),
    created_at={"type": "number"},
    status=_STATUS,
    model=nullable(TEXT),
    output=listed(_ITEM),
    usage=nullable(_USAGE),
)
_ITEMS = holds(
    object=constant("list"), data=listed(_ITEM), first_id=TEXT, last_id=TEXT, has_more=FLAG
)
_DELETED = holds(id=TEXT, object=constant("response"), deleted=FLAG)

DESCRIPTION = Description(
    ERROR,
    {
        RESPONSES_PATH: Contract(
            RESPONSE,
            BODIES[RESPONSES_PATH],
            stream_type=EVENT_STREAM,
            summary="Answer, streamed if asked; kept unless store is false",
            rules=RULES,
        ),
        COUNT_PATH: Contract(
            holds(object=constant("response.input_tokens"), input_tokens=COUNT),
            BODIES[COUNT_PATH],
            summary="Count the tokens of an input",
            rules={
                name: rule
                for name, rule in RULES.items()
                if name.split(".")[0] in BODIES[COUNT_PATH]["properties"]
            },
        ),
    },
)
# Below ``/v1/responses/{response_id}``, by path and method.
STORED: Mapping[str, Mapping[str, Contract]] = {
    "": {
        "get": Contract(RESPONSE, stream_type=EVENT_STREAM, summary="A response that was kept"),
        "delete": Contract(_DELETED, summary="Keep it no longer"),
    },
    "/input_items": {"get": Contract(_ITEMS, summary="What it was asked")},
    "/cancel": {
        "post": Contract(ANY_OBJECT, ANY_OBJECT, summary="Refused: nothing runs in the background")
    },
}
