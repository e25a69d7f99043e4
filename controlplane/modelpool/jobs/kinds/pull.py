"""Fetches a model and registers it; see ``docs/pull.md``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Collection, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from modelpool_client.errors import InvalidRequest, ModelExists

from modelpool.catalog.model import Model, did_you_mean, validate_model_id
from modelpool.catalog.parse_rules import refuse
from modelpool.catalog.sources.registry import sources
from modelpool.discovery.merge import ORIGIN
from modelpool.discovery.watching import roots_of
from modelpool.jobs.base import Context, JobRequest
from modelpool.jobs.job import Lane
from modelpool.jobs.process import run_process
from modelpool.ollama_server.entries import entry_of
from modelpool.ollama_server.look import PROGRAM as SERVER_PROGRAM
from modelpool.ollama_server.look import servers_of
from modelpool.pulling.base import OriginSettings
from modelpool.pulling.reference import SERVER, parse_reference
from modelpool.services import Services
from modelpool.ticks import tick

PROGRAM = "modelpool.pulling.program"
# Two fetch together what one does, and a small model need not wait for a large one.
LANE = Lane("network", 2)
LIMIT_SECONDS = 1.0
KEYS = ("source", "model_id", "aliases", "tags", "options", "digest", "register")
# Layouts that call files by their digests.
STORES = ("huggingface", "llama_cpp", "ollama")
# What an engine may call the option that names a projector.
PROJECTOR_OPTIONS = ("projector", "mmproj")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Pull:
    """See ``Kind``. What was asked for is its subject, as ``Reference`` writes it."""

    name = "pull"
    lane = LANE
    is_resumable = True
    retries = 5
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
        if reference.scheme == "path":
            refuse(await self._services.named_file_problems(reference.name))
        if reference.scheme == SERVER and data.get("digest"):
            raise InvalidRequest("digest is of a file, and Ollama keeps this one", param="digest")
        said = {key: data[key] for key in KEYS[1:] if data.get(key) is not None}
        _check(said)
        model_id = said.get("model_id") or reference.model_id
        former = self._services.catalog.find(model_id)
        # One that was found on the disk may be this very model, in another program's store.
        is_others = former is not None and former.origin != ORIGIN
        if former is not None and is_others and not _is_of(former, str(reference)):
            text = f"there is a model {model_id!r} already, which was not pulled from {reference}"
            raise ModelExists(f"{text}: give another model_id", param="model_id")
        if model_id == reference.model_id:
            said.pop("model_id", None)
        subject = str(reference)
        is_whole = reference.scheme != "url" or subject == reference.url
        return JobRequest(subject, said, {} if is_whole else {"source": reference.url})

    async def run(self, context: Context) -> Mapping[str, Any]:
        """See ``Kind``."""
        params = context.job.params
        if parse_reference(context.job.subject).scheme == SERVER:
            return await self._pull_at_servers(context)
        config = self._services.pool.config
        names = await self._services.engines.names()
        limit = self._limit()
        request = {
            "task": "pull",
            "source": context.job.secrets.get("source", context.job.subject),
            "stores": _stores(self._services),
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

    async def _pull_at_servers(self, context: Context) -> Mapping[str, Any]:
        """Servers of Ollama fetch it, and keep it where they keep theirs."""
        params, reference = context.job.params, parse_reference(context.job.subject)
        own = params.get("options", {}).get("servers")
        request = {
            "task": "pull",
            "name": str(reference).removeprefix(f"{SERVER}:"),
            "servers": [{"url": url, "name": url} for url in own or ()]
            or servers_of(self._services),
        }

        def on_message(message: Mapping[str, Any]) -> None:
            if "progress" in message:
                context.progress(**message["progress"])
            if "log" in message:
                context.log(str(message["log"]))

        found = await run_process(SERVER_PROGRAM, request, on_message)
        result = {"source": found["name"], "files": [], "bytes": found["size"], "reasons": []}
        result |= {"revision": found["digest"]}
        if not params.get("register", True):
            return result
        model_id = params.get("model_id") or reference.model_id
        if (model := self._services.catalog.find(model_id)) is None:
            entry = entry_of(found, model_id, is_found=False)
            entry["metadata"]["pulled"] = {"reference": str(reference), "revision": found["digest"]}
            entry |= {k: params[k] for k in ("aliases", "tags", "options") if k in params}
            model = await self._services.register(entry)
        return {"model_id": model.model_id, **result}

    async def _register(self, found: Mapping[str, Any], params: Mapping[str, Any]) -> Model:
        model_id = params.get("model_id") or found["model_id"]
        former = self._services.catalog.find(model_id)
        if former is not None and await asyncio.to_thread(_is_same_file, former, found["source"]):
            await self._services.files.check(former.model_id)  # the file may be another now
            return former
        entry = {
            "model_id": model_id,
            "engine": found["engine"],
            "source": found["source"],
            "options": (options := await self._options(found, params)),
            "request": found["request"],
            "metadata": found["metadata"],
            "aliases": params.get("aliases", []),
            "tags": params.get("tags", []),
        }
        folder = self._services.pool.config.models_folder
        pulled = {str(folder / file["path"]) for file in found["files"]}
        return await self._services.register(entry, naming(options, pulled))

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


def naming(options: Mapping[str, Any], paths: Collection[str]) -> dict[str, Any]:
    """Those options that name one of the files, and of lists their elements that do: where files
    were pulled they may be named, though they be links to another program's. PURE."""
    named: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, str) and value in paths:
            named[name] = value
        elif isinstance(value, list):
            named[name] = [v for v in value if isinstance(v, Mapping) and v.get("path") in paths]
    return named


def origin_settings(services: Services) -> dict[str, Any]:
    """What the configuration says of origins."""
    config = services.pool.config
    return OriginSettings(
        config.hub_url, config.ollama_registry_url, config.pull_private_addresses
    ).as_dict()


def _stores(services: Services) -> list[str]:
    """Folders where other programs may have the files already: those that are looked through, and
    where those programs have theirs unless told otherwise."""
    usual = [sources()[name].default_paths(os.environ, Path.home()) for name in STORES]
    asked = [report.root for report in services.discovery.reports.values()]
    roots = [root.path for root in (*roots_of(services.pool.config).values(), *asked)]
    return list(dict.fromkeys([*roots, *map(str, chain.from_iterable(usual))]))


def _is_same_file(model: Model, source: str) -> bool:
    """Whether a model has that file, by whichever name."""
    if model.source == source:
        return True
    with contextlib.suppress(OSError):
        return os.path.samefile(model.source, source)
    return False


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
