"""Fill in what nobody declared about a model from its file, and say how much memory it needs."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
import platform
import stat
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from .capability_book import CapabilityBook
from .device_names import chosen
from .entry_schema import GGUF_ENGINES
from .errors import BadModelFile
from .fingerprint import Fingerprint, fingerprint
from .fitting import Room, fitted
from .footprint import FAKE, Footprint, Machine, estimate_footprint
from .formats.base import Entry, Format, Listing
from .formats.gguf import read_gguf
from .formats.registry import formats
from .memory_estimate import (
    Claims,
    Key,
    MemoryEstimate,
    Peak,
    device_claims,
    estimate_host,
    key_of,
)
from .model import Model
from .model_info import ModelInfo
from .packed import packed
from .parse_rules import EngineVerdict
from .recent import Recent

# Name further files, which are loaded along with the model's.
DRAFT_OPTION, PROJECTOR_OPTION, ADAPTERS_OPTION = "draft_model", "mmproj", "lora"
# Of what a file says, what stands in a model's ``facts``.
FACTS = (
    "format",
    "name",
    "license",
    "parameter_count",
    "block_count",
    "embedding_length",
    "vocabulary_size",
    "rope_scaling",
    "tokenizer",
    "special_tokens",
    "inputs",
    "outputs",
    "template_hints",
)
# What of a file, beside its size, people want to know when another took its place.
TOLD = (
    "architecture",
    "quantization",
    "context_length",
    "parameter_count",
    "chat_template",
)


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class _Answer:
    """What follows for a model from all that it depends on; that is compared before it is used."""

    model: Model
    reading: Reading | None
    told: int | None
    room: Room | None
    options: Mapping[str, Any]
    effective: Model
    footprint: Footprint
    key: Key


# Models whose figures are kept for whoever asks again; of the others they are worked out anew.
MOST_ANSWERS = 1000
# Models that one thread reads before the loop hears of them.
READ_AT_ONCE = 100


class Tuning(Protocol):
    """What was found by trying; ``edition`` is another number after every change."""

    edition: int

    def applied(self, model: Model, fingerprint: str) -> Model:
        """The model with the options that were found for files of that fingerprint."""
        ...


class _Untuned:
    edition = 0

    def applied(self, model: Model, fingerprint: str) -> Model:
        return model


def _not_found(_: Model) -> Reading | None:
    return None


class Estimator:
    """Remembers what files said and workers took, so that admission can ask without a disk.

    ``limits`` says how many bytes the pool may use of the host and of each device, ``capabilities``
    what is known of what models can do, ``processor`` what the engines run on, see ``Machine``;
    ``tuned`` gives models the options that were found by trying; ``found`` knows what files said of
    models that nobody has read here since the start; ``uuids`` are those of the machine's devices
    by their ids.
    """

    def __init__(
        self,
        limits: MemoryLimits | None = None,
        capabilities: CapabilityBook | None = None,
        processor: str | None = None,
        tuned: Tuning | None = None,
        found: Callable[[Model], Reading | None] = _not_found,
        uuids: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._limits = limits
        self._capabilities = capabilities or CapabilityBook()
        self._processor = this_processor() if processor is None else processor
        self._tuned = tuned or _Untuned()
        self._uuids = uuids
        self._look_up = found
        # By id, then source: several models may share a file.
        self._readings: dict[str, dict[str, Reading]] = {}
        self._found: Recent[tuple[str, str], Reading] = Recent(MOST_ANSWERS)
        self._told: dict[Key, int | None] = {}
        self._peaks: defaultdict[Key, dict[str, Peak]] = defaultdict(dict)
        self._answers: Recent[str, _Answer] = Recent(MOST_ANSWERS)
        # Of every model that somebody asked about: all are asked about by who looks for the best.
        self._claims: dict[str, tuple[Model, Claims]] = {}
        self._claimed_with: tuple[Any, ...] = ()

    def room(self, model: Model) -> Room | None:
        """What the pool may use for the model, on the devices that it may use; None where nobody
        has said."""
        if self._limits is None:
            return None
        machine = Machine(self._processor, self._budgets(model))
        return Room(self._limits.memory_limit_bytes, machine)

    def _budgets(self, model: Model) -> Mapping[str, int]:
        """Bytes of the devices that the model may use, in the order in which it sees them."""
        budgets = self._limits.device_budgets if self._limits is not None else {}
        return budgets if model.devices is None else chosen(model.devices, budgets, self._uuids())

    def effective(self, model: Model) -> Model:
        """The model with the options that a worker of it is started with: what nobody declared is
        as it was tuned, or is chosen by the memory that there is for it."""
        return self._answer(model).effective

    def footprint(self, model: Model) -> Footprint:
        """What its files let expect, whatever was declared or measured."""
        return self._answer(model).footprint

    def peaks(self, model: Model) -> Mapping[str, Peak]:
        """The most that it was measured to take, by device."""
        return self._peaks.get(self._answer(model).key, {})

    def _answer(self, model: Model) -> _Answer:
        known, reading = self._answers.get(model.model_id), self.reading(model)
        room = self.room(model)
        told = self._told.get(self._key(model)) if self._told else None
        tuned = self._tuned.applied(model, reading.files.digest if reading is not None else "")
        if (
            known is None
            or known.model is not model
            or (known.reading is not reading)
            or (known.told, known.room, known.options) != (told, room, tuned.options)
        ):
            effective = self._fitted(tuned, reading, room)
            info = reading.info if reading is not None else None
            machine = room.machine if room is not None else Machine(self._processor)
            footprint = estimate_footprint(effective, info, told, machine)
            known = _Answer(
                model,
                reading,
                told,
                room,
                tuned.options,
                effective,
                footprint,
                self._key(effective),
            )
            self._answers.put(model.model_id, known)
        return known

    def _fitted(self, model: Model, reading: Reading | None, room: Room | None) -> Model:
        info = reading.info if reading is not None else None
        if info is None or room is None or model.memory_mb or model.engine not in GGUF_ENGINES:
            return model
        options = fitted(info, model.options, room)
        return model if options == model.options else dataclasses.replace(model, options=options)

    def __call__(self, model: Model) -> int:
        """Bytes of host memory to reserve for the model."""
        return self.host_memory(model).reserved

    def host_memory(self, model: Model) -> MemoryEstimate:
        """Every figure of the model's host memory, and which one counts."""
        return estimate_host(model, self.footprint(model), self.peaks(model))

    def claims(self, model: Model) -> Claims:
        """What to reserve for the model; worked out once, and again when any of what it depends on
        has changed."""
        limits = self._limits
        now: tuple[Any, ...] = (self._tuned.edition,)
        if limits is not None:
            now = (*now, limits.memory_limit_bytes, limits.device_budgets)
        if now != self._claimed_with:
            self._claims.clear()
            self._claimed_with = now
        known = self._claims.get(model.model_id)
        if known is None or known[0] is not model:
            known = (model, self._claims_now(model))
            if model.devices is None:  # what its names of devices stand for may change
                self._claims[model.model_id] = known
        return known[1]

    def _claims_now(self, model: Model) -> Claims:
        budgets = self._budgets(model)
        claims = device_claims(self.footprint(model), self.peaks(model))
        on_devices = {device: claim for device, claim in claims.items() if device in budgets}
        return Claims(self.host_memory(model).claim, on_devices)

    def weights(self, model: Model) -> int | None:
        """Bytes of its weights, wherever they lie; None where its files do not tell."""
        parts = self.footprint(model).parts.values()
        return sum(share.weights or 0 for share in parts) or None

    def _key(self, model: Model) -> Key:
        reading = self.reading(model)
        return key_of(model, reading.files.digest if reading is not None else "")

    def learn(self, peaks: Iterable[Peak]) -> None:
        """Take in measured peaks; the largest of each counts."""
        for peak in peaks:
            known = self._peaks[peak.key]
            before = known.get(peak.device)
            known[peak.device] = peak if before is None else before | peak
            self._claims.pop(peak.model_id, None)

    def hear(self, model: Model, verdict: EngineVerdict) -> None:
        """Take in what the engine itself says of the model's memory, where it could be asked."""
        if verdict.tells_memory:
            self.tell(model, verdict.memory_bytes)

    def tell(self, model: Model, size: int | None) -> None:
        """Take in what the engine itself expects for the model, in bytes; None: it cannot say."""
        self._told[self._key(model)] = size
        self._claims.pop(model.model_id, None)

    def wants_to_be_told(self, model: Model) -> bool:
        """Whether the model's engine has yet to be asked what it expects. Some are not asked: of a
        GGUF file the formula of its format knows more than llama.cpp says."""
        is_asked = model.engine not in (*GGUF_ENGINES, FAKE) and not model.served_by
        return is_asked and self._key(model) not in self._told

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
        return await self._described(model, await asyncio.to_thread(_look, model))

    async def describe_all(self, models: Iterable[Model]) -> AsyncIterator[Model | BadModelFile]:
        """``describe`` of many, by their order; what is wrong with one takes its place. A disk is
        asked about many at a time, for a thread takes longer to be asked than most disks do."""
        left = iter(models)
        while some := list(itertools.islice(left, READ_AT_ONCE)):
            for model, look in zip(some, await asyncio.to_thread(_looks, some), strict=True):
                if isinstance(look, BadModelFile):
                    yield look
                else:
                    reading = await self._described(model, look)
                    self.take(reading)
                    yield reading.model

    async def _described(self, model: Model, look: _Look) -> Reading:
        """What follows for the model."""
        files, info, size = look
        if info is not None:
            judged = await self._capabilities.judged(model, info, files.digest)
            return Reading(described(judged, info), files, info)
        if size is not None and size != model.size_bytes:
            model = dataclasses.replace(model, size_bytes=size)
        return Reading(await self._capabilities.judged(model, None, files.digest), files)

    def take(self, reading: Reading) -> None:
        """Let estimates come from it."""
        model = reading.model
        self._readings.setdefault(model.model_id, {})[model.source] = reading
        self._claims.pop(model.model_id, None)

    def look_up_again(self, model: Model) -> None:
        """It was found to have other files than those that were read."""
        self._readings.pop(model.model_id, None)
        self._found.drop((model.model_id, model.source))
        self._claims.pop(model.model_id, None)

    def reading(self, model: Model) -> Reading | None:
        """What was read last; None where nothing could be."""
        known = self._readings.get(model.model_id, {}).get(model.source)
        return known if known is not None else self._look_up_once(model)

    def _look_up_once(self, model: Model) -> Reading | None:
        key = (model.model_id, model.source)
        known = self._found.get(key)
        if known is None and (known := self._look_up(model)) is not None:
            self._found.put(key, known)
        return known

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
        self.look_up_again(model)
        self._answers.drop(model.model_id)
        for learned in (self._told, self._peaks):
            for key in [key for key in learned if key.model_id == model.model_id]:
                del learned[key]


