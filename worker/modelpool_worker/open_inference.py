"""What of the Open Inference Protocol is about the server and its one model. What the model is
asked itself is a surface like any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelpool_client import __version__
from modelpool_client.errors import MethodNotAllowed, NotFound, NotSupported
from modelpool_client.http1.exchange import Exchange
from modelpool_client.surfaces.body import parse_object
from modelpool_client.surfaces.codecs import CODECS
from modelpool_client.surfaces.openai import check_model
from modelpool_client.surfaces.routes import INFER_PATH, route_of
from modelpool_client.wire import Phase

if TYPE_CHECKING:
    from modelpool_client.surfaces import open_inference as oip

    from .worker import Worker


_INDEX = "/v2/repository/index"
_LARGEST_BODY_BYTES = 1 << 20
# As the pool calls them.
_STATES = {
    Phase.LOADING: "WARMING",
    Phase.READY: "HOT",
    Phase.ASLEEP: "COLD",
    Phase.FAILED: "FAILED",
}


def is_about_models(path: str) -> bool:
    """Is it one of the protocol's, and no surface?"""
    return (path == "/v2" or path.startswith("/v2/")) and not route_of(path)


async def answer(worker: Worker, exchange: Exchange, path: str) -> None:
    """Answer ``GET /v2``, ``/v2/health/live``, ``/v2/health/ready`` and ``/v2/models/{model}``,
    its ``ready`` and its ``config``, and ``POST /v2/repository/index``.

    Raises:
        NotFound: there is no such route, or the model is another.
        NotSupported: it is one by which models are loaded and unloaded.
        MethodNotAllowed: they take another method.
        ModelLoading, WorkerDraining, LoadFailed: it is not ready, where that is asked.
    """
    from modelpool_client.surfaces import open_inference as oip

    if path.startswith("/v2/repository/models/"):
        text = f"{path[:200]}: a worker has its one model; ask the pool's own port"
        raise NotSupported(text, source="worker")
    expected = "POST" if path == _INDEX else "GET"
    if exchange.request.method not in (expected, *(("HEAD",) if expected == "GET" else ())):
        raise MethodNotAllowed.of(path, exchange.request.method, (expected,))
    target = oip.target_of(path)
    if path == _INDEX:
        CODECS["tensors"].check(exchange.request.headers, "worker")
        exchange.send_json(200, _index(worker, await exchange.read_body(_LARGEST_BODY_BYTES)))
    elif path == oip.ROOT:
        exchange.send_json(200, oip.server_metadata(__version__))
    elif path == f"{oip.ROOT}/health/live":
        exchange.send_json(200, {"live": True})
    elif path == f"{oip.ROOT}/health/ready":
        worker.check_ready()
        exchange.send_json(200, {"live": True, "ready": worker.phase is Phase.READY})
    elif target is not None:
        exchange.send_json(200, await _model(worker, target))
    else:
        raise NotFound(f"there is no route {path[:200]!r}", source="worker")


def _index(worker: Worker, body: bytes) -> list[dict[str, Any]]:
    from modelpool_client.surfaces import open_inference as oip

    only_ready = oip.wants_ready(parse_object(body) if body else {})
    state = _STATES.get(worker.phase, "UNLOADING")
    entry = oip.Entry(worker.assignment.model_id, state, f"it is {worker.phase}")
    return oip.repository_index([entry], ready=only_ready)


async def _model(worker: Worker, target: oip.Target) -> dict[str, Any]:
    from modelpool_client.surfaces import open_inference as oip

    assignment = worker.assignment
    check_model({"model": target.model}, assignment.model_id, worker.aliases)
    oip.check_version(target)
    if target.verb == oip.READY:
        worker.check_ready()
        return {"name": target.model, "ready": True}
    kind = oip.kind_of_model(assignment.capabilities) or oip.kind_of_engine(worker.serves)
    if target.verb == oip.CONFIG:
        return oip.model_config(target.model, assignment.engine, kind)
    told = oip.model_metadata(target.model, [oip.VERSION], assignment.engine, kind)
    return {**told, **(await worker.engine.tensors() if INFER_PATH in worker.serves else {})}
