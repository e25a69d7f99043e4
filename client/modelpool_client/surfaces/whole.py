"""PURE. Translations of what never comes bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from modelpool_client.errors import EngineFailed, ModelPoolError
from modelpool_client.surfaces.contract import JSON
from modelpool_client.surfaces.translation import Told


@dataclass
class Whole:
    """See ``Translation``.

    Attributes:
        tell: makes the client's answer of the engine's.
        tell_failed: makes the error for whoever has a stream, though nothing here begins one.
    """

    told: Told
    tell: Callable[[dict[str, Any]], Any]
    tell_failed: Callable[[ModelPoolError], bytes] = lambda error: b""
    stream_type: bytes = JSON.encode()

    def whole(self, answer: dict[str, Any]) -> Any:
        """See ``Translation``."""
        return self.tell(answer)

    def begin(self) -> bytes:
        """See ``Translation``."""
        return b""

    def chunk(self, chunk: dict[str, Any]) -> bytes:
        """See ``Translation``."""
        return b""

    def end(self) -> bytes:
        """See ``Translation``."""
        return b""

    def failed(self, error: ModelPoolError) -> bytes:
        """See ``Translation``."""
        return self.tell_failed(error)

    def ping(self) -> bytes:
        """See ``Translation``."""
        return b""


def vectors(answer: dict[str, Any], count: int) -> list[list[float]]:
    """Those of an answer in OpenAI's words, in the order of what was asked.

    Raises:
        EngineFailed: there are not so many.
    """
    found = sorted(answer.get("data") or [], key=lambda item: item.get("index", 0))
    if len(found) != count:
        text = f"the engine gave {len(found)} embeddings for {count}"
        raise EngineFailed(text, source="engine")
    return [item["embedding"] for item in found]
