"""PURE. What spans and their attributes are called: by OpenTelemetry's semantic conventions for
HTTP and generative AI, and below ``modelpool.`` what these have no name for."""

from __future__ import annotations

from modelpool_client.surfaces.routes import (
    CHAT_PATH,
    EMBEDDINGS_PATH,
    GENERATE_PATH,
    GENERATE_STREAM_PATH,
    IMAGE_EDITS_PATH,
    IMAGES_PATH,
    RESPONSES_PATH,
    SURFACES,
    TEXT_PATH,
)

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
STREAM = "gen_ai.request.stream"
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
METHOD = "http.request.method"
ROUTE = "http.route"
STATUS = "http.response.status_code"
RESENT = "http.request.resend_count"
URL_PATH = "url.path"
ERROR = "error.type"
ADDRESS, PORT = "server.address", "server.port"
REQUEST_ID = "modelpool.request.id"
VIRTUAL_MODEL = "modelpool.virtual_model"
ESTIMATED = "modelpool.usage.is_estimated"
WORKER = "modelpool.worker.id"
REPLICA = "modelpool.replica"
MODEL = "modelpool.model"
REASON = "modelpool.reason"
JOINED = "modelpool.load.joined"
DIRECT = "modelpool.direct"
FIRST_TOKEN = "first token"

# What a model is asked for, where the conventions have a word for it; for the rest see routes.
_CHAT, _TEXT, _EMBEDDINGS = "chat", "text_completion", "embeddings"
_OPERATIONS = {
    **dict.fromkeys((CHAT_PATH, RESPONSES_PATH, "/v1/messages", "/api/chat"), _CHAT),
    **dict.fromkeys((TEXT_PATH, GENERATE_PATH, GENERATE_STREAM_PATH, "/api/generate"), _TEXT),
    **dict.fromkeys(("/completion", "/infill"), _TEXT),
    **dict.fromkeys((EMBEDDINGS_PATH, "/api/embed", "/api/embeddings", "/embedding"), _EMBEDDINGS),
    **dict.fromkeys((IMAGES_PATH, IMAGE_EDITS_PATH), "generate_content"),
}


def operation_of(path: str) -> str:
    """Of a surface's path."""
    surface = SURFACES.get(path)
    task = path if surface is None else surface.task
    return _OPERATIONS.get(path) or task.removeprefix("llama.cpp's ").replace(" ", "_")
