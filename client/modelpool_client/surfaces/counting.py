"""PURE. The translation of a request that only wants the tokens of its prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modelpool_client.errors import EngineFailed, ModelPoolError
from modelpool_client.surfaces.routes import CHAT_PATH
from modelpool_client.surfaces.translation import Told
from modelpool_client.surfaces.whole import Whole


def token_count(
    prompt: dict[str, Any],
    ignored: tuple[str, ...],
    answer: Callable[[int], dict[str, Any]],
    failed: Callable[[ModelPoolError], bytes],
) -> Whole:
    """What an engine counts, or says of a prompt after one token of an answer to it.

    Args:
        prompt: of chat completions, all that decides how long the prompt is.
        answer: the body that says how many tokens there are.
        failed: see ``Whole``.
    """
    body = {**prompt, "max_tokens": 1}
    told = Told(CHAT_PATH, body, stream=False, ignored=ignored, is_count=True)
    return Whole(told, lambda said: answer(_counted(said)), failed)


def _counted(answer: dict[str, Any]) -> int:
    """
    Raises:
        EngineFailed: the engine counts nothing.
    """
    tokens = answer.get("input_tokens", (answer.get("usage") or {}).get("prompt_tokens"))
    if tokens is None:
        text = "the engine does not say how many tokens a prompt has, so nobody can tell"
        raise EngineFailed(text, source="engine")
    return int(tokens)
