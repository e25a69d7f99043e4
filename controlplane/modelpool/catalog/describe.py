"""Fill in what nobody declared about a model from its file, and estimate its memory from that."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

from .estimate import estimate_model_bytes
from .metadata import GgufInfo, read_gguf
from .model import Model


class Estimator:
    """Remembers what the files said, so that admission can ask without touching a disk."""

    def __init__(self) -> None:
        # By id and source: several models may share a file, and a refused registration may
        # name the id of a model that stands.
        self._infos: dict[tuple[str, str], GgufInfo] = {}

    def __call__(self, model: Model) -> int:
        """Bytes that the model will need; see ``estimate_model_bytes``."""
        return estimate_model_bytes(model, self._infos.get((model.model_id, model.source)))

    async def describe(self, model: Model) -> Model:
        """The model with what its file says in the fields that nobody declared.

        Raises:
            BadModelFile: the file is missing, truncated or corrupt.
        """
        if model.engine == "llama.cpp":
            info = await asyncio.to_thread(read_gguf, model.source)
            self._infos[model.model_id, model.source] = info
            return described(model, info)
        size = await asyncio.to_thread(_file_size, model.source)
        return dataclasses.replace(model, size_bytes=size) if size is not None else model

    def forget(self, model: Model) -> None:
        """The model is gone, with every source that it ever had."""
        for key in [key for key in self._infos if key[0] == model.model_id]:
            del self._infos[key]


def described(model: Model, info: GgufInfo) -> Model:
    """The model with its file's size, and what the file says where nothing was declared."""
    capabilities = ("chat", "completion") if info.has_chat_template else ("completion",)
    return dataclasses.replace(
        model,
        size_bytes=info.file_bytes,
        architecture=model.architecture or info.architecture,
        quantization=model.quantization or info.quantization,
        context_length=model.context_length or info.context_length,
        capabilities=model.capabilities or capabilities,
    )


def _file_size(source: str) -> int | None:
    path = Path(source)
    try:
        return path.stat().st_size if path.is_absolute() and path.is_file() else None
    except (OSError, ValueError):
        return None
