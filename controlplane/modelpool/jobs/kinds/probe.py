"""Finds out what a model can do by asking it; what is found overrules what was said of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from modelpool_client.errors import InvalidRequest

from modelpool.catalog.model import Model
from modelpool.catalog.probe_results import ProbeResult
from modelpool.jobs.base import Context, JobRequest
from modelpool.jobs.job import Lane
from modelpool.pool.waiters import UNUSED, USED
from modelpool.probing.checks import PROBED, Answer, Request, named
from modelpool.probing.probe import Ask, Probed, probe
from modelpool.services import Services

# It loads a model and makes it work: one at a time.
LANE = Lane("work")


class Probe:
    """``{"model": id, "capabilities": [only these]}``."""

    name = "probe"
    lane = LANE
    is_resumable = False
    retries = 0
    model_events = True

    def __init__(self, services: Services) -> None:
        self._services = services

    async def parse(self, data: Mapping[str, Any]) -> JobRequest:
        unknown = sorted(data.keys() - {"model", "capabilities"})
        if unknown:
            raise InvalidRequest(f"a probe knows no {unknown[0][:80]!r}", param=unknown[0][:80])
        name, only = data.get("model"), data.get("capabilities") or []
        if not isinstance(name, str):
            raise InvalidRequest("model is required: say which is to be probed", param="model")
        if not isinstance(only, list) or not all(word in PROBED for word in only):
            text = f"capabilities must be a list of these: {', '.join(PROBED)}"
            raise InvalidRequest(text, param="capabilities")
        model = self._services.catalog.get(name)
        return JobRequest(model.model_id, {"capabilities": sorted(set(only))})

    async def run(self, context: Context) -> Mapping[str, Any]:
        services, only = self._services, context.job.params["capabilities"]
        model = services.catalog.get(context.job.subject)
        await services.files.check(model.model_id)
        key, _ = await services.estimator.look(model)
        version = (await services.capabilities.engine(model.engine)).version
        total = len(only or PROBED)
        found: list[ProbeResult] = []
        async with aclosing(probe(self._asking(model), time.monotonic, only)) as probed:
            async for each in probed:
                found.append(_result(model, (*key[1:], version), each))
                context.log(f"{each.capability}: {each.verdict.outcome}: {each.verdict.reason}")
                context.progress(len(found), total, "checks", each.capability)
        now_key, _ = await services.estimator.look(services.catalog.get(model.model_id))
        if now_key != key:
            text = f"{model.model_id} was changed while it was probed: probe it again"
            raise InvalidRequest(text, code="model_changed")
        await services.capabilities.record(model.model_id, found)
        await services.describe(model.model_id)
        return {"capabilities": {r.capability: _told(r) for r in found}}

    def _asking(self, model: Model) -> Ask:
        """Sends requests to the model's worker, loading it if need be. The gateway is passed by: it
        would refuse what nobody believes yet."""
        services = self._services

        async def ask(request: Request) -> Answer:
            if model.served_by:  # the worker of a provider, of which it is one of many
                request = named(request, model.model_id)
            await services.files.check(model.model_id)
            grant = await services.pool.acquire(model.model_id, priority="low")
            is_used = False
            try:
                headers = [(b"content-type", request.content_type.encode())]
                sent = services.upstream.request(
                    grant.endpoint, "POST", request.path.encode(), headers, request.body
                )
                with await sent as reply:
                    body, is_used = await reply.read(), reply.status < 400
                    told = {k.decode(): v.decode("latin-1") for k, v in reply.headers}
                    return Answer(reply.status, told, body)
            finally:
                grant.release(USED if is_used else UNUSED)

        return ask


def _result(model: Model, held_for: tuple[str, str, str], probed: Probed) -> ProbeResult:
    outcome, reason = probed.verdict.outcome, probed.verdict.reason
    took = round(probed.milliseconds, 1)
    return ProbeResult(
        model.model_id, *held_for, probed.capability, outcome, reason, took, time.time()
    )


def _told(result: ProbeResult) -> dict[str, Any]:
    return {
        "outcome": result.outcome,
        "reason": result.reason,
        "milliseconds": result.milliseconds,
    }