def this_processor() -> str:
    """As ``Machine`` has it."""
    return "" if sys.platform == "darwin" else platform.machine()


class _Look(NamedTuple):
    """What a disk has of a model: ``size`` of its source, where no format tells more."""

    files: Fingerprint
    info: ModelInfo | None
    size: int | None


def _looks(models: Iterable[Model]) -> list[_Look | BadModelFile]:
    return [_look_or_error(model) for model in models]


def _look_or_error(model: Model) -> _Look | BadModelFile:
    try:
        return _look(model)
    except BadModelFile as e:
        return e


def _look(model: Model) -> _Look:
    """Blocks. Raises BadModelFile as ``_read``."""
    # First: what changes while it is read is seen to have changed by the next look.
    files = fingerprint(model)
    info = _read(model)
    return _Look(files, info, _file_size(model.source) if info is None else None)


def _read(model: Model) -> ModelInfo | None:
    """None where it is in no format that is known here. Blocks.

    Raises:
        BadModelFile: a file is missing, truncated or corrupt. Of an engine that is not the
            format's own, the engine is to say so.
    """
    known = _format_of(model)
    if known is None:
        return None
    try:
        info = known.read(Path(model.source))
        if companion := known.companion(info):
            raise BadModelFile(model.source, f"is no model by itself but a {companion} for others")
    except BadModelFile:
        if _is_own(known, model.engine):
            raise
        return None
    draft, projector = (_companion(model, name) for name in (DRAFT_OPTION, PROJECTOR_OPTION))
    return dataclasses.replace(
        info, draft=draft, projector=projector, adapter_bytes=_adapter_bytes(model)
    )


