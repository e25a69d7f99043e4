"""Models that servers of Ollama hold: loaded, asked and unloaded there over its native API."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from modelpool_client.errors import LoadFailed
from modelpool_client.surfaces.schema import Schema

from modelpool_worker.engine import EngineJob, RemoteEngine
from modelpool_worker.link import RemoteLink
from modelpool_worker.ollama_link.addresses import DEFAULT, Address, address_of, addresses_of
from modelpool_worker.ollama_link.asks import HONOURS
from modelpool_worker.ollama_link.facts import context_length_of, model_facts, same_model
from modelpool_worker.remote.options import ONLY

LOOK_SECONDS = 2.0
MAX_ANSWER_BYTES = 32 << 20
_SURFACES = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/api/embeddings",
)

OPTIONS: Mapping[str, Schema] = {
    "servers": {
        **ONLY,
        "type": "array",
        "items": {"type": "string", "minLength": 1},
        "minItems": 1,
        "maxItems": 64,
        "description": "where its servers are, host:port or URL; several share the requests. Not"
        " set: ollama_base_urls of the pool, else OLLAMA_HOST of the environment, else"
        f" {DEFAULT}",
    },
    "context_length": {
        "type": "integer",
        "minimum": 1,
        "maximum": 1 << 31,
        "description": "tokens (Ollama's num_ctx), asked for in every request so that no version"
        " chooses its own. Not set: what the Modelfile says, else 4096",
    },
    "batch_size": {"type": "integer", "minimum": 1, "description": "Ollama's num_batch"},
    "gpu_layers": {
        "type": "integer",
        "minimum": -1,
        "description": "Ollama's num_gpu; not set: Ollama chooses",
    },
    "main_gpu": {"type": "integer", "minimum": 0, "description": "the GPU for small tensors"},
    "threads": {"type": "integer", "minimum": 1, "description": "Ollama's num_thread"},
    "mmap": {"type": "boolean", "description": "Ollama's use_mmap"},
    "device": {
        "type": "string",
        "minLength": 1,
        "description": "the pool's name of the device, cuda:0, whose memory a server of this"
        " machine takes: Ollama does not tell which it is. Not set: ollama@host:port",
    },
    "timeout_seconds": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "for which a stream may be silent",
        "default": 300,
    },
    "api_key_variable": {
        **ONLY,
        "type": "string",
        "only_in_config": True,
        "minLength": 1,
        "description": "environment variable of the pool that holds a key for a proxy in front of"
        " Ollama, which has none itself",
    },
}


class Ollama(RemoteEngine):
    """Its source is the model's name there."""

    name = "ollama"
    asked_once = False
    capabilities = (
        "chat",
        "completion",
        "infill",
        "tools",
        "vision",
        "audio",
        "thinking",
        "streaming",
        "json_mode",
        "json_schema",
        "logprobs",
        "embeddings",
    )
    options: ClassVar[Mapping[str, Schema]] = OPTIONS
    surfaces: ClassVar[Sequence[str]] = _SURFACES
    honours: ClassVar[Mapping[str, Sequence[str]]] = HONOURS

    def check(self, options: Mapping[str, Any]) -> None:
        self.check_each(options)
        for text in options.get("servers") or ():
            try:
                address_of(text)
            except ValueError as e:
                raise LoadFailed(
                    f"{self.name}: servers: {e}",
                    code="bad_config",
                    param="options.servers",
                    source="engine",
                ) from None

    def memory_bytes(self, source: str, options: Mapping[str, Any]) -> int | None:
        """What servers of this machine will take: weights and context, by what they say of the
        model. None where none of them answers, nothing where all are elsewhere."""
        here = [a for a in addresses_of(options, os.environ) if a.is_here]
        sizes = [_size_at(address, source, options) for address in here]
        known = [size for size in sizes if size is not None]
        return sum(known) if known or not here else None

    def connect(self, job: EngineJob) -> RemoteLink:
        from modelpool_worker.ollama_link.link import SILENCE_SECONDS, OllamaLink, Settings

        options = job.options
        settings = Settings(
            addresses_of(options, os.environ),
            options.get("device"),
            float(options.get("timeout_seconds", SILENCE_SECONDS)),
            os.environ.get(options.get("api_key_variable", ""), ""),
        )
        return OllamaLink(job, settings)


def _size_at(address: Address, name: str, options: Mapping[str, Any]) -> int | None:
    try:
        tags = _asked(f"{address.url}/api/tags")
        shown = model_facts(_asked(f"{address.url}/api/show", {"model": name}))
    except (OSError, ValueError):
        return None
    models = tags.get("models") or ()
    size = next((m.get("size") for m in models if same_model(str(m.get("name")), name)), None)
    if not isinstance(size, int):
        return None
    return size + context_length_of(options, shown) * shown.key_value_bytes


def _asked(url: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Of a process that may block.

    Raises:
        OSError, ValueError: there is no such answer.
    """
    import urllib.request  # a front needs none of it

    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=LOOK_SECONDS) as answer:
        said: dict[str, Any] = json.loads(answer.read(MAX_ANSWER_BYTES))
    return said
