"""PURE. What the routes of the Messages API look like."""

from __future__ import annotations

from modelpool_client.surfaces.anthropic.parameters import RULES
from modelpool_client.surfaces.anthropic.tables import BODIES, COUNT_PATH, MESSAGES_PATH
from modelpool_client.surfaces.contract import (
    COUNT,
    EVENT_STREAM,
    TEXT,
    Contract,
    Description,
    constant,
    holds,
    listed,
)
from modelpool_client.surfaces.schema import nullable

_BLOCK = holds(type=constant("text", "thinking", "tool_use"))
_REASON = nullable(constant("end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"))

DESCRIPTION = Description(
    holds(type=constant("error"), error=holds(type=TEXT, message=TEXT, code=TEXT, source=TEXT)),
    {
        MESSAGES_PATH: Contract(
            holds(
                id=TEXT,
                type=constant("message"),
                role=constant("assistant"),
                model=TEXT,
                content=listed(_BLOCK),
                stop_reason=_REASON,
                stop_sequence=nullable(TEXT),
                usage=holds(input_tokens=COUNT, output_tokens=COUNT),
            ),
            BODIES[MESSAGES_PATH],
            stream_type=EVENT_STREAM,
            summary="Answer a conversation, streamed if asked",
            rules=RULES[MESSAGES_PATH],
        ),
        COUNT_PATH: Contract(
            holds(input_tokens=COUNT),
            BODIES[COUNT_PATH],
            summary="Count the tokens of a conversation",
            rules=RULES[COUNT_PATH],
        ),
    },
)
