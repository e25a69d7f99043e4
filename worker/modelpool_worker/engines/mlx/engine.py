"""Models of MLX that write, by mlx-lm: on Apple silicon, and on Linux with ``mlx[cpu]``."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from modelpool_client.errors import LoadFailed
from modelpool_client.surfaces.schema import Schema

from modelpool_worker.engine import Engine, EngineJob, Status, Usable
from modelpool_worker.engines import text_options
from modelpool_worker.engines.file_check import check_safetensors, safetensors_bytes
from modelpool_worker.engines.hf_folder import CONFIG, read_writer
from modelpool_worker.engines.library import Library
from modelpool_worker.engines.sampling import SAMPLING
from modelpool_worker.engines.tokenizer_folder import TOKENIZER, bad_file, read_json
from modelpool_worker.hosting.contract import Hosted
from modelpool_worker.hosting.parameters import text_honours
from modelpool_worker.leaving import Leaving, leaving

from . import text as mlx_text

LIBRARY = Library({"mlx": "mlx", "mlx_lm": "mlx-lm"}, "mlx")
WEIGHTS = "model*.safetensors"
# mlx-lm imports transformers, which imports PyTorch where it is installed.
BASE_BYTES = 300_000_000
# Of the numbers that are computed with, bytes.
WIDTHS = {"float32": 4, "float16": 2, "bfloat16": 2}

OPTIONS: Mapping[str, Schema] = {
    "context_length": text_options.context_length(
        f"the model's own, at most {mlx_text.DEFAULT_CONTEXT}"
    ),
    "parallel": text_options.parallel(mlx_text.DEFAULT_PARALLEL),
    "batch_size": text_options.batch_size(mlx_text.DEFAULT_BATCH),
    "dtype": {
        "type": "string",
        "enum": ("auto", "file", *WIDTHS),
        "description": "of the numbers that are computed with, and of weights that are not "
        "quantised: as in the files, or another; auto: float32 on a CPU, whose products of 16-bit "
        "numbers are slow, else as in the files",
        "default": "auto",
    },
}


class Mlx(Engine):
    """See ``OPTIONS``; the source is a folder with safetensors, quantised by MLX or not at all."""

    name = "mlx"
    formats = ("mlx", "safetensors")
    capabilities = text_options.WRITERS
    options: ClassVar[Mapping[str, Schema]] = OPTIONS
    surfaces: ClassVar[Collection[str]] = text_options.WRITING
    after_leaving: ClassVar[Mapping[str, Leaving]] = leaving(surfaces)
    honours: ClassVar[Mapping[str, Collection[str]]] = text_honours(
        SAMPLING, logprobs=True, grammar=True
    )

    def probe(self) -> Usable:
        return LIBRARY.probe()

    def inspect(self, source: str) -> None:
        if not os.path.isdir(source):
            raise bad_file(source, "is no folder" if os.path.exists(source) else "does not exist")
        read_writer(source)
        if code := read_json(os.path.join(source, CONFIG)).get("model_file"):
            text = f"the architecture of {source} is Python code, {code!r}, which is not run"
            raise LoadFailed(text, code="unsupported_arch", param="source", source="engine")
        files = sorted(glob.glob(os.path.join(glob.escape(source), WEIGHTS)))
        if not files:
            raise bad_file(source, f"has no {WEIGHTS}")
        for file in files:
            check_safetensors(file)
        if not os.path.isfile(os.path.join(source, TOKENIZER)):
            raise bad_file(source, f"misses {TOKENIZER}")

    def memory_bytes(self, source: str, options: Mapping[str, Any]) -> int | None:
        try:
            config = read_writer(source)
            width = _width(options.get("dtype", "auto"))
            files = glob.glob(os.path.join(glob.escape(source), WEIGHTS))
            weights = sum(safetensors_bytes(file, width) for file in files)
        except (OSError, LoadFailed):
            return None
        known = config.context_length or mlx_text.DEFAULT_CONTEXT
        length = min(options.get("context_length") or mlx_text.DEFAULT_CONTEXT, known)
        tokens = length * options.get("parallel", mlx_text.DEFAULT_PARALLEL)
        total: int = BASE_BYTES + weights + tokens * config.cache_width * (width or 2)
        return total

    def prepare(self) -> None:
        _import()

    def serve(self, job: EngineJob, status: Status) -> None:
        from modelpool_worker.hosting.server import serve

        self.inspect(job.source)
        _import()
        status.progress("weights")
        text = mlx_text.MlxText(job.source, read_writer(job.source), job.options)
        unable = {}
        if text.vocabulary is None:
            unable["response_format"] = "the bytes of this model's tokens are not known"
        serve(job, status, Hosted(text=text, chat_error=text.chat_error, unable=unable))


def _width(dtype: str) -> int | None:
    """Bytes of a number that is computed with; None: as in the files."""
    if dtype == "auto":
        return None if sys.platform == "darwin" or _has_cuda() else WIDTHS["float32"]
    return WIDTHS.get(dtype)


def _has_cuda() -> bool:
    from importlib.metadata import distributions

    names = (d.metadata["Name"] or "" for d in distributions())
    return any(name.startswith("mlx-cuda") for name in names)


def _import() -> None:
    # Nothing of a model's folder is looked for elsewhere.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    LIBRARY.load()
