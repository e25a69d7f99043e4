"""What the API can do, once, for every route that offers it."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from modelpool.catalog.catalog import Catalog, ImportReport
from modelpool.catalog.errors import BadModelFile
from modelpool.catalog.metadata import GgufInfo, estimate_model_bytes, read_gguf
from modelpool.catalog.model import Model
from modelpool.catalog.parse import parse_model
from modelpool.catalog.rules import ParseRules
from modelpool.config import PoolConfig
from modelpool.engines import Engines
from modelpool.observe.events import EventBus
from modelpool.observe.metrics import Metrics
from modelpool.observe.usage import UsageMeter
from modelpool.pool.crew import Crew
from modelpool.pool.pool import Pool
from modelpool.pool.slot import Slot

log = logging.getLogger(__name__)

ESTIMATE_KEY = "memory_estimate_bytes"


@dataclass
class Services:
    """Everything the routes need, built once in ``app``."""

    catalog: Catalog
    pool: Pool
    crew: Crew
    events: EventBus
    metrics: Metrics
    usage: UsageMeter
    engines: Engines
    session: aiohttp.ClientSession
    pool_id: str

    def slot(self, name: str) -> Slot:
        """The slot of the model with that id or alias.

        Raises:
            ModelNotFound: there is none.
        """
        return self.pool.slot(self.catalog.get(name).model_id)

    async def register(self, data: object) -> Model:
        """Add a model; the file is read, nothing is loaded.

        Raises:
            ModelPoolError: why not; nothing was changed.
        """
        parsed = parse_model(
            data,
            known_engines=await self.engines.names(),
            ttl_range=self.pool.config.ttl_range,
        )
        model = await self.catalog.register(await asyncio.to_thread(inspected, parsed))
        self.pool.add(model)
        self._tell("model-registered", model)
        return model

    async def delete(self, name: str) -> Model:
        """Unload a model and remove it from the catalog.

        Raises:
            ModelNotFound: there is none.
        """
        model = self.catalog.get(name)
        await self.pool.remove(model.model_id)
        await self.catalog.delete(model.model_id)
        self._tell("model-deleted", model)
        return model

    async def import_registry(self, data: object, *, replace: bool) -> ImportReport:
        """Add the models of a registry file, all or none; running ones keep what they run with
        until they are loaded again.

        Raises:
            InvalidRequest: with everything that is wrong.
        """
        rules = ParseRules(None, await self.engines.names(), self.pool.config.ttl_range)
        report = await self.catalog.import_registry(data, replace, rules)
        for model_id in (*report.added, *report.updated):
            model = await asyncio.to_thread(_inspected_if_possible, self.catalog.get(model_id))
            model = await self.catalog.replace(model)
            self._take_over(model)
        return report

    def _take_over(self, model: Model) -> None:
        if self.pool.has(model.model_id):
            self.pool.slot(model.model_id).replace_model(model)
            self._tell("model-updated", model)
        else:
            self.pool.add(model)
            self._tell("model-registered", model)

    def reconfigure(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change live keys; what changed is returned.

        Raises:
            InvalidRequest: a key is unknown, needs a restart, or has a bad value.
        """
        old = self.pool.config
        new = old.patched(changes)
        changed = {k: v for k, v in new.as_dict().items() if v != old.as_dict()[k]}
        self.pool.reconfigure(new)
        if changed:
            self.events.publish("config-changed", changed=changed, reason="PATCH /config")
        return changed

    def _tell(self, event: str, model: Model) -> None:
        key = f"{model.engine}:{model.model_id}"
        reason = event.replace("model-", "")
        self.events.publish(event, model_id=model.model_id, key=key, reason=reason)


def inspected(model: Model) -> Model:
    """The model with what its file says. Reads the file: not for the event loop.

    Raises:
        BadModelFile: it is missing, truncated or corrupt.
    """
    if not model.source.endswith(".gguf"):
        return _estimated(model, None)
    info = read_gguf(Path(model.source))
    found = dataclasses.replace(
        model,
        architecture=model.architecture or info.architecture,
        context_length=model.context_length or info.context_length,
        quantization=model.quantization or info.quantization,
        size_bytes=info.file_bytes,
        capabilities=model.capabilities or _capabilities(info),
    )
    return _estimated(found, info)


def _capabilities(info: GgufInfo) -> tuple[str, ...]:
    return ("chat", "completion", "streaming") if info.has_chat_template else ("completion",)


def _estimated(model: Model, info: GgufInfo | None) -> Model:
    metadata = {**model.metadata, ESTIMATE_KEY: estimate_model_bytes(model, info)}
    return dataclasses.replace(model, metadata=metadata)


def _inspected_if_possible(model: Model) -> Model:
    try:
        return inspected(model)
    except BadModelFile as e:
        log.warning("%s: %s; loading it will fail until the file is mended", model.model_id, e)
        return _estimated(model, None)


def inspected_config(config: PoolConfig) -> tuple[Model, ...]:
    """The config file's models with what their files say; ``warmup_models`` implies warm-up."""
    models = (
        dataclasses.replace(m, warmup=m.warmup or m.model_id in config.warmup_models)
        for m in config.models
    )
    return tuple(_inspected_if_possible(m) for m in models)


def estimated_bytes(model: Model) -> int:
    """What admission reserves for a model, in bytes."""
    known = model.metadata.get(ESTIMATE_KEY)
    return int(known) if isinstance(known, int) else estimate_model_bytes(model)