def _adapter_bytes(model: Model) -> int:
    """Of all adapters that the options name.

    Raises:
        BadModelFile: one cannot be read, or is none.
    """
    entries, total = model.options.get(ADAPTERS_OPTION), 0
    for entry in list(entries) if isinstance(entries, list | tuple) else []:
        path = entry.get("path") if isinstance(entry, Mapping) else None
        if isinstance(path, str) and os.path.isabs(path):  # the engine will refuse any other
            info = read_gguf(path)
            if info.kind != "adapter":
                raise BadModelFile(path, "is no adapter (LoRA)")
            total += info.file_bytes
    return total


def _is_own(known: Format, engine: str) -> bool:
    return known.engine == engine or {known.engine, engine} <= GGUF_ENGINES


def _companion(model: Model, option: str) -> ModelInfo | None:
    path = model.options.get(option)
    # The engine will refuse any other.
    return read_gguf(path) if isinstance(path, str) and os.path.isabs(path) else None


def _format_of(model: Model) -> Format | None:
    """The format whose files these look like, or the only one of the engine. Blocks."""
    if not os.path.isabs(model.source):
        return None
    own = [f for f in formats().values() if _is_own(f, model.engine)]
    named = [f for f in formats().values() if model.source.casefold().endswith(f.suffixes)]
    if len(own) == 1:
        # An engine may load files of another's format, too.
        return named[0] if named else own[0]
    path = Path(model.source)
    listing = _listing(path)
    for known in own or formats().values():
        if listing and any(c.path == path for c in known.candidates(listing)):
            return known
    return None


