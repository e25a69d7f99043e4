"""What of the Open Inference Protocol is about server and models: what they are, whether they are
ready, the repository of them. What is asked of a model is the gateway's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

from modelpool_client import __version__
from modelpool_client.errors import MethodNotAllowed, NotFound, NotSupported, PoolStopping
from modelpool_client.http1.exchange import Exchange
from modelpool_client.http1.upstream import Upstream
from modelpool_client.http1.upstream_connection import UpstreamError
from modelpool_client.surfaces import open_inference as oip
from modelpool_client.surfaces.body import parse_object
from modelpool_client.surfaces.parameters import header_of

from modelpool.catalog.catalog import Catalog
from modelpool.catalog.model import Model
from modelpool.gateway.models import NO_NAMES, VirtualNames, first_model
from modelpool.pool.pool import Pool
from modelpool.pool.states import State

LARGEST_BODY_BYTES = 1 << 20
TENSORS_SECONDS = 3.0
REASON = "asked for by the Open Inference Protocol"
REPOSITORY = f"{oip.ROOT}/repository"
MODELS = f"{REPOSITORY}/models/"
# Triton's, which nobody here speaks.
NOT_HERE = frozenset({"trace", "logging", "systemsharedmemory", "cudasharedmemory"})
NOT_OF_A_MODEL = ("/stats", "/trace/setting")

Handler = Callable[[Exchange], Awaitable[None]]


def is_spoken(path: str) -> bool:
    """Whether a path is one of the protocol's."""
    return path == oip.ROOT or path.startswith(f"{oip.ROOT}/")


