"""Fill in what nobody declared about a model from its file, and say how much memory it needs."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from modelpool_client.surfaces.pooling import purposes_of

from .fingerprint import Fingerprint, fingerprint
from .fitting import fitted
from .footprint import Footprint, estimate_footprint
from .formats.gguf import read_gguf
from .memory_estimate import Claim, Key, MemoryEstimate, Peak, device_claims, estimate_host, key_of
from .model import Model
from .model_info import ModelInfo

ENGINE_GGUF = "llama.cpp"
# With one of them, a model chats whose file has no template.
TEMPLATE_OPTIONS = frozenset({"chat_template", "chat_template_file"})
# Names a second file, which is loaded along with the model's.
DRAFT_OPTION = "draft_model"
# What of a file, beside its size, people want to know when another took its place.
TOLD = (
    "architecture",
    "quantization",
    "context_length",
    "parameter_count",
    "chat_template",
)


@dataclass(frozen=True)
class Reading:
    """A model as its files describe it, which files these were, and what the first of them says."""

    model: Model
    files: Fingerprint
    info: ModelInfo | None = None


class MemoryLimits(Protocol):
    """The settings in force, as far as they concern estimates."""

    @property
    def memory_limit_bytes(self) -> int:
        """Of the host, for all models."""
        ...

    @property
    def device_budgets(self) -> Mapping[str, int]:
        """Bytes by device."""
        ...


class Estimator:
    """Remembers what files said and workers took, so that admission can ask without a disk.

    ``limits`` says how many bytes the pool may use of the host and of each device.
    """

    def __init__(self, limits: MemoryLimits | None = None) -> None:
        self._limits = limits
        # By id and source: several models may share a file.
        self._readings: dict[tuple[str, str], Reading] = {}
        self._told: dict[Key, int] = {}
        self._peaks: defaultdict[Key, dict[str, Peak]] = defaultdict(dict)

    def _device_budgets(self) -> Mapping[str, int]:
        return self._limits.device_budgets if self._limits is not None else {}

    def effective(self, model: Model) -> Model:
        """The model with the options that a worker of it is started with: what nobody declared is
        chosen by the memory that there is for it."""
        reading = self.reading(model)
        if reading is None or reading.info is None or self._limits is None or model.memory_mb:
            return model
        room = sum(self._device_budgets().values()) or self._limits.memory_limit_bytes
        options = fitted(reading.info, model.options, room)
        return model if options == model.options else dataclasses.replace(model, options=options)

    def __call__(self, model: Model) -> int:
        """Bytes of host memory to reserve for the model."""
        return self.host_memory(model).reserved

    def host_memory(self, model: Model) -> MemoryEstimate:
        """Every figure of the model's host memory, and which one counts."""
        model = self.effective(model)
        return estimate_host(model, self._footprint(model), self._known_peaks(model))

    def device_memory(self, model: Model) -> Mapping[str, Claim]:
        """What to reserve of each device that has a budget."""
        model, budgets = self.effective(model), self._device_budgets()
        claims = device_claims(self._footprint(model), self._known_peaks(model))
        return {device: claim for device, claim in claims.items() if device in budgets}

    def _footprint(self, model: Model) -> Footprint:
        told = self._told.get(self._key(model))
        reading = self.reading(model)
        info = reading.info if reading is not None else None
        return estimate_footprint(model, info, told, self._device_budgets())

    def _key(self, model: Model) -> Key:
        reading = self.reading(model)
        return key_of(model, reading.files.digest if reading is not None else "")

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
        """The model with what its file says in the fields that nobody declared; from now on
        estimates come from that.

        Raises:
            BadModelFile: the file is missing, truncated or corrupt.
        """
        reading = await self.read(model)
        self.take(reading)
        return reading.model

    async def read(self, model: Model) -> Reading:
        """The same, and nothing is changed by it.

        Raises:
            BadModelFile: the file is missing, truncated or corrupt.
        """
        # First: what changes while it is read is seen to have changed by the next look.
        files = await asyncio.to_thread(fingerprint, model)
        if model.engine == ENGINE_GGUF:
            info = await asyncio.to_thread(_read, model)
            return Reading(described(model, info), files, info)
        size = await asyncio.to_thread(_file_size, model.source)
        sized = dataclasses.replace(model, size_bytes=size) if size is not None else model
        return Reading(sized, files)

    def take(self, reading: Reading) -> None:
        """Let estimates come from it."""
        self._readings[reading.model.model_id, reading.model.source] = reading

    def reading(self, model: Model) -> Reading | None:
        """What was read last; None where nothing could be."""
        return self._readings.get((model.model_id, model.source))

    async def is_current(self, model: Model) -> bool:
        """Whether its files are those that were read, as far as can be told without reading."""
        reading = self.reading(model)
        found = await asyncio.to_thread(fingerprint, model)
        return reading is not None and found.digest == reading.files.digest

    async def look(self, model: Model) -> tuple[Key, float]:
        """What peaks measured with the model's present files are kept under, and when the last of
        these was changed, in seconds since 1970."""
        found = await asyncio.to_thread(fingerprint, model)
        return key_of(model, found.digest), found.changed_at

    def forget(self, model: Model) -> None:
        """The model is gone, with every source that it ever had."""
        for name in [name for name in self._readings if name[0] == model.model_id]:
            del self._readings[name]
        for learned in (self._told, self._peaks):
            for key in [key for key in learned if key.model_id == model.model_id]:
                del learned[key]


def _read(model: Model) -> ModelInfo:
    info, draft = read_gguf(model.source), model.options.get(DRAFT_OPTION)
    if not (isinstance(draft, str) and os.path.isabs(draft)):  # the engine will refuse it
        return info
    return dataclasses.replace(info, draft=read_gguf(draft))


def described(model: Model, info: ModelInfo) -> Model:
    """The model with its file's size, and what the file says where nothing was declared."""
    said = {
        "architecture": info.architecture,
        "quantization": info.quantization,
        "context_length": info.context_length,
        "capabilities": _capabilities(info, model.options),
    }
    ours = {f: v for f, v in said.items() if f in model.from_file or not getattr(model, f)}
    values: dict[str, Any] = {"size_bytes": info.file_bytes, "from_file": tuple(ours), **ours}
    return dataclasses.replace(model, **values)


def _capabilities(info: ModelInfo, options: Mapping[str, Any]) -> tuple[str, ...]:
    can_chat = info.has_chat_template or not TEMPLATE_OPTIONS.isdisjoint(options)
    found: list[str] = []
    for purpose in purposes_of(info.architecture, info.pooling, options):
        if purpose != "text":
            found.append(purpose)
        else:
            found += ["chat", "completion"] if can_chat else ["completion"]
    return tuple(found)


def changes(old: Reading, new: Reading) -> dict[str, tuple[Any, Any]]:
    """What files say otherwise than those whose place they took, by name, old and new. PURE."""
    pairs = {"file_bytes": (old.model.size_bytes, new.model.size_bytes)}
    if old.info is not None and new.info is not None:
        pairs |= {name: (getattr(old.info, name), getattr(new.info, name)) for name in TOLD}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _file_size(source: str) -> int | None:
    path = Path(source)
    try:
        return path.stat().st_size if path.is_absolute() and path.is_file() else None
    except (OSError, ValueError):
        return None
