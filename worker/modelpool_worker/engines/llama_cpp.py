"""GGUF models through llama.cpp's own server core, in-process by way of ``xllamacpp``.

The server answers HTTP on the unix socket by itself, with continuous batching; Python only loads.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Mapping
from typing import Any, ClassVar

from modelpool_client.errors import LoadFailed
from modelpool_client.surfaces.schema import Schema

from modelpool_worker.engine import Engine, EngineJob, Status, Usable

from .cpu import physical_cores
from .gguf import read_header

INSTALL_HINT = "pip install 'modelpool[llama]'"
DEFAULT_CONTEXT = 4096
DEFAULT_PARALLEL = 8
# Errors only: every reason of a failed load is one; warnings come with ordinary requests.
VERBOSITY = 1
_CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")

OPTIONS: Mapping[str, Schema] = {
    "context_length": {
        "type": "integer",
        "minimum": 16,
        "maximum": 1 << 24,
        "description": "tokens of one request, prompt and answer; "
        f"default: what the model was trained with, at most {DEFAULT_CONTEXT}",
    },
    "parallel": {
        "type": "integer",
        "minimum": 1,
        "maximum": 256,
        "description": f"requests at once, each with its own context; default {DEFAULT_PARALLEL}",
    },
    "threads": {"type": "integer", "minimum": 1, "maximum": 512, "description": "default: cores"},
    "batch_size": {
        "type": "integer",
        "minimum": 1,
        "maximum": 1 << 16,
        "description": "prompt tokens in one step; default: llama.cpp's",
    },
    "cache_type_k": {"type": "string", "enum": _CACHE_TYPES},
    "cache_type_v": {"type": "string", "enum": _CACHE_TYPES},
    "temperature": {
        "type": "number",
        "minimum": 0,
        "maximum": 2,
        "description": "for requests that say none",
    },
    "seed": {"type": "integer", "minimum": 0, "maximum": (1 << 32) - 2},
    "mmap": {"type": "boolean", "description": "map the file instead of reading it; default: auto"},
    "gpu_layers": {
        "type": "integer",
        "minimum": 0,
        "maximum": 10_000,
        "description": "layers on the GPU; default: as many as fit",
    },
}


class LlamaCpp(Engine):
    """See ``OPTIONS``; the source is a GGUF file, the first part if there are several."""

    name = "llama.cpp"
    formats = ("gguf",)
    capabilities = (
        "chat",
        "completion",
        "tools",
        "streaming",
        "json mode",
        "json schema",
        "logprobs",
    )
    options: ClassVar[Mapping[str, Schema]] = OPTIONS

    def probe(self) -> Usable:
        if importlib.util.find_spec("xllamacpp") is None:
            return Usable(False, "xllamacpp is not installed", INSTALL_HINT)
        return Usable(True)

    def inspect(self, source: str) -> None:
        read_header(source)

    def serve(self, job: EngineJob, status: Status) -> None:
        trained = read_header(job.source).context_length
        length = job.options.get("context_length") or min(
            trained or DEFAULT_CONTEXT, DEFAULT_CONTEXT
        )
        try:
            import xllamacpp
        except ImportError as e:
            message = f"xllamacpp cannot be imported ({e}): {INSTALL_HINT}"
            raise LoadFailed(message, code="missing_dependency", source="engine") from e
        params = parameters(xllamacpp, job, length)
        try:
            server = xllamacpp.Server(params)
        except RuntimeError as e:
            # The reason is on standard error, where the front finds it.
            raise LoadFailed("llama.cpp cannot load the model", source="engine") from e
        status.ready(context_length=length)
        threading.Event().wait()
        del server


def parameters(library: Any, job: EngineJob, context_length: int) -> Any:
    """llama.cpp's parameters for a job; ``context_length`` tokens for each request at once."""
    options = job.options
    p = library.CommonParams()
    p.model.path = job.source
    p.model_alias = {job.model_id}
    p.n_parallel = options.get("parallel", DEFAULT_PARALLEL)
    p.n_ctx = context_length * p.n_parallel
    threads = options.get("threads") or physical_cores()
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = threads
    p.warmup = False
    p.cache_ram_mib = 0
    p.verbosity = VERBOSITY
    _set_server(p, job.socket)
    _set_memory(library, p, options)
    if "temperature" in options:
        p.sampling.temp = options["temperature"]
    if "seed" in options:
        p.sampling.seed = options["seed"]
    return p


def _set_server(p: Any, socket: str) -> None:
    p.hostnames = [socket]
    # Not used for a unix socket, but with 0 it would look for a free one, and fail.
    p.port = 1
    # One per open stream: a request that waits for a slot must not keep others from the server.
    p.n_threads_http = 4 * p.n_parallel + 8
    p.endpoint_metrics = True
    p.ui = False
    p.cors_origins = "http://localhost"


def _set_memory(library: Any, p: Any, options: Mapping[str, Any]) -> None:
    if "batch_size" in options:
        p.n_batch = options["batch_size"]
    for key in ("cache_type_k", "cache_type_v"):
        if key in options:
            setattr(p, key, getattr(library.ggml_type, f"GGML_TYPE_{options[key].upper()}"))
    if "mmap" in options:
        mode = "MMAP" if options["mmap"] else "NONE"
        p.load_mode = getattr(library.llama_load_mode, f"LLAMA_LOAD_MODE_{mode}")
    if "gpu_layers" in options:
        p.n_gpu_layers = options["gpu_layers"]
    # To fit layers into device memory it reads the file twice: not where there is no device.
    p.fit_params = "gpu_layers" not in options and _has_device(library)


def _has_device(library: Any) -> bool:
    cpu = library.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU
    return any(d["type"] != cpu for d in library.get_device_info())
