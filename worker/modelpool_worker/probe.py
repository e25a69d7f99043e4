"""One token from the engine, on suspicion: whether it answers, not whether its port is open."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from modelpool_client.errors import EngineFailed, ModelPoolError
from modelpool_client.http1.upstream_connection import UpstreamError
from modelpool_client.surfaces.requests import checked
from modelpool_client.surfaces.routes import (
    CHAT_PATH,
    EMBEDDINGS_PATH,
    RERANK_PATH,
    TEXT_PATH,
)
from modelpool_client.wire import ProbeReply, ProbeRequest

from .engine_client import BrokenOffError
from .proc import cpu_seconds, descendants
from .surfaces.reshape import EngineRequest

if TYPE_CHECKING:
    from .worker import Worker

QUESTION = {"prompt": "1", "max_tokens": 1, "temperature": 0}
MESSAGE = {"role": "user", "content": "1"}
# So many probes in a row are given a token while a request gets nothing: whoever waits in the
# engine's own line may by chance be overtaken by one, but not by each.
OVERTAKEN = 3


class _Signs:
    """Passes the signs of work on. That a probe was sent says nothing of what clients are owed."""

    def __init__(self, worker: Worker) -> None:
        self.gave = self.goes_on = worker.worked

    def sent(self) -> None:
        """See ``Watch``."""

    def asks(self) -> None:
        """See ``Watch``."""

    def rests(self) -> None:
        """See ``Watch``."""


async def probe(worker: Worker, request: ProbeRequest) -> ProbeReply:
    """Ask past the counters, for a probe is no use of the model.

    An engine that refuses has answered.
    """
    now, limit = worker.now, request.timeout_seconds
    began, used = now(), _spent(worker)
    answered, given, message = True, False, ""
    try:
        async with asyncio.timeout(limit):
            await _ask(worker)
        given = True
    except TimeoutError:
        answered, message = False, f"no token within {limit:g} s"
    except (BrokenOffError, UpstreamError) as e:
        answered, message = False, str(e)
    except ModelPoolError as e:
        message = e.message
    if given or not answered:  # who is refused never stood in a line
        _count_overtaken(worker, now() - began, given)
    if given and request.silent_seconds is not None:
        _end_forgotten(worker, request.silent_seconds)
    after = _spent(worker)
    spent = max(0.0, after - used) if after is not None and used is not None else None
    return ProbeReply(answered, now() - began, worker.facts(), spent, message)


def _spent(worker: Worker) -> float | None:
    """Processor time of an engine child and of what it has started."""
    pid = worker.backend.pid
    pids = [] if pid is None else [pid, *descendants(pid)]
    known = [s for p in pids if (s := cpu_seconds(p)) is not None]
    return sum(known) if known else None


async def _ask(worker: Worker) -> None:
    signs = _Signs(worker)
    if worker.backend.probe is not None:
        await worker.backend.probe()
    elif TEXT_PATH in worker.serves:
        await worker.engine.collect(_request(worker, TEXT_PATH, dict(QUESTION)), signs)
    elif CHAT_PATH in worker.serves:
        chat = {"messages": [dict(MESSAGE)], "max_tokens": 1}
        await worker.engine.collect(_request(worker, CHAT_PATH, chat), signs)
    elif EMBEDDINGS_PATH in worker.serves:
        await worker.engine.whole(_request(worker, EMBEDDINGS_PATH, {"input": "a"}), signs)
    else:
        asked = {"query": "a", "documents": ["a"]}
        await worker.engine.whole(_request(worker, RERANK_PATH, asked), signs)


def _request(worker: Worker, path: str, body: dict[str, Any]) -> EngineRequest:
    completion = checked(path, body)
    if worker.adapters is not None:
        completion = worker.adapters.told(path, completion)
    return EngineRequest(path, completion)


def _count_overtaken(worker: Worker, seconds: float, given: bool) -> None:
    for call in worker.calls:
        if not given:
            call.overtaken = 0
        elif call.silent_seconds(worker.now()) > seconds:
            call.overtaken += 1


def _end_forgotten(worker: Worker, limit: float) -> None:
    for call in list(worker.calls):
        silent = call.silent_seconds(worker.now())
        if silent >= limit and call.overtaken >= OVERTAKEN:
            text = (
                f"the engine answers others, but gave nothing for this request for {silent:.0f} s"
            )
            call.stop(EngineFailed(text, source="engine"))