class OpenInferenceApi:
    """Answers everything under ``/v2`` but what a model computes.

    ``prepare`` is awaited before a load, and raises why there can be none.
    """

    def __init__(
        self,
        catalog: Catalog,
        pool: Pool,
        prepare: Callable[[str], Awaitable[None]],
        upstream: Upstream,
        virtual: VirtualNames = NO_NAMES,
    ) -> None:
        self._virtual = virtual
        self._catalog = catalog
        self._pool = pool
        self._prepare = prepare
        self._upstream = upstream
        self._routes: Mapping[str, tuple[str, Handler]] = {
            oip.ROOT: ("GET", self._server),
            f"{oip.ROOT}/health/live": ("GET", self._live),
            f"{oip.ROOT}/health/ready": ("GET", self._server_ready),
            f"{REPOSITORY}/{oip.INDEX}": ("POST", self._index),
        }

    @staticmethod
    def is_asked(path: str) -> bool:
        """Is it one of its routes?"""
        return is_spoken(path) and not oip.is_work(path)

    async def __call__(self, exchange: Exchange, path: str) -> None:
        """Answer a request.

        Raises:
            ModelPoolError: for the client.
        """
        method, handler = self._route(path)
        asked = exchange.request.method
        if asked != method and not (asked == "HEAD" and method == "GET"):
            raise MethodNotAllowed.of(path, asked, (method,))
        await handler(exchange)

    def _route(self, path: str) -> tuple[str, Handler]:
        if path in self._routes:
            return self._routes[path]
        if path.startswith(MODELS):
            name, _, verb = path.removeprefix(MODELS).rpartition("/")
            if name and verb in (oip.LOAD, oip.UNLOAD):
                change = self._load if verb == oip.LOAD else self._unload
                return "POST", lambda exchange: change(exchange, name)
        if path.split("/")[2] in NOT_HERE or path.endswith(NOT_OF_A_MODEL):
            text = f"{path[:200]} is not supported; GET {oip.ROOT} names the extensions that are"
            raise NotSupported(text)
        target = oip.target_of(path)
        if target is not None:
            return "GET", lambda exchange: self._model(exchange, target)
        raise NotFound(f"there is no route {path[:200]!r}; GET {oip.ROOT} says what is spoken here")

    # -- the server ------------------------------------------------------------------------------

    async def _server(self, exchange: Exchange) -> None:
        exchange.send_json(200, oip.server_metadata(__version__))

    async def _live(self, exchange: Exchange) -> None:
        exchange.send_json(200, {"live": True})

    async def _server_ready(self, exchange: Exchange) -> None:
        """It takes requests. The protocol's "all models are ready" would be said of none here."""
        if self._pool.is_stopping:
            raise PoolStopping("the pool is stopping")
        exchange.send_json(200, {"live": True, "ready": True})

    # -- a model ---------------------------------------------------------------------------------

    async def _model(self, exchange: Exchange, target: oip.Target) -> None:
        virtual = None if target.model in self._catalog else self._virtual.find(target.model)
        model = first_model(virtual, self._catalog) if virtual is not None else None
        model = model or self._catalog.get(target.model)
        oip.check_version(target)
        if target.verb == oip.READY:
            self._say_ready(exchange, target.model, model)
            return
        kind = oip.kind_of_model(model.capabilities)
        if target.verb == oip.CONFIG:
            body = oip.model_config(target.model, model.engine, kind)
        else:
            body = oip.model_metadata(target.model, [oip.VERSION], model.engine, kind)
            body |= await self._tensors(model)
        exchange.send_json(200, body)

    async def _tensors(self, model: Model) -> dict[str, Any]:
        """``inputs`` and ``outputs`` of a model of tensors, as its worker tells them; empty where
        it has none, for nothing is loaded to be looked at."""
        status = self._pool.status(model.model_id)
        if "tensor_inference" not in model.capabilities or not status.state.is_serving:
            return {}
        target = f"{oip.ROOT}/models/{quote(model.model_id, safe='')}".encode()
        try:
            async with asyncio.timeout(TENSORS_SECONDS):
                endpoint = (self._pool.config.host, status.port or 0)
                with await self._upstream.request(endpoint, "GET", target, []) as reply:
                    told = json.loads(await reply.read())
            return {key: told[key] for key in ("inputs", "outputs")}
        except (UpstreamError, TimeoutError, ValueError, KeyError, TypeError):
            return {}  # it has ended, or has more to do

    def _say_ready(self, exchange: Exchange, name: str, model: Model) -> None:
        """A model is ready if a request for it would be answered, if need be after a load: 200. Its
        clients ask before they infer, and ask nothing of one that is not (tritonclient's
        ``is_model_ready``, KServe's probes); said of loaded models only, no model would ever be
        loaded by a request. Which are loaded is in the index. 503 while the last load has failed,
        and where the pool is stopping."""
        status = self._pool.status(model.model_id)
        is_ready = status.state is not State.FAILED and not self._pool.is_stopping
        body: dict[str, Any] = {"name": name, "ready": is_ready, "state": status.state}
        if not is_ready:
            body["error"] = f"{model.model_id} is {status.state}: {status.reason}"
        exchange.send_json(200 if is_ready else 503, body)

    # -- the repository --------------------------------------------------------------------------

    async def _index(self, exchange: Exchange) -> None:
        ready = oip.wants_ready(await _read(exchange))
        models = [m.model_id for m in self._catalog if self._pool.has(m.model_id)]
        statuses = [(name, self._pool.status(name)) for name in models]
        entries = [oip.Entry(name, status.state, status.reason) for name, status in statuses]
        exchange.send_json(200, oip.repository_index(entries, ready=ready))

    async def _load(self, exchange: Exchange, name: str) -> None:
        """Answered when it is HOT; a load that goes on already is waited for."""
        model = await self._read_change(exchange, oip.LOAD, name)
        await self._prepare(model.model_id)
        await self._pool.load(model.model_id, REASON, self._pool.config.load_wait_seconds)
        exchange.send_json(200, {"name": name, "load": True})

    async def _unload(self, exchange: Exchange, name: str) -> None:
        """Answered when its memory is back."""
        model = await self._read_change(exchange, oip.UNLOAD, name)
        await self._pool.unload(model.model_id, REASON)
        exchange.send_json(200, {"name": name, "unload": True})

    async def _read_change(self, exchange: Exchange, verb: str, name: str) -> Model:
        ignored = oip.ignored_parameters(verb, await _read(exchange))
        if ignored:
            exchange.headers.append((b"x-modelpool-ignored", header_of(ignored)))
        return self._catalog.get(name)


async def _read(exchange: Exchange) -> dict[str, Any]:
    """The body; none is an empty object."""
    body = await exchange.read_body(LARGEST_BODY_BYTES)
    return parse_object(body) if body else {}
