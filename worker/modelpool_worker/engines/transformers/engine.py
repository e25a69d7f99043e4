"""Hugging Face models by ``transformers``: text, embeddings, ranks and classes, on a CPU or a GPU.

Text is batched continuously in a cache of fixed size, by the library's own scheduler, see
``transformers_continuous``; models that cannot be are batched as the kit does it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from modelpool_client.errors import LoadFailed
from modelpool_client.surfaces.schema import Schema

from modelpool_worker.devices.nvidia import TOOL
from modelpool_worker.engine import Engine, EngineJob, Status, Usable
from modelpool_worker.engines import text_options
from modelpool_worker.engines.gguf import read_element_count
from modelpool_worker.engines.llama.llama_cpp import limit_spinning
from modelpool_worker.hosting.parameters import SAMPLING, text_honours
from modelpool_worker.leaving import Leaving, leaving

from . import memory
from .options import (
    CPU_STEP_TOKENS,
    DEFAULT_CONTEXT,
    DEFAULT_PARALLEL,
    DEVICE,
    NAME,
    OPTIONS,
    QUANTIZATION,
    bad_option,
    contradiction,
    quantizers,
)
from .source import Source, read_source, text_part

# PyTorch comes first, by itself: which of its builds fits depends on the machine.
INSTALL_HINT = (
    "install PyTorch for this machine (https://pytorch.org/get-started/locally), then "
    "pip install 'modelpool[transformers]'"
)
LIBRARIES = ("torch", "transformers")
# Nothing is fetched, and nobody is asked.
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class Transformers(Engine):
    """See ``OPTIONS``; the source is a folder with ``config.json`` and safetensors, or a GGUF file,
    whose weights are unpacked."""

    name = NAME
    formats = ("safetensors", "gguf")
    capabilities = (*text_options.WRITERS, *text_options.JUDGES)
    options: ClassVar[Mapping[str, Schema]] = OPTIONS
    surfaces: ClassVar[Collection[str]] = (*text_options.WRITING, *text_options.JUDGING)
    after_leaving: ClassVar[Mapping[str, Leaving]] = leaving(surfaces)
    honours: ClassVar[Mapping[str, Collection[str]]] = text_honours(
        SAMPLING, logprobs=True, grammar=True
    )

    def probe(self) -> Usable:
        missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
        if missing:
            return Usable(False, f"{' and '.join(missing)} not installed", INSTALL_HINT)
        from importlib import metadata

        return Usable(True, version=", ".join(f"{n} {metadata.version(n)}" for n in LIBRARIES))

    def probe_for(self, options: Mapping[str, Any]) -> Usable:
        missing = [n for n in quantizers(options) if importlib.util.find_spec(n) is None]
        if missing:
            reason = (
                f"options.{QUANTIZATION} {options[QUANTIZATION]!r} needs {' and '.join(missing)}"
            )
            return Usable(False, reason, f"pip install {' '.join(missing)}")
        return self.probe()

    def inspect(self, source: str) -> None:
        read_source(source)

    def check(self, options: Mapping[str, Any]) -> None:
        super().check(options)
        if (wrong := contradiction(options)) is not None:
            raise bad_option(*wrong)

    def check_each(self, options: Mapping[str, Any]) -> None:
        super().check_each(options)
        device = options.get("device", "auto")
        if not DEVICE.fullmatch(device):
            raise bad_option("device", f"must be auto, cpu, mps or cuda:N, not {device[:100]!r}")
        path = options.get("chat_template_file")
        if path is not None and not os.path.isabs(path):
            raise bad_option("chat_template_file", f"must be an absolute path, not {path[:200]!r}")
        text = options.get("chat_template")
        if text is not None and "{" not in text:
            raise bad_option("chat_template", "must be Jinja")

    def memory_bytes(self, source: str, options: Mapping[str, Any]) -> int | None:
        if _may_use_a_device(options):
            return None
        try:
            return host_bytes(read_source(source), options)
        except LoadFailed:
            return None

    def prepare(self) -> None:
        limit_spinning(os.environ)
        os.environ.update(ENVIRONMENT)
        from . import hosting  # noqa: F401

    def serve(self, job: EngineJob, status: Status) -> None:
        source = read_source(job.source)
        try:
            self.prepare()
            from modelpool_worker.hosting.server import serve

            from .hosting import hosted

            # Torch makes one, for code that is not compiled here; this is there anyway, and goes.
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.dirname(job.socket))
        except ImportError as e:
            text = f"{NAME} cannot be imported ({e}): {INSTALL_HINT}"
            raise LoadFailed(text, code="missing_dependency", source="engine") from e
        serve(job, status, hosted(source, job.options, status))


def host_bytes(source: Source, options: Mapping[str, Any]) -> int:
    """Bytes that the child takes where all is on the CPU."""
    elements = source.elements
    if source.gguf_file:
        elements = read_element_count(os.path.join(source.folder, source.gguf_file))
    dtype = options.get("dtype", "auto")
    width = memory.DTYPE_BYTES.get(dtype, memory.DTYPE_BYTES["float32"])
    each = memory.QUANTISED_BYTES.get(options.get(QUANTIZATION, ""), width)
    task = options.get("task", source.task)
    slots = options.get("parallel", DEFAULT_PARALLEL) if task == "text" else 0
    context = context_length(source, options)
    tokens = options.get("batch_size", CPU_STEP_TOKENS) if slots else 8 * context
    return int(
        memory.LIBRARIES_BYTES
        + elements * each
        + source.cache_width * slots * context * width
        + memory.step_bytes(text_part(source.config), tokens, slots)
    )


def context_length(source: Source, options: Mapping[str, Any]) -> int:
    """Tokens of one request of a model that writes, as the options or its files say."""
    known = source.trained_length or DEFAULT_CONTEXT
    return int(options.get("context_length") or min(known, DEFAULT_CONTEXT))


def _may_use_a_device(options: Mapping[str, Any]) -> bool:
    """The memory there is not the host's."""
    device = options.get("device", "auto")
    if device == "auto":
        return sys.platform == "darwin" or shutil.which(TOOL) is not None
    return str(device) != "cpu"
