"""Google's endpoint in OpenAI's words (ai.google.dev/gemini-api/docs/openai, of 2026-11): below
``/v1beta/openai``, names of models with ``models/`` in its list, errors in a list of one."""

from __future__ import annotations

from typing import Any

from .openai import OpenAIApi
from .server import Answer, Asked


class GoogleApi(OpenAIApi):
    """Repeats what it is told."""

    def __init__(self) -> None:
        super().__init__("/v1beta/openai")
        self.models = ["models/gemini-3-flash", "gemini-3-flash"]

    def refuses_key(self, asked: Asked) -> Answer:
        return self.error(400, "API key not valid. Please pass a valid API key.")

    def error(self, status: int, message: str, **more: Any) -> Answer:
        name = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}
        error = {"code": status, "message": message, "status": name.get(status, "UNKNOWN")}
        return Answer(status, [{"error": error}])
