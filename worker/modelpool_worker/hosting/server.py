"""The HTTP of an engine child on its unix socket: asked by its front, answered by surfaces."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import uvloop
from modelpool_client.errors import (
    ContextLengthExceeded,
    NotFound,
)
from modelpool_client.http1.exchange import Exchange
from modelpool_client.http1.server import HttpServer
from modelpool_client.http1.timeouts import Timeouts
from modelpool_client.surfaces.body import MAX_BODY_BYTES, parse_object
from modelpool_client.surfaces.routes import route_of

from modelpool_worker.batching.options import limits_of, policy_of
from modelpool_worker.batching.queue import PRIORITY, priority_in
from modelpool_worker.engine import EngineJob, Status

from . import meters
from .contract import Hosted
from .generators import generator_of
from .media import ImageSurface, SpeechSurface, TranscriptionSurface
from .surface import Answer, Batches, RawAnswer, Work, failure
from .tensors import METADATA_PATH, TensorSurface
from .text_surface import TextSurface
from .vectors import ClassifySurface, EmbeddingSurface, RerankSurface

# The front looks after its clients; it is the only one here, and may wait for one that reads
# slowly.
_FOR_EVER = 10.0 * 365 * 86400
TIMEOUTS = Timeouts(_FOR_EVER, _FOR_EVER, _FOR_EVER, _FOR_EVER)


def serve(job: EngineJob, status: Status, hosted: Hosted) -> None:
    """Serve what a loaded model can do on ``job.socket``, and report ``status.ready``: the last
    call of an engine's ``serve``. Of ``job.options`` those of ``batching.options`` are heeded.

    Returns never; the child ends when its front does.

    Raises:
        TypeError: a model has not the methods that it needs.
        OSError: the socket cannot be had.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(job, status, hosted))


async def _serve(job: EngineJob, status: Status, hosted: Hosted) -> None:
    app = App(job, hosted)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(job.socket)
    server = HttpServer(
        app, listening, source="engine", timeouts=TIMEOUTS, keep_alive_seconds=_FOR_EVER
    )
    await server.start()
    text = hosted.text
    status.ready(
        context_length=app.context_length,
        chat_error=hosted.chat_error,
        slots=text.slots if text is not None else 0,
        serves=sorted(app.serves),
        stops_plain=True,
        has_metrics=True,
        unable=hosted.unable,
        heeds_priority=True,
    )
    await asyncio.Event().wait()


class App:
    """Answers whatever the front asks.

    Attributes:
        serves: the paths of ``surfaces.routes`` that the model answers.
        context_length: of one request in tokens; None where it has none.
    """

    def __init__(self, job: EngineJob, hosted: Hosted) -> None:
        self._work = Work()
        surfaces: list[Any] = list(_surfaces(job, hosted, self._work))
        self._routes: dict[str, Answer] = {}
        self._raw_routes: dict[str, RawAnswer] = {}
        for surface in surfaces:
            self._routes |= getattr(surface, "routes", {})
            self._raw_routes |= getattr(surface, "raw_routes", {})
        metered = [s for s in surfaces if hasattr(s, "meter")]
        self._meters = {surface.work: surface.meter for surface in metered}
        self._name = job.model_id
        self._tensors = next((s for s in surfaces if isinstance(s, TensorSurface)), None)
        self.serves = frozenset({*self._routes, *self._raw_routes})
        models = (hosted.text, hosted.embeddings, hosted.rerank, hosted.classify)
        lengths = [model.context_length for model in models if model is not None]
        self.context_length = min(lengths, default=None)

    async def __call__(self, exchange: Exchange) -> None:
        path = exchange.request.path
        try:
            if path == "/health":
                exchange.send_json(200, {"status": "ok"})
                return
            if path == "/metrics":
                kind = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
                exchange.send(200, [kind], meters.page(self._name, self._meters))
                return
            await self._answer(exchange, path)
        except ContextLengthExceeded as e:
            exchange.send_json(400, _too_long(e))
        except Exception as e:
            error = failure(e)
            raise error from None

    async def _answer(self, exchange: Exchange, path: str) -> None:
        route = route_of(path)
        if route in self._routes:
            said = parse_object(await exchange.read_body(MAX_BODY_BYTES))
            if (urgency := exchange.request.fields.get(PRIORITY)) is not None:
                said["priority"] = priority_in(urgency)
            await self._routes[route](exchange, said)
        elif route in self._raw_routes:
            await self._raw_routes[route](exchange, await exchange.read_body(MAX_BODY_BYTES))
        elif path == METADATA_PATH and self._tensors is not None:
            exchange.send_json(200, self._tensors.metadata())
        else:
            raise NotFound(f"this model does not answer {path[:200]!r}", source="engine")


def _surfaces(job: EngineJob, hosted: Hosted, work: Work) -> Iterator[object]:
    options, name = job.options, job.model_id
    batches = Batches(options)
    if hosted.text is not None:
        generator = generator_of(hosted.text, policy_of(options), limits_of(options))
        yield TextSurface(name, hosted.text, generator, work)
    if hosted.embeddings is not None:
        yield EmbeddingSurface(name, hosted.embeddings, batches, work)
    if hosted.rerank is not None:
        yield RerankSurface(name, hosted.rerank, batches, work)
    if hosted.classify is not None:
        yield ClassifySurface(name, hosted.classify, batches, work)
    if hosted.tensors is not None:
        yield TensorSurface(name, hosted.tensors, batches, work)
    if hosted.speech is not None:
        yield SpeechSurface(hosted.speech)
    if hosted.transcription is not None:
        yield TranscriptionSurface(hosted.transcription)
    if hosted.images is not None:
        yield ImageSurface(hosted.images)


def _too_long(error: ContextLengthExceeded) -> dict[str, object]:
    """As llama.cpp tells it, which is what fronts read."""
    told = {"code": 400, "type": "exceed_context_size_error", "message": error.message}
    numbers = {
        "n_prompt_tokens": error.details.get("prompt_tokens"),
        "n_ctx": error.details.get("context_length"),
    }
    return {"error": {**told, **numbers}}
