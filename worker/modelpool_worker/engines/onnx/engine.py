"""ONNX models by onnxruntime, and by onnxruntime-genai what writes and cannot be batched.

A folder with ``genai_config.json`` chats. A graph in a file takes and gives arrays; where it reads
tokens and a tokenizer lies beside it, it also embeds, ranks or classifies texts.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from modelpool_client.errors import LoadFailed
from modelpool_client.surfaces.routes import (
    INFER_PATH,
)
from modelpool_client.surfaces.schema import Schema

from modelpool_worker.batching.options import OPTIONS as BATCHING
from modelpool_worker.engine import Engine, EngineJob, Status, Usable
from modelpool_worker.engines import text_options
from modelpool_worker.engines.cpu import physical_cores
from modelpool_worker.engines.file_check import check_message
from modelpool_worker.engines.library import Library
from modelpool_worker.engines.sampling import SAMPLING
from modelpool_worker.engines.tokenizer_folder import bad_file
from modelpool_worker.hosting.contract import Hosted
from modelpool_worker.hosting.parameters import text_honours
from modelpool_worker.leaving import Leaving, leaving

from . import genai as onnx_genai
from . import session as onnx_session
from .continuous import ContinuousDecoder
from .decoder import Unfit
from .genai import GenaiConfig, GenaiText, batched_decoder
from .session import session
from .tensors import OnnxTensors
from .texts import text_model

RUNTIME = Library({"onnxruntime": "onnxruntime"}, "onnx")
GENAI = Library({"onnxruntime_genai": "onnxruntime-genai"}, "onnx")
SUFFIX = ".onnx"
CONTINUOUS = text_options.CONTINUOUS_BATCHING
_GRAPH_FIELD = 7  # of ModelProto
# The libraries with numpy and a tokenizer, before any weights.
BASE_BYTES = 90_000_000
# onnxruntime puts matrices into an order of its own, beside what it has read of the file.
WEIGHTS_FACTOR = 1.25

OPTIONS: Mapping[str, Schema] = {
    "context_length": text_options.context_length(
        f"the model's own, at most {onnx_genai.DEFAULT_CONTEXT} for one that writes"
    ),
    "parallel": text_options.parallel(onnx_genai.DEFAULT_PARALLEL, 64),
    "batch_size": text_options.batch_size(onnx_genai.DEFAULT_BATCH),
    text_options.CONTINUOUS_BATCHING: text_options.continuous_batching(
        "onnxruntime-genai writes each by itself"
    ),
    "threads": text_options.threads(default=physical_cores()),
    "execution_providers": {
        "type": "array",
        "items": {"type": "string", "enum": tuple(onnx_session.PROVIDERS)},
        "minItems": 1,
        "maxItems": len(onnx_session.PROVIDERS),
        "description": "what computes, the best first; what one cannot goes to the next, and to "
        "the CPU in the end; default: that of a GPU where this build of onnxruntime has one",
    },
    "graph_optimization": {
        "type": "string",
        "enum": tuple(onnx_session.OPTIMIZATIONS),
        "description": "how far a graph is rewritten when it is loaded",
        "default": onnx_session.DEFAULT_OPTIMIZATION,
    },
    "batched": {
        "type": "boolean",
        "description": "whether the first size of all arrays counts samples, so that requests can "
        "be computed in one batch; default: as the graph's names look",
    },
    "pooling_type": {
        "type": "string",
        "enum": ("mean", "cls", "last", "max"),
        "description": "how the tokens of a text become its embedding, where the graph does not "
        "do it; default: as sentence-transformers' files beside it say, else mean",
    },
    "normalize": {
        "type": "boolean",
        "description": "make embeddings of length one; default: as those files say, else true",
    },
    **BATCHING,
}


class Onnx(Engine):
    """See ``OPTIONS``; the source is a file with a graph, or onnxruntime-genai's folder."""

    name = "onnx"
    formats = ("onnx",)
    capabilities = (*text_options.WRITERS, *text_options.JUDGES, "tensor_inference")
    options: ClassVar[Mapping[str, Schema]] = OPTIONS
    surfaces: ClassVar[Collection[str]] = (
        *text_options.WRITING,
        *text_options.JUDGING,
        INFER_PATH,
    )
    after_leaving: ClassVar[Mapping[str, Leaving]] = leaving(surfaces)
    honours: ClassVar[Mapping[str, Collection[str]]] = text_honours(
        SAMPLING, logprobs=True, grammar=True
    )

    def probe(self) -> Usable:
        if importlib.util.find_spec("onnxruntime") is None:
            return Usable(False, "onnxruntime is not installed", RUNTIME.install_hint)
        from importlib import metadata

        names = ("onnxruntime", "onnxruntime-genai")
        found = []
        for name in names:
            try:
                found.append(f"{name} {metadata.version(name)}")
            except metadata.PackageNotFoundError:  # builds for GPUs have other names
                continue
        return Usable(True, version=", ".join(found))

    def inspect(self, source: str) -> None:
        if os.path.isdir(source):
            if not os.path.isfile(os.path.join(source, onnx_genai.CONFIG)):
                text = f"the folder has no {onnx_genai.CONFIG}; name an {SUFFIX} file in it"
                raise bad_file(source, text)
            source = os.path.join(source, onnx_genai.read_config(source).graph)
            if os.path.isdir(source):  # of a kind that has several
                return
        check_message(source, _GRAPH_FIELD, "ONNX graph")

    def memory_bytes(self, source: str, options: Mapping[str, Any]) -> int | None:
        try:
            weights = int(_weights_bytes(source) * WEIGHTS_FACTOR)
            if not os.path.isdir(source):
                return BASE_BYTES + weights
            config = onnx_genai.read_config(source)
        except (OSError, LoadFailed):
            return None
        parallel = options.get("parallel", onnx_genai.DEFAULT_PARALLEL)
        tokens = parallel * onnx_genai.context_length(config, options)
        total: int = BASE_BYTES + weights + tokens * config.cache_width * 4
        return total

    def prepare(self) -> None:
        import onnxruntime  # noqa: F401

    def serve(self, job: EngineJob, status: Status) -> None:
        from modelpool_worker.hosting.server import serve

        self.inspect(job.source)
        status.progress("weights")
        hosted = _writer(job) if os.path.isdir(job.source) else _graph(job)
        serve(job, status, hosted)


