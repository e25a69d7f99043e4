"""Sessions of onnxruntime: execution providers, threads, and why a graph cannot be loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelpool_client.errors import LoadFailed

from modelpool_worker.engines.cpu import physical_cores

PROVIDERS: Mapping[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}
# Taken where nobody says which: their builds are installed on purpose, and run any graph.
PREFERRED = ("cuda", "migraphx", "rocm")
# Names of onnxruntime's levels of optimisation.
OPTIMIZATIONS: Mapping[str, str] = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
DEFAULT_OPTIMIZATION = "all"
SPINNING = "session.intra_op.allow_spinning"
# What the library's exceptions are about, by the names of their classes and words in them.
_BAD_FILE = ("InvalidProtobuf", "InvalidGraph", "NoSuchFile", "ModelLoadCanceled")
_UNSUPPORTED = ("NotImplemented",)
_UNSUPPORTED_WORDS = (
    "Unsupported model IR",
    "Unsupported model_type",
    "is not a registered function/op",
    "guarantees support",  # of opsets
)
_MEMORY_WORDS = ("bad_alloc", "Failed to allocate", "out of memory", "bad allocation")
_BAD_FILE_WORDS = ("Protobuf parsing failed", "out of bounds", "doesn't exist", "Error opening")


def session(library: Any, path: str, options: Mapping[str, Any]) -> Any:
    """Load a graph.

    Raises:
        LoadFailed: with a code that says why.
    """
    names = providers_of(library.get_available_providers(), options)
    try:
        made = library.InferenceSession(path, session_options(library, options), providers=names)
    except Exception as e:  # its exceptions have RuntimeError in common, or nothing
        raise load_failure(path, e) from e
    missing = [n for n in names if n not in made.get_providers()]
    if missing and "execution_providers" in options:
        text = f"onnxruntime could not begin with {missing[0]}; its log says what it misses"
        raise LoadFailed(text, code="missing_dependency", source="engine")
    return made


def session_options(library: Any, options: Mapping[str, Any]) -> Any:
    """As the load options say."""
    made = library.SessionOptions()
    made.intra_op_num_threads = options.get("threads") or physical_cores()
    made.log_severity_level = 3  # warnings are about what optimisation did
    level = OPTIMIZATIONS[options.get("graph_optimization", DEFAULT_OPTIMIZATION)]
    made.graph_optimization_level = getattr(library.GraphOptimizationLevel, level)
    # Threads that spin while they wait take the cores from other models, see ``llama_cpp``.
    made.add_session_config_entry(SPINNING, "0")
    return made


def providers_of(available: Sequence[str], options: Mapping[str, Any]) -> list[str]:
    """Full names of the execution providers of a load, the best first; the CPU's is always there.

    Raises:
        LoadFailed: ``bad_config``: this build has not what is asked for.
    """
    short = {full: name for name, full in PROVIDERS.items()}
    there = [short[full] for full in available if full in short]
    wanted = options.get("execution_providers") or [n for n in PREFERRED if n in there][:1]
    for name in wanted:
        if name not in there:
            param = "options.execution_providers"
            text = f"onnx: {param}: this build of onnxruntime has no {name}; it has "
            text += ", ".join(there)
            raise LoadFailed(text, code="bad_config", param=param, source="engine")
    return [PROVIDERS[name] for name in dict.fromkeys((*wanted, "cpu"))]


def load_failure(path: str, error: BaseException) -> LoadFailed:
    """What the library raised, with a code."""
    kind, said = type(error).__name__, str(error)
    code = "load_failed"
    if isinstance(error, MemoryError) or any(word in said for word in _MEMORY_WORDS):
        code = "oom"
    elif kind in _UNSUPPORTED or any(word in said for word in _UNSUPPORTED_WORDS):
        code = "unsupported_arch"
    elif kind in _BAD_FILE or any(word in said for word in _BAD_FILE_WORDS):
        code = "bad_file"
    text = f"onnxruntime cannot load {path}: {said}"
    return LoadFailed(text[:2000], code=code, source="engine")
