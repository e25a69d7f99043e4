"""Jobs of kind ``profile``: how fast a model is on this machine, measured by real requests."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

from modelpool_client.errors import Conflict, InvalidRequest, ModelPoolError
from modelpool_client.wire import Facts
from pydantic import BaseModel, ConfigDict, Field

from modelpool.catalog.memory_estimate import HOST
from modelpool.catalog.model import Model
from modelpool.catalog.profiles import Level, Profile, compared, in_words_of_m2
from modelpool.jobs.base import Context, JobRequest
from modelpool.jobs.job import Lane
from modelpool.jobs.parse import parsed
from modelpool.measure.asking import Asking
from modelpool.measure.conditions import conditions, host_load
from modelpool.measure.guard import (
    QUIET_SECONDS,
    SETTLE_SECONDS,
    Disturbed,
    Guard,
    unload_if_unused,
)
from modelpool.measure.peak import learn_peak
from modelpool.measure.requests import MOST_TEXTS, WRITING, Workload, check_is_here, form_of
from modelpool.measure.samples import Batch
from modelpool.measure.statistics import Spread
from modelpool.observe.events import iso
from modelpool.pool.worker_client import HttpWorkerClient
from modelpool.services import Services

STREAMS = (1, 4, 8)
TEXTS = (1, 8, 32)
RUNS = 3
# The time limit ends long ones; the second document's API allows so many.
MAX_RUNS = 10_000
MAX_STREAMS, MAX_LEVELS = 64, 8
# Requests at a time, and texts in each.
At = tuple[int, int]
LOAD_SECONDS = 600.0
# Most that the measuring takes, the load not counted. One run of each level is always made.
LIMIT_SECONDS = 300.0
BUSY_LOAD = 0.5
# In which a worker hears that its requests were given up; nobody waits longer for the job's end.
GIVE_UP_SECONDS = 1.0

Streams = Annotated[int, Field(ge=1, le=MAX_STREAMS)]
Texts = Annotated[int, Field(ge=1, le=MOST_TEXTS)]


class _Asked(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)
    model: str
    test_count: Annotated[int, Field(ge=1, le=MAX_RUNS, alias="testCount")] = RUNS
    streams: Annotated[
        tuple[Streams, ...], Field(min_length=1, max_length=MAX_LEVELS, strict=False)
    ] = STREAMS
    texts: Annotated[
        tuple[Texts, ...] | None, Field(min_length=1, max_length=MAX_LEVELS, strict=False)
    ] = None
    wait_seconds: Annotated[float, Field(ge=0, le=86_400)] = QUIET_SECONDS


@dataclass
class _Figures:
    """What was measured so far."""

    batches: dict[At, list[Batch]]
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
    retries = 0
    model_events = True

    def __init__(self, services: Services, now: Callable[[], float] = time.perf_counter) -> None:
        self._services = services
        self._now = now

    async def parse(self, data: Mapping[str, Any]) -> JobRequest:
        asked = parsed(_Asked, data)
        model = self._services.catalog.get(asked.model)
        check_is_here(model)
        is_writing = form_of(model.capabilities) in WRITING
        if is_writing and asked.texts is not None:
            text = f"{model.model_id} writes text: texts are for models that embed or rank them"
            raise InvalidRequest(text, param="texts")
        params = {"testCount": asked.test_count, "streams": sorted(set(asked.streams))}
        if not is_writing:
            params["texts"] = sorted(set(asked.texts or TEXTS))
        return JobRequest(model.model_id, {**params, "wait_seconds": asked.wait_seconds})

    async def run(self, context: Context) -> Mapping[str, Any]:
        services, params = self._services, context.job.params
        model = services.catalog.get(context.job.subject)
        workload = Workload.of(form_of(model.capabilities))
        asking = Asking(services.pool, services.upstream, self._now)
        client = HttpWorkerClient(services.upstream, services.pool.config.host)
        guard = Guard(services.pool, asking, client, model.model_id)
        asking.own[model.model_id] = 0
        context.progress(0, None, "runs", "waits until the machine is quiet")
        await guard.quiet(params["wait_seconds"])
        count = params["testCount"]
        services.tell("profiling-started", model, "", testCount=count)
        was_up = services.pool.status(model.model_id).state.is_serving
        if (load := host_load()) > BUSY_LOAD:
            context.log(f"other programs are at work, the host's load is {load:.1f} a core")
        settle = GIVE_UP_SECONDS
        try:
            await self._load(context, model)
            work = partial(self._measured, context, asking, model, workload)
            workload, figures = await guard.undisturbed(work)
            facts = await learn_peak(services.pool, client, services.peaks, model.model_id)
            profile = await self._profile(model, workload, figures, facts, load)
            settle = SETTLE_SECONDS
        except Disturbed as e:
            text = f"{model.model_id} was not measured to the end: {e}"
            raise Conflict(
                f"{text}. Try again when the machine is idle", code="machine_busy"
            ) from None
        finally:
            if not was_up:
                reason = "it was loaded to be profiled, and is idle"
                await unload_if_unused(services.pool, model.model_id, reason, settle)
        if services.catalog.find(model.model_id) is None:
            text = f"{model.model_id} was deleted while it was measured"
            raise Conflict(text, code="model_changed")
        history = services.measurements.profiles(model.model_id)
        await services.measurements.add(model.model_id, profile)
        metrics = in_words_of_m2(profile, iso(profile.at))
        services.tell("profiling-completed", model, "", metrics=metrics)
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
        params = context.job.params
        levels = list(levels_of(params["streams"], params.get("texts", ())))
        count = params["testCount"]
        status = self._services.pool.status(model.model_id)
        length = status.facts.context_length if status.facts is not None else None
        number = 1
        for _ in range(2):
            first = await asking.batch(model.model_id, workload, 1, number)
            number += 1
            workload = workload.fitted(first.samples[0].prompt_tokens, length)
        figures, began = _Figures({at: [] for at in levels}), self._now()
        for run in range(count):
            for done, at in enumerate(levels):
                if run and self._now() - began > LIMIT_SECONDS:
                    context.log(f"{LIMIT_SECONDS:g} s are over: {run} of {count} runs were made")
                    return workload, figures
                at_once, texts = at
                text = f"run {run + 1}, {at_once} at a time"
                text += "" if workload.is_text else f", {texts} texts in each"
                context.progress(run * len(levels) + done, count * len(levels), "runs", text)
                asked = replace(workload, texts=max(1, texts))
                try:
                    batch = await asking.batch(model.model_id, asked, at_once, number)
                    figures.batches[at].append(batch)
                except ModelPoolError as e:
                    figures.failed += at_once
                    context.log(f"{text}: {e.message}")
                    if not any(figures.batches.values()):
                        raise
                number += at_once
        return workload, figures

    async def _profile(
        self,
        model: Model,
        workload: Workload,
        figures: _Figures,
        facts: Facts | None,
        load: float,
    ) -> Profile:
        services = self._services
        status = services.pool.status(model.model_id)
        facts = facts or status.facts  # those of the last beat will do
        memory: dict[str, int] = {}
        if facts is not None:
            memory = {HOST: facts.memory_peak_bytes or facts.taken_bytes or 0}
            memory |= facts.device_memory_bytes
        held = await conditions(model, services.estimator, services.engines, status.started_options)
        (_, texts), (measured, *_) = next((at, b) for at, b in figures.batches.items() if b)
        first = measured.samples[0]
        return Profile(
            time.time(),
            workload.form,
            tuple(level_of(at, b) for at, b in figures.batches.items() if b),
            type(held)(**{**vars(held), "host_load": load}),
            round(first.prompt_tokens / max(1, texts)),
            first.output_tokens,
            figures.requests,
            figures.failed,
            status.load_seconds,
            memory,
        )


def levels_of(streams: Sequence[int], texts: Sequence[int]) -> Iterator[At]:
    """Each number of requests at a time with the fewest texts, then each number of texts with the
    fewest requests; ``texts`` is empty where models write. PURE."""
    least = texts[0] if texts else 0
    yield from ((each, least) for each in streams)
    yield from ((streams[0], each) for each in texts[1:])


def level_of(at: At, batches: Sequence[Batch]) -> Level:
    """The figures of some batches of so many requests. PURE."""
    streams, texts = at
    samples = [s for batch in batches for s in batch.samples]
    latency = Spread.of([_ms(s.seconds) for s in samples])
    if texts:
        rates = [texts * len(batch.samples) / batch.seconds for batch in batches]
        tokens = [batch.prompt_per_second for batch in batches if batch.prompt_per_second]
        return Level(
            streams,
            texts_per_second=Spread.of(rates),
            latency_ms=latency,
            tokens_per_second=Spread.of(tokens),
            texts=texts,
        )
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