def _writer(job: EngineJob) -> Hosted:
    config = onnx_genai.read_config(job.source)
    text = _batched(job, config) or _stepped(job, config)
    unable = {}
    if text.vocabulary is None:
        unable["response_format"] = "the bytes of this model's tokens are not known"
    return Hosted(text=text, chat_error=text.chat_error, unable=unable)


def _batched(job: EngineJob, config: GenaiConfig) -> ContinuousDecoder | None:
    """None where it is to be left to onnxruntime-genai."""
    wanted = job.options.get(CONTINUOUS)
    if wanted is False:
        return None
    onnxruntime = RUNTIME.load()
    try:
        return batched_decoder(onnxruntime, job.source, config, job.options)
    except Unfit as e:
        if wanted:
            text = f"options.{CONTINUOUS}: {job.source} cannot be batched so: {e}"
            param = f"options.{CONTINUOUS}"
            raise LoadFailed(text, code="bad_config", param=param, source="engine") from e
        print(f"onnx: each text is written by itself: {e}", file=sys.stderr)
        return None


def _stepped(job: EngineJob, config: GenaiConfig) -> GenaiText:
    return GenaiText(GENAI.load(), job.source, config, job.options)


def _graph(job: EngineJob) -> Hosted:
    loaded = session(RUNTIME.load(), job.source, job.options)
    found = text_model(loaded, job.source, job.options)
    purposes: dict[str, Any] = {} if found is None else {found[0].purpose: found[1]}
    try:
        tensors = OnnxTensors(loaded, job.source, job.options.get("batched"))
    except LoadFailed:
        if not purposes:
            raise
        return Hosted(**purposes)
    return Hosted(tensors=tensors, **purposes)


def _weights_bytes(source: str) -> int:
    """Of a graph and the files beside it that hold its weights, by their usual names; of a folder
    all of these."""
    if os.path.isdir(source):
        names = os.listdir(source)
        wanted = [n for n in names if SUFFIX in n or n.endswith((".data", ".weights", ".bin"))]
        return sum(os.path.getsize(os.path.join(source, n)) for n in wanted)
    folder, name = os.path.split(os.path.abspath(source))
    stem = name.removesuffix(SUFFIX)
    more = (f"{stem}.data", f"{stem}.weight", f"{stem}.weights")
    names = [n for n in os.listdir(folder) if n in more or n.startswith(name)]
    return sum(os.path.getsize(os.path.join(folder, n)) for n in names)
