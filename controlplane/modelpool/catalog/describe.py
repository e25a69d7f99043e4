"""Fill in what nobody declared about a model from its file, and say how much memory it needs."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from .estimate import Footprint, estimate_footprint
from .learned import Claim, Figures, Key, Peak, device_claims, figures, key_of
from .metadata import GgufInfo, read_gguf
from .model import Model

ENGINE_GGUF = "llama.cpp"


class DeviceBudgets(Protocol):
    """The settings in force, as far as they concern estimates."""

    @property
    def device_budgets(self) -> Mapping[str, int]:
        """Bytes by device."""
        ...


class Estimator:
    """Remembers what files said and workers took, so that admission can ask without a disk.

    ``budgets`` says how many bytes the pool may use of each device.
    """

    def __init__(self, budgets: DeviceBudgets | None = None) -> None:
        self._budgets = budgets
        # By id and source: several models may share a file, and a refused registration may
        # name the id of a model that stands.
        self._infos: dict[tuple[str, str], GgufInfo] = {}
        self._prints: dict[tuple[str, str], str] = {}
        self._told: dict[Key, int] = {}
        self._peaks: defaultdict[Key, dict[str, Peak]] = defaultdict(dict)

    def _device_budgets(self) -> Mapping[str, int]:
        return self._budgets.device_budgets if self._budgets is not None else {}

    def __call__(self, model: Model) -> int:
        """Bytes of host memory to reserve for the model."""
        return self.figures(model).reserved

    def figures(self, model: Model) -> Figures:
        """Every figure of the model's host memory, and which one counts."""
        return figures(model, self._footprint(model), self._known_peaks(model))

    def devices(self, model: Model) -> Mapping[str, Claim]:
        """What to reserve of each device that has a budget."""
        budgets = self._device_budgets()
        claims = device_claims(self._footprint(model), self._known_peaks(model))
        return {device: claim for device, claim in claims.items() if device in budgets}

    def _footprint(self, model: Model) -> Footprint:
        told = self._told.get(self._key(model))
        info = self._infos.get((model.model_id, model.source))
        return estimate_footprint(model, info, told, self._device_budgets())

    def _key(self, model: Model) -> Key:
        return key_of(model, self._prints.get((model.model_id, model.source), ""))

    def _known_peaks(self, model: Model) -> Mapping[str, Peak]:
        return self._peaks.get(self._key(model), {})

    def learn(self, peaks: Iterable[Peak]) -> None:
        """Take in measured peaks; the largest of each counts."""
        for peak in peaks:
            known = self._peaks[peak.key]
            before = known.get(peak.device)
            known[peak.device] = peak if before is None else before | peak

    def tell(self, model: Model, size: int) -> None:
        """Take in what the engine itself expects for the model, in bytes."""
        self._told[self._key(model)] = size

    async def describe(self, model: Model) -> Model:
        """The model with what its file says in the fields that nobody declared.

        Raises:
            BadModelFile: the file is missing, truncated or corrupt.
        """
        await self.look(model)
        if model.engine == ENGINE_GGUF:
            info = await asyncio.to_thread(read_gguf, model.source)
            self._infos[model.model_id, model.source] = info
            return described(model, info)
        size = await asyncio.to_thread(_file_size, model.source)
        return dataclasses.replace(model, size_bytes=size) if size is not None else model

    async def look(self, model: Model) -> Key:
        """What the peaks of the model's present file are kept under."""
        found = await asyncio.to_thread(_fingerprint, model.source)
        self._prints[model.model_id, model.source] = found
        return key_of(model, found)

    def forget(self, model: Model) -> None:
        """The model is gone, with every source that it ever had."""
        for known in (self._infos, self._prints):
            for source in [key for key in known if key[0] == model.model_id]:
                del known[source]
        for learned in (self._told, self._peaks):
            for key in [key for key in learned if key.model_id == model.model_id]:
                del learned[key]


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


def _fingerprint(source: str) -> str:
    """Size and time of a file or folder; nothing of what is not in the file system."""
    try:
        path = Path(source)
        stat = path.stat() if path.is_absolute() else None
    except (OSError, ValueError):
        return ""
    return f"{stat.st_size}-{stat.st_mtime_ns}" if stat is not None else ""