def _listing(path: Path) -> Listing | None:
    """The folder as it is, or one that holds only that file; None where nothing is there."""
    try:
        found = path.stat()
        if not stat.S_ISDIR(found.st_mode):
            return Listing(path.parent, (Entry(path.name, False, found.st_size),))
        with os.scandir(path) as entries:
            listed = [Entry(e.name, e.is_dir(), e.stat().st_size) for e in entries]
    except (OSError, ValueError):
        return None
    return Listing(path, listed)


def described(model: Model, info: ModelInfo) -> Model:
    """The model with its file's size, and what the file says where nothing was declared."""
    said = {
        "architecture": info.architecture,
        "quantization": info.quantization,
        "context_length": info.context_length,
    }
    ours = {f: v for f, v in said.items() if f in model.from_file or not getattr(model, f)}
    others = tuple(f for f in model.from_file if f not in said)
    values: dict[str, Any] = {"size_bytes": info.file_bytes, "from_file": (*ours, *others), **ours}
    values["facts"] = packed(facts_of(info))
    return dataclasses.replace(model, **values)


def facts_of(info: ModelInfo) -> dict[str, Any]:
    """What a file says beyond the fields of a model, as plain JSON; what it does not, is not there.
    PURE."""
    said = {name: getattr(info, name) for name in FACTS}
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in said.items()}
    return {k: v for k, v in plain.items() if v or v == 0}


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
