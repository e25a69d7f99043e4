"""PURE. Ollama's API, told to engines in OpenAI's words: what its clients send and want to read.

Its durations are whole nanoseconds, its times RFC 3339; ``stream`` is true unless a request says
otherwise, and a stream is one JSON object a line.
"""

from modelpool_client.surfaces.ollama.answers import NDJSON, error_body, error_line
from modelpool_client.surfaces.ollama.keep_alive import keep_alive_seconds
from modelpool_client.surfaces.ollama.loading import is_load_only, load_answer
from modelpool_client.surfaces.ollama.management import (
    API_VERSION,
    MANAGEMENT_BODIES,
    PULL_BEGINS,
    PULL_ENDS,
    ROOT_TEXT,
    Details,
    Listed,
    Running,
    asked_model,
    encoded_tags,
    parameters_of,
    ps_body,
    pull_line,
    pull_progress,
    show_body,
    tags_body,
    version_body,
)
from modelpool_client.surfaces.ollama.tables import (
    BODIES,
    CHAT,
    EMBED,
    EMBEDDINGS,
    GENERATE,
)
from modelpool_client.surfaces.ollama.translate import translate

__all__ = [
    "API_VERSION",
    "BODIES",
    "CHAT",
    "EMBED",
    "EMBEDDINGS",
    "GENERATE",
    "MANAGEMENT_BODIES",
    "NDJSON",
    "PULL_BEGINS",
    "PULL_ENDS",
    "ROOT_TEXT",
    "Details",
    "Listed",
    "Running",
    "asked_model",
    "encoded_tags",
    "error_body",
    "error_line",
    "is_load_only",
    "keep_alive_seconds",
    "load_answer",
    "parameters_of",
    "ps_body",
    "pull_line",
    "pull_progress",
    "show_body",
    "tags_body",
    "translate",
    "version_body",
]
