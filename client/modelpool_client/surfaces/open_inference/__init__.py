"""PURE. The Open Inference Protocol, version 2, over HTTP, as KServe and Triton speak it: requests
and answers made of tensors, told to engines that read text in OpenAI's words.

The protocol: https://github.com/kserve/open-inference-protocol, specification/protocol. Of Triton's
extensions there are those that ``bodies.EXTENSIONS`` names; statistics, traces, shared memory and
sequences are not here.
"""

from modelpool_client.surfaces.open_inference.answers import error_body
from modelpool_client.surfaces.open_inference.bodies import (
    INDEX,
    LOAD,
    UNLOAD,
    Entry,
    ignored_parameters,
    model_config,
    model_metadata,
    repository_index,
    server_metadata,
    wants_ready,
)
from modelpool_client.surfaces.open_inference.codec import LENGTH_HEADER, decode, encode
from modelpool_client.surfaces.open_inference.paths import (
    CONFIG,
    READY,
    ROOT,
    Target,
    check_version,
    is_work,
    target_of,
)
from modelpool_client.surfaces.open_inference.tables import (
    BODIES,
    GENERATE,
    GENERATE_STREAM,
    INFER,
    VERSION,
    Kind,
    kind_of_engine,
    kind_of_model,
)
from modelpool_client.surfaces.open_inference.translate import translate

__all__ = [
    "BODIES",
    "CONFIG",
    "GENERATE",
    "GENERATE_STREAM",
    "INDEX",
    "INFER",
    "LENGTH_HEADER",
    "LOAD",
    "READY",
    "ROOT",
    "UNLOAD",
    "VERSION",
    "Entry",
    "Kind",
    "Target",
    "check_version",
    "decode",
    "encode",
    "error_body",
    "ignored_parameters",
    "is_work",
    "kind_of_engine",
    "kind_of_model",
    "model_config",
    "model_metadata",
    "repository_index",
    "server_metadata",
    "target_of",
    "translate",
    "wants_ready",
]
