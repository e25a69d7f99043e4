"""PURE. What a server tells beside a call of a tool, and wants back with it: ``extra_content``, in
which Google's models sign what they thought. Clients of other APIs have no place for it.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]

EXTRA = "extra_content"
MOST_BYTES = 4 << 20
# For calls that another model made, or before this worker began (ai.google.dev/gemini-api/docs/
# thought-signatures).
UNSIGNED: Json = {"google": {"thought_signature": "skip_thought_signature_validator"}}


class CallExtras:
    """Those of the last calls, by their ids."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._known: OrderedDict[str, tuple[Json, int]] = OrderedDict()
        self._size = 0
        self._most = most_bytes

    def __repr__(self) -> str:
        return f"<CallExtras of {len(self._known)} calls, {self._size} bytes>"

    def hear(self, answer: Json) -> None:
        """Of an answer, or a chunk of one."""
        for choice in _objects(answer.get("choices")):
            said = choice.get("message") or choice.get("delta")
            for call in _objects(said.get("tool_calls") if isinstance(said, dict) else None):
                extra, name = call.get(EXTRA), call.get("id")
                # An id that is empty is that of any call.
                if isinstance(extra, dict) and isinstance(name, str) and name:
                    self._keep(name, extra)

    def _keep(self, name: str, extra: Json) -> None:
        _, before = self._known.pop(name, ({}, 0))
        size = len(json.dumps(extra)) + len(name)
        self._known[name] = (extra, size)
        self._size += size - before
        while self._size > self._most:
            _, (_, gone) = self._known.popitem(last=False)
            self._size -= gone

    def completed(self, messages: Any, *, signs: bool) -> Any:
        """The messages of a chat, with what is known of calls that say nothing of it.

        Args:
            signs: of each message's calls the first has something, ``UNSIGNED`` if nothing else.
        """
        if not isinstance(messages, list):
            return messages
        return [self._of(message, signs) for message in messages]

    def _of(self, message: Any, signs: bool) -> Any:
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        if not isinstance(calls, list) or any(EXTRA in call for call in _objects(calls)):
            return message
        told = []
        for i, call in enumerate(calls):
            if not isinstance(call, dict):
                told.append(call)
                continue
            known = self._known.get(str(call.get("id")))
            extra = known[0] if known else UNSIGNED if signs and i == 0 else None
            told.append(call if extra is None else {**call, EXTRA: extra})
        return {**message, "tool_calls": told}


def _objects(value: Any) -> Iterable[Json]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else ()
