"""What of Ollama's API is about models, not asked of one: which there are, run, and can do what."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from modelpool_client.errors import BadGateway, MethodNotAllowed, NotSupported
from modelpool_client.http1.exchange import Exchange
from modelpool_client.surfaces import ollama
from modelpool_client.surfaces.body import parse_object
from modelpool_client.surfaces.names import LATEST
from modelpool_client.surfaces.schema import check

from modelpool.catalog.catalog import Catalog
from modelpool.catalog.formats.chat_templates import chat_template
from modelpool.catalog.model import Model
from modelpool.gateway.listings import Listing, encoded, send
from modelpool.gateway.models import NO_NAMES, VirtualNames, first_model
from modelpool.jobs.job import Job, JobState
from modelpool.jobs.runner import Jobs
from modelpool.pool.pool import Pool
from modelpool.pool.states import State
from modelpool.pool.status import ReplicaStatus
from modelpool.pulling.pulls import KIND
from modelpool.pulling.reference import ollama_name
from modelpool.routing.virtual_model import VirtualModel

LARGEST_BODY_BYTES = 1 << 20
NS = 1_000_000_000
# Between two lines about a pull: ten a second are what Ollama writes at most.
PULL_LINE_SECONDS = 0.25

Handler = Callable[[Exchange, Mapping[str, Any]], Awaitable[None]]


class OllamaApi:
    """What changes the catalog is done by others: ``copy`` registers a model under another id,
    ``delete`` removes it, unloading it first; ``jobs`` fetch models."""

    def __init__(
        self,
        catalog: Catalog,
        pool: Pool,
        copy: Callable[[str, str], Awaitable[Model]],
        delete: Callable[[str], Awaitable[Model]],
        jobs: Jobs,
        virtual: VirtualNames = NO_NAMES,
    ) -> None:
        self._virtual = virtual
        self._catalog = catalog
        self._pool = pool
        self._copy_model = copy
        self._delete_model = delete
        self._jobs = jobs
        self._listing = Listing(catalog, pool, _entries)
        self._routes: Mapping[str, tuple[str, Handler]] = {
            "/api/tags": ("GET", self._tags),
            "/api/ps": ("GET", self._ps),
            "/api/version": ("GET", self._version),
            "/api/show": ("POST", self._show),
            "/api/delete": ("DELETE", self._delete),
            "/api/pull": ("POST", self._pull),
            "/api/copy": ("POST", self._copy),
            "/api/create": ("POST", self._not_here),
            "/api/push": ("POST", self._not_here),
        }

    def is_asked(self, path: str) -> bool:
        """Is it one of its routes?"""
        return path in self._routes

    async def __call__(self, exchange: Exchange, path: str) -> None:
        """Answer a request.

        Raises:
            ModelPoolError: for the client.
        """
        method, handler = self._routes[path]
        asked = exchange.request.method
        if asked != method and not (asked == "HEAD" and method == "GET"):
            raise MethodNotAllowed.of(path, asked, (method,))
        data: Mapping[str, Any] = {}
        if method != "GET":
            data = parse_object(await exchange.read_body(LARGEST_BODY_BYTES))
        await handler(exchange, data)

    # -- routes ----------------------------------------------------------------------------------

    async def _tags(self, exchange: Exchange, data: Mapping[str, Any]) -> None:
        send(exchange, f"{self._listing.renew()}-{self._virtual.edition}", self._tags_body)

    def _tags_body(self) -> bytes:
        parts = [(model.updated_at, entries) for model, entries in self._listing.parts]
        for each in self._virtual.listed():
            listed = self._listed_virtual(each)
            parts.append((each.updated_at, encoded(listed.body())))
        newest = sorted(parts, key=lambda part: -part[0])
        return ollama.encoded_tags([entries for _, entries in newest])

    def _listed_virtual(self, virtual: VirtualModel) -> ollama.Listed:
        """As the first of its targets, under its own name."""
        first = first_model(virtual, self._catalog)
        if first is not None:
            return _listed(first, virtual.name)
        return ollama.Listed(virtual.name, 0, int(virtual.updated_at * NS))

    async def _ps(self, exchange: Exchange, data: Mapping[str, Any]) -> None:
        serving = [s for s in self._pool.holders if s.state.is_serving]
        running = [one for status in serving for one in self._all_running(status)]
        exchange.send_json(200, ollama.ps_body(running))

    async def _version(self, exchange: Exchange, data: Mapping[str, Any]) -> None:
        exchange.send_json(200, ollama.version_body())

    async def _show(self, exchange: Exchange, data: Mapping[str, Any]) -> None:
        name = ollama.asked_model("/api/show", data)
        virtual = None if name in self._catalog else self._virtual.find(name)
        if virtual is not None:
            exchange.send_json(200, ollama.show_body(self._listed_virtual(virtual)))
            return
        model = self._catalog.get(name)
        options = self._pool.effective(model).options
        template = options.get("chat_template")
        if not template:
            template = await asyncio.to_thread(chat_template, model.source)
        body = ollama.show_body(
            _listed(model, model.model_id),
            parameters=ollama.parameters_of(options),
            template=template if isinstance(template, str) else "",
        )
        exchange.send_json(200, body)

    async def _copy(self, exchange: Exchange, data: Mapping[str, Any]) -> None:
        check(ollama.MANAGEMENT_BODIES["/api/copy"], data)
        await self._copy_model(data["source"], data["destination"].removesuffix(LATEST))
        exchange.send(200, [], b"")

    async def _delete(self, exchange: Exchange, data: Mapping[str, Any]) -> None:
        model = self._catalog.get(ollama.asked_model("/api/delete", data))
        await self._delete_model(model.model_id)
        exchange.send(200, [], b"")

    async def _pull(self, exchange: Exchange, data: Mapping[str, Any]) -> None:
        """A model that is there needs nothing fetched; another is a job, which goes on without its
        client."""
        name = ollama.asked_model("/api/pull", data)
        is_stream = data.get("stream") is not False
        job = None if name in self._catalog else await self._begin_pull(name)
        if is_stream:
            exchange.begin(200, [(b"content-type", ollama.NDJSON)])
            exchange.write(ollama.PULL_BEGINS)
        while job is not None and job.state.is_active:
            job = await self._jobs.wait(job.job_id, PULL_LINE_SECONDS)
            if is_stream and job.state.is_active:
                await exchange.drain()
                exchange.write(b"".join(pull_lines(job)))
        if job is not None and job.state is not JobState.SUCCEEDED:
            error = BadGateway(job.reason or f"the pull is {job.state}", code=job.code or None)
            if not is_stream:
                raise error
            exchange.write(ollama.error_line(error))
            exchange.end()
            return
        if is_stream:
            exchange.write(ollama.PULL_ENDS)
            exchange.end()
        else:
            exchange.send_json(200, json.loads(ollama.PULL_ENDS))

    async def _begin_pull(self, name: str) -> Job:
        shown = name.removesuffix(LATEST)
        data = {"source": ollama_name(name), "model_id": shown}
        job, _ = await self._jobs.create(KIND, data)
        return job

    async def _not_here(self, exchange: Exchange, data: Mapping[str, Any]) -> None:
        path = exchange.request.path
        raise NotSupported(f"{path} is not supported; models are made by POST /models/register")

    # -- what is told ----------------------------------------------------------------------------

    def _all_running(self, status: ReplicaStatus) -> list[ollama.Running]:
        """The models that a replica serves: of a provider's those that are asked for by name, which
        take no memory here."""
        running = self._running(status)
        served = self._pool.served_models(status.model.model_id)
        own = [_listed(model, model.model_id) for model in served]
        return [ollama.Running(m, 0, 0, running.expires_ns) for m in own] or [running]

    def _running(self, status: ReplicaStatus) -> ollama.Running:
        facts, left = status.facts, status.lease.remaining(self._pool.clock.now())
        devices = sum(facts.device_memory_bytes.values()) if facts is not None else 0
        host = (facts.memory_bytes if facts is not None else None) or 0
        context = (facts.context_length if facts is not None else None) or 0
        listed = _listed(status.model, status.model.model_id)
        expires = None if left is None else time.time_ns() + int(left * NS)
        return ollama.Running(listed, host + devices, devices, expires, context)


def pull_lines(job: Job) -> Iterator[bytes]:
    """How far a pull is, as Ollama tells it: a line for each of its files that has begun. PURE."""
    left = int(job.progress.done)
    for file in job.checkpoint.get("plan", ()):
        size = file["size"] or 0
        digest = file["digest"] or stand_in(file["path"])
        if left <= 0:
            return
        yield ollama.pull_progress(digest, size, min(left, size))
        left -= size


def stand_in(path: str) -> str:
    """For a file without a digest: clients tell files apart by it."""
    return f"sha256:{hashlib.sha256(path.encode()).hexdigest()}"


def _entries(model: Model, _: State) -> bytes:
    """Under its id and its aliases."""
    names = (model.model_id, *model.aliases)
    return encoded([_listed(model, name).body() for name in names])[1:-1]


def _listed(model: Model, name: str) -> ollama.Listed:
    details = ollama.Details(
        format="gguf" if model.source.casefold().endswith(".gguf") else "",
        family=model.architecture or "",
        quantization=model.quantization or "",
        context_length=model.context_length or 0,
    )
    return ollama.Listed(
        name,
        model.size_bytes or 0,
        int(model.updated_at * NS),
        details=details,
        capabilities=model.capabilities,
    )
