"""Fetches a model and registers it; see ``docs/pull.md``."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

from modelpool_client.errors import InvalidRequest, ModelExists

from modelpool.catalog.model import Model, did_you_mean, validate_model_id
from modelpool.jobs.base import Context, JobRequest
from modelpool.jobs.job import Lane
from modelpool.jobs.process import run_process
from modelpool.pulling.base import OriginSettings
from modelpool.pulling.reference import parse_reference
from modelpool.services import Services
from modelpool.ticks import tick

PROGRAM = "modelpool.pulling.program"
# Two fetch together what one does, and a small model need not wait for a large one.
LANE = Lane("network", 2)
LIMIT_SECONDS = 1.0
KEYS = ("source", "model_id", "aliases", "tags", "options", "digest", "register")
# What an engine may call the option that names a projector.
PROJECTOR_OPTIONS = ("projector", "mmproj")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Pull:
    """See ``Kind``. What was asked for is its subject, as ``Reference`` writes it."""

    name = "pull"
    lane = LANE
    is_resumable = True
    model_events = False

    def __init__(self, services: Services) -> None:
        self._services = services

    async def parse(self, data: Mapping[str, Any]) -> JobRequest:
        """See ``Kind``."""
        for key in data:
            if key not in KEYS:
                near = did_you_mean(key, KEYS)
                raise InvalidRequest(f"a pull has no {key!r}{near}", param=str(key))
        reference = parse_reference(data.get("source"))
        said = {key: data[key] for key in KEYS[1:] if data.get(key) is not None}
        _check(said)
        model_id = said.get("model_id") or reference.model_id
        former = self._services.catalog.find(model_id)
        if former is not None and not _is_of(former, str(reference)):
            text = f"there is a model {model_id!r} already, which was not pulled from {reference}"
            raise ModelExists(f"{text}: give another model_id", param="model_id")
        if model_id == reference.model_id:
            said.pop("model_id", None)
        return JobRequest(str(reference), said)

    async def run(self, context: Context) -> Mapping[str, Any]:
        """See ``Kind``."""
        params = context.job.params
        config = self._services.pool.config
        names = await self._services.engines.names()
        limit = self._limit()
        request = {
            "task": "pull",
            "source": context.job.subject,
            "models_dir": str(config.models_folder),
            "origin": origin_settings(self._services),
            "memory_bytes": sum(config.device_budgets.values()) or config.memory_limit_bytes,
            "engines": None if names is None or not params.get("register", True) else sorted(names),
            "speed_limit": limit,
            "model_id": params.get("model_id"),
            "digest": params.get("digest"),
        }
        saving: list[asyncio.Task[None]] = []

        def on_message(message: Mapping[str, Any]) -> None:
            if "progress" in message:
                context.progress(**{"done": 0, **message["progress"]})
            if "log" in message:
                context.log(str(message["log"]))
            if "plan" in message:
                saving.append(asyncio.ensure_future(context.save({"plan": message["plan"]})))

        orders = self._limits(limit)
        try:
            found = await run_process(PROGRAM, request, on_message, orders)
        finally:
            await asyncio.gather(*saving, return_exceptions=True)
        size = sum(file["size"] for file in found["files"])
        result = {"source": found["source"], "files": found["files"], "bytes": size}
        result |= {"reasons": found["reasons"], "revision": found["revision"]}
        if not params.get("register", True):
            return result
        model = await self._register(found, params)
        self._services.events.publish(
            "model-pulled",
            model_id=model.model_id,
            key=f"{model.engine}:{model.model_id}",
            reason=f"{context.job.subject}: {len(found['files'])} files, {size} bytes",
        )
        return {"model_id": model.model_id, **result}

    async def _register(self, found: Mapping[str, Any], params: Mapping[str, Any]) -> Model:
        model_id = params.get("model_id") or found["model_id"]
        former = self._services.catalog.find(model_id)
        if former is not None and former.source == found["source"]:
            await self._services.files.check(former.model_id)  # the file may be another now
            return former
        entry = {
            "model_id": model_id,
            "engine": found["engine"],
            "source": found["source"],
            "options": await self._options(found, params),
            "metadata": found["metadata"],
            "aliases": params.get("aliases", []),
            "tags": params.get("tags", []),
        }
        return await self._services.register(entry)

    async def _options(self, found: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the origin that the engine takes, and those that were asked for."""
        engines = await self._services.engines.all()
        engine = next((e for e in engines if e["name"] == found["engine"]), {})
        known = engine.get("options", {})
        options = {k: v for k, v in found["options"].items() if k in known}
        projector = found["metadata"].get("projector")
        if projector:
            options |= {name: projector for name in PROJECTOR_OPTIONS if name in known}
        return options | dict(params.get("options", {}))

    def _limit(self) -> float:
        """Bytes a second for one of the pulls that run."""
        running = len(self._services.jobs.list(self.name, "running"))
        return self._services.pool.config.pull_max_bytes_per_second / max(1, running)

    async def _limits(self, told: float) -> AsyncIterator[Mapping[str, Any]]:
        """The limit whenever it is another."""
        while True:
            await tick(LIMIT_SECONDS)
            if (limit := self._limit()) != told:
                told = limit
                yield {"speed_limit": limit}


def origin_settings(services: Services) -> dict[str, Any]:
    """What the configuration says of origins."""
    config = services.pool.config
    return OriginSettings(config.hub_url, config.ollama_registry_url).as_dict()


def _check(said: dict[str, Any]) -> None:
    """Raises InvalidRequest where a parameter is of the wrong kind."""
    if "model_id" in said:
        validate_model_id(said["model_id"])
    for key in ("aliases", "tags"):
        values = said.get(key, [])
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise InvalidRequest(f"{key} must be a list of texts", param=key)
    if not isinstance(said.get("options", {}), dict):
        raise InvalidRequest("options must be an object", param="options")
    if not isinstance(said.get("register", True), bool):
        raise InvalidRequest("register must be true or false", param="register")
    digest = said.get("digest", "sha256:" + "0" * 64)
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise InvalidRequest("digest must be sha256: and 64 hexadecimal digits", param="digest")


def _is_of(model: Model, reference: str) -> bool:
    pulled = model.metadata.get("pulled")
    return isinstance(pulled, Mapping) and pulled.get("reference") == reference
