"""PURE. The translation of a request that only wants the tokens of its prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modelpool_client.errors import EngineFailed, ModelPoolError
from modelpool_client.surfaces.routes import CHAT_PATH
from modelpool_client.surfaces.translation import Told


class TokenCount:
    """What an engine counts, or says of a prompt after one token of an answer to it.

    Args:
        prompt: of chat completions, all that decides how long the prompt is.
        answer: the body that says how many tokens there are.
        failed: the error for whoever has a stream, though nothing here begins one.
    """

    stream_type = b"application/json"  # there is none

    def __init__(
        self,
        prompt: dict[str, Any],
        ignored: tuple[str, ...],
        answer: Callable[[int], dict[str, Any]],
        failed: Callable[[ModelPoolError], bytes],
    ) -> None:
        body = {**prompt, "max_tokens": 1}
        self.told = Told(CHAT_PATH, body, stream=False, ignored=ignored, is_count=True)
        self._answer = answer
        self._failed = failed

    def whole(self, answer: dict[str, Any]) -> dict[str, Any]:
        """See ``Translation``.

        Raises:
            EngineFailed: the engine counts nothing.
        """
        tokens = answer.get("input_tokens", (answer.get("usage") or {}).get("prompt_tokens"))
        if tokens is None:
            text = "the engine does not say how many tokens a prompt has, so nobody can tell"
            raise EngineFailed(text, source="engine")
        return self._answer(tokens)

    def begin(self) -> bytes:
        """Nothing is streamed."""
        return b""

    def chunk(self, chunk: dict[str, Any]) -> bytes:
        """Nothing is streamed."""
        return b""

    def end(self) -> bytes:
        """Nothing is streamed."""
        return b""

    def failed(self, error: ModelPoolError) -> bytes:
        """See ``Translation``."""
        return self._failed(error)

    def ping(self) -> bytes:
        """Nothing is streamed."""
        return b""
