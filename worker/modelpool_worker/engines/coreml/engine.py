"""CoreML models, which macOS alone computes; what a model is can be seen anywhere."""

from __future__ import annotations

import logging
import os
import platform
import sys
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import Any, ClassVar

from modelpool_client.errors import LoadFailed
from modelpool_client.surfaces.routes import INFER_PATH
from modelpool_client.surfaces.schema import Schema

from modelpool_worker.engine import Engine, EngineJob, Status, Usable
from modelpool_worker.engines.file_check import check_message
from modelpool_worker.engines.library import Library
from modelpool_worker.engines.tokenizer_folder import bad_file, read_json
from modelpool_worker.hosting.contract import Hosted
from modelpool_worker.leaving import Leaving, leaving

from .tensors import CoreMlTensors

LIBRARY = Library({"coremltools": "coremltools"}, "coreml")
PACKAGE, COMPILED = ".mlpackage", ".mlmodelc"
MANIFEST, DATA = "Manifest.json", "Data"
COMPILED_METADATA = "metadata.json"
_DESCRIPTION_FIELD = 2
# coremltools with numpy; the model itself lies where the processes of macOS put it.
BASE_BYTES = 150_000_000
# Names of coremltools' ``ComputeUnit``.
COMPUTE_UNITS: Mapping[str, str] = {
    "all": "ALL",
    "cpu": "CPU_ONLY",
    "cpu_and_gpu": "CPU_AND_GPU",
    "cpu_and_neural_engine": "CPU_AND_NE",
}

OPTIONS: Mapping[str, Schema] = {
    "compute_units": {
        "type": "string",
        "enum": tuple(COMPUTE_UNITS),
        "description": "what may compute",
        "default": "all",
    },
}


class CoreMl(Engine):
    """See ``OPTIONS``; the source is a package, a compiled model or a file with a specification."""

    name = "coreml"
    formats = ("coreml",)
    capabilities = ("tensor_inference",)
    options: ClassVar[Mapping[str, Schema]] = OPTIONS
    surfaces: ClassVar[Collection[str]] = (INFER_PATH,)
    after_leaving: ClassVar[Mapping[str, Leaving]] = leaving(surfaces)

    def probe(self) -> Usable:
        if sys.platform != "darwin":
            return Usable(False, why_not_here())
        return LIBRARY.probe()

    def inspect(self, source: str) -> None:
        path = source.rstrip("/")
        if path.endswith(COMPILED):
            if not os.path.isfile(os.path.join(path, COMPILED_METADATA)):
                raise bad_file(source, f"misses {COMPILED_METADATA}: it is no compiled model")
            return
        check_message(specification_of(path), _DESCRIPTION_FIELD, "CoreML specification")

    def memory_bytes(self, source: str, options: Mapping[str, Any]) -> int | None:
        try:
            return BASE_BYTES + _bytes_of(source)
        except OSError:
            return None

    def serve(self, job: EngineJob, status: Status) -> None:
        from modelpool_worker.hosting.server import serve

        self.inspect(job.source)
        if sys.platform != "darwin":
            text = (
                f"{why_not_here()}; let a pool on a Mac serve this model, or convert what it was "
            )
            text += "made from to ONNX or GGUF"
            raise LoadFailed(text, code="missing_dependency", source="engine")
        logging.getLogger("coremltools").setLevel(logging.CRITICAL)  # of versions not tried by it
        coremltools = LIBRARY.load()
        status.progress("weights")
        serve(job, status, Hosted(tensors=_loaded(coremltools, job)))


def why_not_here() -> str:
    """What this machine lacks."""
    return f"CoreML computes on macOS only, and this is {platform.system()}"


def specification_of(path: str) -> str:
    """The file with the specification, of a package or by itself.

    Raises:
        LoadFailed: ``bad_file``: a package does not say which it is.
    """
    if not path.endswith(PACKAGE):
        return path
    manifest = read_json(os.path.join(path, MANIFEST))
    if not manifest:
        raise bad_file(path, f"misses {MANIFEST}: it is no package, or not all of one")
    try:
        entry = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
        place = PurePosixPath(entry["path"])
    except (KeyError, TypeError):
        raise bad_file(path, f"its {MANIFEST} does not say which file is the model") from None
    if place.is_absolute() or ".." in place.parts:
        raise bad_file(path, f"its {MANIFEST} names a file that is not in it")
    return os.path.join(path, DATA, str(place))


def _bytes_of(source: str) -> int:
    """Of a file, or all files of a folder."""
    if not os.path.isdir(source):
        return os.path.getsize(source)
    files = (os.path.join(folder, n) for folder, _, names in os.walk(source) for n in names)
    return sum(map(os.path.getsize, files))


def _loaded(library: Any, job: EngineJob) -> CoreMlTensors:
    units = COMPUTE_UNITS[job.options.get("compute_units", "all")]
    path = job.source.rstrip("/")
    try:
        unit = getattr(library.ComputeUnit, units)
        if path.endswith(COMPILED):
            text = f"{path}: compiled models do not tell what goes in; name the {PACKAGE}"
            raise LoadFailed(text, code="unsupported_arch", source="engine")
        model = library.models.MLModel(path, compute_units=unit)
        return CoreMlTensors(model.get_spec().description, model.predict)
    except LoadFailed:
        raise
    except Exception as e:
        text = f"CoreML cannot load {path}: {e}"[:2000]
        raise LoadFailed(text, code="load_failed", source="engine") from e
