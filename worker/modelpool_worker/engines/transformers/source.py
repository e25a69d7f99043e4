"""What a Hugging Face folder or a GGUF file holds, read from its configuration and the headers of
its weights, without the libraries that load it."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal

from modelpool_client.errors import LoadFailed

from modelpool_worker.engines import gguf

from .memory import cache_width

Task = Literal["text", "embeddings", "rerank", "classify"]
TASKS: tuple[Task, ...] = ("text", "embeddings", "rerank", "classify")

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SUFFIX = ".safetensors"
MODULES = "modules.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_NOT_THE_MODEL = ("adapter", "optimizer", "training_args")
_MAX_JSON_BYTES = 64 << 20
_MAX_HEADER_BYTES = 100 << 20
_CLASSIFIES = "ForSequenceClassification"
_WRITES = re.compile(r"(ForCausalLM|LMHeadModel|ForConditionalGeneration)$")
_EMBEDS = re.compile(r"(Model|ForMaskedLM|Encoder|ForPreTraining)$")


@dataclass(frozen=True)
class Source:
    """A model that ``transformers`` may load.

    Attributes:
        folder: where its files are.
        gguf_file: the name of the GGUF file there that holds all of it; empty for a folder of
            safetensors.
        config: of ``config.json``; empty for GGUF.
        architecture: the class that it is made of, or GGUF's name of the family.
        task: what it is for.
        elements: numbers that its weights have, quantised ones as they are packed; 0 for GGUF,
            which ``gguf.read_element_count`` counts.
        bytes: of its weights' files.
        trained_length: tokens that it was made for; None where that is not said.
        cache_width: numbers that are kept of each token, over all layers.
    """

    folder: str
    architecture: str
    task: Task
    bytes: int
    elements: int = 0
    trained_length: int | None = None
    cache_width: int = 0
    gguf_file: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def needs_code(self) -> bool:
        """It brings Python code of its own, which a load would run."""
        return bool(self.config.get("auto_map"))


def read_source(path: str) -> Source:
    """What lies there.

    Raises:
        LoadFailed: ``bad_file``: nothing does, files are missing or damaged, or weights are pickles
            only; ``unsupported_arch``: it is none that writes, embeds, ranks or classifies text.
    """
    if os.path.isfile(path):
        return _gguf_source(path)
    if not os.path.isdir(path):
        raise bad_file(path, "there is no such folder or file; pull the model first")
    config = read_json(os.path.join(path, CONFIG))
    names = _weights(path)
    elements = sum(_count_elements(os.path.join(path, name)) for name in names)
    size = sum(os.path.getsize(os.path.join(path, name)) for name in names)
    named = config.get("architectures")
    architecture = named[0] if isinstance(named, list) and named else config.get("model_type")
    if not isinstance(architecture, str) or not architecture:
        raise bad_file(path, f"{CONFIG} names no architecture")
    has_modules = os.path.isfile(os.path.join(path, MODULES))
    task = task_of(architecture, config, has_modules=has_modules)
    text = text_part(config)
    length = text.get("max_position_embeddings") or text.get("n_positions")
    return Source(
        path,
        architecture,
        task,
        size,
        elements,
        trained_length=length if isinstance(length, int) else None,
        cache_width=cache_width(text),
        config=config,
    )


def _gguf_source(path: str) -> Source:
    if path.casefold().endswith(SUFFIX):
        raise bad_file(path, f"is one file of weights; name the folder that has {CONFIG}, too")
    header = gguf.read_header(path)
    folder, name = os.path.split(path)
    return Source(
        folder,
        header.architecture,
        "text",
        os.path.getsize(path),
        trained_length=header.context_length,
        cache_width=sum(header.cache_widths or ()),
        gguf_file=name,
    )


def task_of(architecture: str, config: Mapping[str, Any], *, has_modules: bool) -> Task:
    """PURE. What a model is for, by the class that it is made of; ``has_modules``: it was saved by
    sentence-transformers, so that one of a class that writes was made to embed.

    Raises:
        LoadFailed: ``unsupported_arch``: none of that.
    """
    if architecture.endswith(_CLASSIFIES):
        return "rerank" if len(labels_of(config)) == 1 else "classify"
    if has_modules:
        return "embeddings"
    if _WRITES.search(architecture) and "vision_config" not in config:
        return "text"
    if _EMBEDS.search(architecture) and "vision_config" not in config:
        return "embeddings"
    text = f"the architecture {architecture} neither writes nor embeds, ranks or classifies texts"
    raise LoadFailed(text, code="unsupported_arch", param="source", source="engine")


def text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """PURE. The part of a configuration that reads and writes text."""
    inner = config.get("text_config")
    return inner if isinstance(inner, Mapping) else config


def labels_of(config: Mapping[str, Any]) -> list[str]:
    """PURE. Names of the classes that it tells apart, by their numbers; two where none are said, as
    transformers has it."""
    named = config.get("id2label")
    if isinstance(named, Mapping) and named:
        return [str(named[key]) for key in sorted(named, key=lambda k: int(k))]
    count = config.get("num_labels")
    return [f"LABEL_{i}" for i in range(count if isinstance(count, int) else 2)]


def _weights(folder: str) -> list[str]:
    """Names of the files that hold the weights."""
    names = sorted(os.listdir(folder))
    if INDEX in names:
        placed = read_json(os.path.join(folder, INDEX)).get("weight_map")
        if not isinstance(placed, Mapping) or not placed:
            raise bad_file(folder, f"{INDEX} is damaged: it has no weight_map")
        found = sorted({str(name) for name in placed.values()})
        missing = [name for name in found if name not in names]
        if missing:
            raise bad_file(folder, f"{missing[0]} is missing, which {INDEX} names")
        return found
    found = [name for name in names if name.endswith(SUFFIX) and not _is_other(name)]
    if found:
        return ["model.safetensors"] if "model.safetensors" in found else found
    pickles = [n for n in names if n.endswith(_PICKLES) and not _is_other(n)]
    if pickles:
        why = f"its weights are pickles only ({pickles[0]}), which run code when they are read and"
        raise bad_file(folder, f"{why} are not: convert them to safetensors")
    raise bad_file(folder, "it holds no weights (*.safetensors)")


def _is_other(name: str) -> bool:
    return name.startswith(_NOT_THE_MODEL)


def _count_elements(path: str) -> int:
    """How many numbers a file of weights holds, by its header."""
    try:
        with open(path, "rb") as file:
            tensors = _header(file)
    except OSError as e:
        raise bad_file(path, e.strerror or str(e)) from None
    except (ValueError, KeyError, TypeError) as e:
        raise bad_file(path, f"is no whole safetensors file: {e}") from None
    return sum(math.prod(tensor["shape"]) for tensor in tensors.values())


def _header(file: BinaryIO) -> dict[str, Any]:
    """The tensors of a safetensors file that holds all of them.

    Raises:
        ValueError, KeyError, TypeError: it is none, or has an end too early.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(size - 8, _MAX_HEADER_BYTES):
        raise ValueError("it has no header")
    tensors = json.loads(file.read(length))
    tensors.pop("__metadata__", None)
    end = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
    if end > size - 8 - length:
        raise ValueError("it is truncated; was the download interrupted?")
    return dict(tensors)


def read_json(path: str, missing: Any = None) -> dict[str, Any]:
    """An object of a file; ``missing`` where there is no such file, if that is given.

    Raises:
        LoadFailed: code ``bad_file``.
    """
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(_MAX_JSON_BYTES))
    except FileNotFoundError:
        if missing is not None:
            return dict(missing)
        raise bad_file(path, "is missing") from None
    except OSError as e:
        raise bad_file(path, e.strerror or str(e)) from None
    except ValueError as e:
        raise bad_file(path, f"is no JSON: {e}") from None
    if not isinstance(found, dict):
        raise bad_file(path, "is no JSON object")
    return found


def bad_file(path: str, why: str) -> LoadFailed:
    """A load that a file is to blame for."""
    return LoadFailed(f"{path}: {why}", code="bad_file", param="source", source="engine")
