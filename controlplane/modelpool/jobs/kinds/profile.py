"""Jobs of kind ``profile``: how fast a model is on this machine, measured by real requests."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from modelpool_client.errors import Conflict, ModelPoolError
from pydantic import BaseModel, ConfigDict, Field

from modelpool.catalog.memory_estimate import HOST
from modelpool.catalog.model import Model
from modelpool.catalog.profiles import Level, Profile, compared, in_words_of_m2
from modelpool.jobs.base import Context, JobRequest
from modelpool.jobs.job import Lane
from modelpool.jobs.parse import parsed
from modelpool.measure.asking import Asking
from modelpool.measure.conditions import conditions, host_load
from modelpool.measure.guard import QUIET_SECONDS, Disturbed, Guard, unload_if_unused
from modelpool.measure.requests import Workload, form_of
from modelpool.measure.samples import Batch
from modelpool.measure.statistics import Spread
from modelpool.observe.events import iso
from modelpool.pool.worker_client import HttpWorkerClient
from modelpool.services import Services

STREAMS = (1, 4, 8)
RUNS = 3
MAX_RUNS, MAX_STREAMS, MAX_LEVELS = 50, 64, 8
LOAD_SECONDS = 600.0
# Most that the measuring takes, the load not counted. One run of each level is always made.
LIMIT_SECONDS = 300.0
BUSY_LOAD = 0.5

Streams = Annotated[int, Field(ge=1, le=MAX_STREAMS)]


class _Asked(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)
    model: str
    test_count: Annotated[int, Field(ge=1, le=MAX_RUNS, alias="testCount")] = RUNS
    streams: Annotated[
        tuple[Streams, ...], Field(min_length=1, max_length=MAX_LEVELS, strict=False)
    ] = STREAMS
    wait_seconds: Annotated[float, Field(ge=0, le=86_400)] = QUIET_SECONDS


@dataclass
class _Figures:
    """What was measured so far, by the number of streams."""

    batches: dict[int, list[Batch]]
    failed: int = 0

    @property
    def requests(self) -> int:
        done = sum(len(b.samples) for batches in self.batches.values() for b in batches)
        return done + self.failed


class ProfileKind:
    """Loads the model if need be, and unloads it afterwards if nobody used it meanwhile."""

    name = "profile"
    lane = Lane("measure")
    is_resumable = False
    model_events = True

    def __init__(self, services: Services, now: Callable[[], float] = time.perf_counter) -> None:
        self._services = services
        self._now = now

    async def parse(self, data: Mapping[str, Any]) -> JobRequest:
        asked = parsed(_Asked, data)
        model = self._services.catalog.get(asked.model)
        form_of(model.capabilities)
        streams = sorted(set(asked.streams))
        params = {"testCount": asked.test_count, "streams": streams}
        return JobRequest(model.model_id, {**params, "wait_seconds": asked.wait_seconds})

    async def run(self, context: Context) -> Mapping[str, Any]:
        services, params = self._services, context.job.params
        model = services.catalog.get(context.job.subject)
        workload = Workload(form_of(model.capabilities))
        asking = Asking(services.pool, services.upstream, self._now)
        guard = Guard(services.pool, asking.own, model.model_id)
        asking.own[model.model_id] = 0
        context.progress(0, None, "runs", "waits until the machine is quiet")
        await guard.quiet(params["wait_seconds"])
        count = params["testCount"]
        services.tell("profiling-started", model, "", testCount=count)
        was_up = services.pool.status(model.model_id).state.is_serving
        if (load := host_load()) > BUSY_LOAD:
            context.log(f"other programs are at work, the host's load is {load:.1f} a core")
        before = await conditions(model, services.estimator, services.engines)
        await self._load(context, model)
        try:
            work = self._measured(context, asking, model, workload)
            workload, figures = await guard.undisturbed(work)
        except Disturbed as e:
            text = f"{model.model_id} was not measured to the end: {e}"
            raise Conflict(
                f"{text}. Try again when the machine is idle", code="machine_busy"
            ) from None
        profile = await self._profile(model, workload, figures, before.host_load)
        history = services.measurements.profiles(model.model_id)
        await services.measurements.add(model.model_id, profile)
        metrics = in_words_of_m2(profile, iso(profile.at))
        services.tell("profiling-completed", model, "", metrics=metrics)
        if not was_up:
            reason = "it was loaded to be profiled, and is idle"
            await unload_if_unused(services.pool, model.model_id, reason)
        changes = compared(history[0], profile) if history else []
        return {"profile": profile.as_dict(), "metrics": metrics, "changes": changes}

    async def _load(self, context: Context, model: Model) -> None:
        services = self._services
        context.progress(0, None, "runs", "the model is being loaded")
        await services.files.check(model.model_id)
        await services.pool.load(model.model_id, "to be profiled", LOAD_SECONDS)

    async def _measured(
        self, context: Context, asking: Asking, model: Model, workload: Workload
    ) -> tuple[Workload, _Figures]:
        """The first request shows what a word costs, the next warms up; neither counts."""
        streams, count = context.job.params["streams"], context.job.params["testCount"]
        status = self._services.pool.status(model.model_id)
        length = status.facts.context_length if status.facts is not None else None
        number = 1
        for _ in range(2):
            first = await asking.batch(model.model_id, workload, 1, number)
            number += 1
            workload = workload.fitted(first.samples[0].prompt_tokens, length)
        figures, began = _Figures({n: [] for n in streams}), self._now()
        for run in range(count):
            for done, at_once in enumerate(streams):
                if run and self._now() - began > LIMIT_SECONDS:
                    context.log(f"{LIMIT_SECONDS:g} s are over: {run} of {count} runs were made")
                    return workload, figures
                text = f"run {run + 1}, {at_once} at a time"
                context.progress(run * len(streams) + done, count * len(streams), "runs", text)
                try:
                    batch = await asking.batch(model.model_id, workload, at_once, number)
                    figures.batches[at_once].append(batch)
                except ModelPoolError as e:
                    figures.failed += at_once
                    context.log(f"{text}: {e.message}")
                    if not any(figures.batches.values()):
                        raise
                number += at_once
        return workload, figures

    async def _profile(
        self, model: Model, workload: Workload, figures: _Figures, load: float
    ) -> Profile:
        services = self._services
        status = services.pool.status(model.model_id)
        facts = status.facts
        if status.worker is not None:
            client = HttpWorkerClient(services.upstream, services.pool.config.host)
            with contextlib.suppress(Exception):  # those of the last beat will do
                facts = await client.facts(status.worker)
        memory: dict[str, int] = {}
        if facts is not None:
            memory = {HOST: facts.memory_peak_bytes or facts.taken_bytes or 0}
            memory |= facts.device_memory_bytes
        held = await conditions(model, services.estimator, services.engines, status.started_options)
        first = next(b for batches in figures.batches.values() for b in batches).samples[0]
        return Profile(
            time.time(),
            workload.form,
            tuple(level_of(n, b, workload) for n, b in figures.batches.items() if b),
            type(held)(**{**vars(held), "host_load": load}),
            first.prompt_tokens,
            first.output_tokens,
            figures.requests,
            figures.failed,
            status.load_seconds,
            memory,
        )


def level_of(streams: int, batches: list[Batch], workload: Workload) -> Level:
    """The figures of some batches of so many requests. PURE."""
    samples = [s for batch in batches for s in batch.samples]
    latency = Spread.of([_ms(s.seconds) for s in samples])
    if not workload.is_text:
        count = workload.count
        rates = [count * len(batch.samples) / batch.seconds for batch in batches]
        return Level(streams, texts_per_second=Spread.of(rates), latency_ms=latency)
    if streams == 1:
        output = [s.output_per_second for s in samples if s.output_per_second]
    else:
        output = [batch.output_per_second for batch in batches]
    return Level(
        streams,
        Spread.of([_ms(s.first_token_seconds) for s in samples]),
        Spread.of([s.prompt_per_second for s in samples]),
        Spread.of(output),
        None,
        latency,
    )


def _ms(seconds: float) -> float:
    return math.floor(seconds * 1e6) / 1e3


def make(services: Services) -> ProfileKind:
    """Of the pool's services."""
    return ProfileKind(services)
