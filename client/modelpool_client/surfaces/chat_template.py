"""PURE. What is told of a model whose chat template does not work."""

from __future__ import annotations

from modelpool_client.errors import InvalidRequest

from .routes import TEXT_PATH

FAULT = "the chat template in its file does not work"


def no_chat(model_id: str, why: str) -> InvalidRequest:
    """The refusal of a chat; ``why`` begins with ``FAULT``."""
    return InvalidRequest(
        f"{model_id} cannot chat: {why}; set the model's option chat_template or "
        f"chat_template_file and load it again, or use {TEXT_PATH}",
        code="chat_template_error",
        source="engine",
    )
