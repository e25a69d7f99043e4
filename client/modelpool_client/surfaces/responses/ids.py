"""PURE. The names of a response and of all that belongs to it."""

from __future__ import annotations

# As OpenAI's begin; any other would do.
_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "call": "call",
}


class Ids:
    """Of one response, each once; ``unique`` is in all of them and makes them unlike others'."""

    def __init__(self, unique: str) -> None:
        self._unique = unique
        self._given = 0

    @property
    def response(self) -> str:
        return f"resp_{self._unique}"

    def new(self, kind: str) -> str:
        """For an item of that type, or a ``call``."""
        self._given += 1
        return f"{_PREFIXES[kind]}_{self._unique}_{self._given}"
