"""Jobs of kind ``tune``: options tried on this machine for a model and a goal."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

from modelpool_client.errors import (
    CannotFit,
    Conflict,
    InvalidRequest,
    ModelPoolError,
    NotSupported,
)
from pydantic import BaseModel, ConfigDict, Field

from modelpool.catalog.model import Model
from modelpool.catalog.parse_rules import EngineVerdict
from modelpool.catalog.profiles import Conditions, stale_reason
from modelpool.catalog.tuned import Tuned
from modelpool.jobs.base import Context, JobRequest
from modelpool.jobs.job import Lane
from modelpool.jobs.parse import parsed
from modelpool.measure import candidates as c
from modelpool.measure.asking import Asking
from modelpool.measure.candidates import DEFAULT, Dimension, Goal, Setting, setting, text
from modelpool.measure.conditions import conditions
from modelpool.measure.goals import MEASURES, Measure
from modelpool.measure.guard import QUIET_SECONDS, Disturbed, Guard
from modelpool.measure.peak import learn_peak
from modelpool.measure.requests import WRITING, Workload, check_is_here, form_of
from modelpool.measure.search import FINAL_PAIRS, Done, Pair, Try, next_step
from modelpool.measure.trials import NO_PROMPTS, NoRoom, Trials, Unfit
from modelpool.pool.worker_client import HttpWorkerClient
from modelpool.services import Services

BUDGET_SECONDS = 600.0
# Of disturbances a tune outlives so many; whoever comes more often has no idle machine.
MAX_DISTURBANCES = 20


class _Asked(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)
    model: str
    goal: Goal = "many-streams"
    budget_seconds: Annotated[float, Field(gt=0, le=86_400)] = BUDGET_SECONDS
    options: Annotated[tuple[str, ...], Field(max_length=100, strict=False)] = ()
    wait_seconds: Annotated[float, Field(ge=0, le=86_400)] = QUIET_SECONDS


@dataclass
class _State:
    """What one attempt knows. ``pair_seconds`` are of the pairs so far without the loads that came
    before, of which ``load_seconds`` is the longest. ``failed`` of the excluded ones are not to be
    tried by another attempt either. ``held``: under which conditions all of it was measured."""

    held: Conditions
    dimensions: Sequence[Dimension]
    results: list[Pair]
    excluded: dict[Setting, str]
    deadline: float
    failed: dict[Setting, str] = field(default_factory=dict)
    pair_seconds: list[float] = field(default_factory=list)
    load_seconds: float = 0.0
    disturbances: int = 0
    workload: Workload | None = None

    @property
    def final_seconds(self) -> float:
        """To make sure of the best, and to load it."""
        mean = statistics.fmean(self.pair_seconds) if self.pair_seconds else 0.0
        return self.load_seconds + FINAL_PAIRS * mean

    def pairs_left(self, now: float) -> int:
        """For how many there is time, by how long the former ones took, and once more the load."""
        if not self.pair_seconds:
            return 1 << 30
        mean = statistics.fmean(self.pair_seconds)
        return max(0, int((self.deadline - self.load_seconds - now) / mean))

    def checkpoint(self, left: float) -> dict[str, Any]:
        """What the next attempt goes on from; ``left`` of the budget, in seconds."""
        return {
            "held": dataclasses.asdict(self.held),
            "results": [_saved(each) for each in self.results],
            "failed": [{"options": dict(s), "why": why} for s, why in self.failed.items()],
            "pair_seconds": self.pair_seconds,
            "load_seconds": self.load_seconds,
            "left_seconds": left,
        }

    def step(self, now: float) -> Try | Done:
        """The next trial, or the end."""
        return next_step(self.dimensions, self.results, self.excluded, self.pairs_left(now))


class TuneKind:
    """Tries options on copies of the model, beside each other where there is room; the model
    itself goes on, and whoever asks for it is served first."""

    name = "tune"
    lane = Lane("measure")
    is_resumable = True
    retries = 0
    model_events = True

    def __init__(self, services: Services, now: Callable[[], float] = time.perf_counter) -> None:
        self._services = services
        self._now = now

    async def parse(self, data: Mapping[str, Any]) -> JobRequest:
        asked = parsed(_Asked, data)
        model = self._services.catalog.get(asked.model)
        check_is_here(model)
        if form_of(model.capabilities) not in WRITING:
            raise NotSupported("only models that write text are tuned: the goals are about that")
        schema = await self._schema(model)
        if unknown := c.unknown(schema, asked.options):
            known = ", ".join(name for name, option in schema.items() if "tuning" in option)
            message = (
                f"{model.engine} cannot be tried with other {', '.join(unknown)}; with {known}"
            )
            raise InvalidRequest(message, param="options")
        params = asked.model_dump(exclude={"model"}) | {"options": sorted(asked.options)}
        return JobRequest(model.model_id, params)

    async def _schema(self, model: Model) -> Mapping[str, Mapping[str, Any]]:
        return (await self._services.engines.about(model.engine)).get("options") or {}

    async def run(self, context: Context) -> Mapping[str, Any]:
        services, params = self._services, context.job.params
        model = services.catalog.get(context.job.subject)
        measure = MEASURES[params["goal"]]
        asking = Asking(services.pool, services.upstream, self._now)
        client = HttpWorkerClient(services.upstream, services.pool.config.host)
        guard = Guard(services.pool, asking, client, model.model_id)
        asking.own[model.model_id] = 0  # it may have to make room, and is loaded again
        context.progress(0, None, "pairs", "waits until the machine is quiet")
        await guard.quiet(params["wait_seconds"])
        await services.files.check(model.model_id)
        schema = await self._schema(model)
        state = await self._state(context, model, schema)
        memory = await self._checked(context, model, state)
        workload = measure.workload(form_of(model.capabilities))

        async def warm_up(trial: str) -> None:
            """The first request shows what a word costs, the second is as those that count."""
            used = state.workload or workload
            batch = await asking.batch(trial, used, 1, 1)
            if state.workload is None:
                facts = services.pool.status(trial).facts
                length = facts.context_length if facts is not None else None
                state.workload = used.fitted(batch.samples[0].prompt_tokens, length)
            await asking.batch(trial, state.workload, measure.streams, 2)
            await learn_peak(services.pool, client, services.peaks, trial)

        added = (NO_PROMPTS,) if NO_PROMPTS in schema else ()

        def announce(trial: Model) -> None:
            services.peaks.stand_for(trial.model_id, model, added)

        async def forget(trial: Model) -> None:
            services.peaks.forget_trial(trial.model_id)
            await services.forget(trial)

        trials = Trials(
            model,
            services.pool,
            services.estimator,
            announce,
            warm_up,
            forget,
            asking.own,
            memory.get,
            bool(added),
        )
        try:
            done = await self._search(context, model, state, trials, guard, measure, asking)
        finally:
            await trials.close()
        return await self._conclude(context, model, state, done)

    async def _state(
        self, context: Context, model: Model, schema: Mapping[str, Mapping[str, Any]]
    ) -> _State:
        services, params = self._services, context.job.params
        held = await self._held(model)
        reading = services.estimator.reading(model)
        layers = reading.info.block_count if reading is not None and reading.info else None
        dimensions = c.dimensions(
            schema,
            params["goal"],
            declared=model.options.keys(),
            only=params["options"],
            layers=layers,
            has_device=bool(services.pool.config.device_budgets),
        )
        state = _State(held, dimensions, [], {}, self._now() + params["budget_seconds"])
        found = context.job.checkpoint
        if "held" not in found:
            return state
        if stale := stale_reason(Conditions(**found["held"]), held):
            context.log(f"begins anew, what was measured does not hold any more: {stale}")
            return state
        state.results = [_pair(data) for data in found["results"]]
        state.failed = {setting(each["options"]): each["why"] for each in found["failed"]}
        state.excluded = dict(state.failed)
        state.pair_seconds = list(found["pair_seconds"])
        state.load_seconds = found["load_seconds"]
        state.deadline = self._now() + max(found["left_seconds"], state.final_seconds)
        context.log(f"goes on after {len(state.results)} pairs")
        return state

    async def _held(self, model: Model) -> Conditions:
        """What the search depends on: what the entry says, not what was tuned before."""
        services = self._services
        return await conditions(model, services.estimator, services.engines, model.options)

    async def _check_unchanged(self, model: Model, state: _State) -> None:
        """
        Raises:
            Conflict: what was measured is about a model that is no more.
        """
        services = self._services
        now = services.catalog.find(model.model_id)
        if now is None:
            raise Conflict(f"{model.model_id} was deleted while it was tuned", code="model_changed")
        changed = stale_reason(state.held, await self._held(now))
        if now.source != model.source:
            changed = f"its source is {now.source}"
        if not changed and not await services.estimator.is_current(now):
            changed = "its files were replaced"
        if changed:
            text = f"{model.model_id} was changed while it was tuned: {changed}"
            raise Conflict(f"{text}. Resume it to tune it as it is now", code="model_changed")

    async def _checked(
        self, context: Context, model: Model, state: _State
    ) -> Mapping[Setting, int | None]:
        """Exclude what the engine would refuse beside the model's own options; what it says of the
        memory of each of the others."""
        settings = [s for dimension in state.dimensions for s in dimension.settings]
        models = [_with(model, s) for s in settings]
        verdicts: list[EngineVerdict] = await self._services.engines.verdicts(models, inspect=True)
        memory: dict[Setting, int | None] = {}
        for tried, verdict in zip(settings, verdicts, strict=True):
            memory[tried] = verdict.memory_bytes
            if verdict.problems:
                self._exclude(context, state, tried, verdict.problems[0].message)
        return memory

    def _exclude(self, context: Context, state: _State, tried: Setting, why: str) -> None:
        state.excluded[tried] = why
        context.log(f"{text(tried)} is not tried: {why}")

    async def _search(
        self,
        context: Context,
        model: Model,
        state: _State,
        trials: Trials,
        guard: Guard,
        measure: Measure,
        asking: Asking,
    ) -> Done:
        while isinstance(step := state.step(self._now()), Try):
            await self._check_unchanged(model, state)
            began = self._now()
            self._report(context, state, step)
            try:
                number = len(state.results)
                ratio, seconds = await guard.undisturbed(
                    partial(self._pair, step, state, trials, measure, asking, number)
                )
            except Disturbed as e:
                await self._give_way(context, state, trials, guard, str(e))
                continue
            except Unfit as e:
                if e.setting == DEFAULT:
                    raise CannotFit(f"{context.job.subject} cannot be tuned: {e}") from None
                self._exclude(context, state, e.setting, str(e))
                if not isinstance(e, NoRoom):
                    state.failed[e.setting] = str(e)
                    await context.save(state.checkpoint(state.deadline - self._now()))
                continue
            pair = Pair(step.challenger, step.champion, ratio, step.is_final)
            state.results.append(pair)
            state.pair_seconds.append(seconds)
            state.load_seconds = max(state.load_seconds, self._now() - began - seconds)
            context.log(_told(pair))
            await context.save(state.checkpoint(state.deadline - self._now()))
        await self._check_unchanged(model, state)
        return step

    async def _pair(
        self,
        step: Try,
        state: _State,
        trials: Trials,
        measure: Measure,
        asking: Asking,
        number: int,
    ) -> tuple[float, float]:
        """How many times as fast the challenger is, and how long that took. Both are there before
        either is measured, where there is room for two."""
        order = [step.champion, step.challenger]
        for each in order:
            await trials.worker(each)
        if step.challenger_first:
            order.reverse()
        speeds, began = {}, self._now()
        # Both are asked the same, and nobody the same twice.
        first = 1000 + number * measure.streams
        for each in order:
            model_id = await trials.worker(each)
            assert state.workload is not None
            try:
                batch = await asking.batch(model_id, state.workload, measure.streams, first)
            except ModelPoolError as e:
                raise Unfit(each, e.message) from None
            speeds[each] = measure.speed(batch)
            if speeds[each] <= 0:
                raise Unfit(each, "its answers are too short to be measured")
        return speeds[step.challenger] / speeds[step.champion], self._now() - began

    async def _give_way(
        self, context: Context, state: _State, trials: Trials, guard: Guard, why: str
    ) -> None:
        """The machine belongs to whoever came; what was measured meanwhile is dropped."""
        state.disturbances += 1
        context.log(f"gives way: {why}")
        context.progress(len(state.results), None, "pairs", f"gives way: {why}")
        await trials.end_all()
        if state.disturbances > MAX_DISTURBANCES:
            message = f"it was disturbed {state.disturbances} times, the last time because {why}"
            raise Conflict(f"{message}: resume it when the machine is idle", code="machine_busy")
        waited = self._now()
        await guard.quiet(context.job.params["wait_seconds"])
        state.deadline += self._now() - waited

    def _report(self, context: Context, state: _State, step: Try) -> None:
        what = "makes sure of" if step.is_final else "tries"
        left = state.pairs_left(self._now())
        total = len(state.results) + left if left < 1 << 30 else None
        context.progress(len(state.results), total, "pairs", f"{what} {text(step.challenger)}")

    async def _conclude(
        self, context: Context, model: Model, state: _State, done: Done
    ) -> Mapping[str, Any]:
        services, goal = self._services, context.job.params["goal"]
        tried = _tried(state)
        former = services.measurements.tuned.get(model.model_id)
        is_better = done.best != DEFAULT
        if is_better:
            tuned = Tuned(
                dict(done.best),
                goal,
                done.gain,
                done.low,
                done.high,
                model.engine,
                state.held.engine_version,
                model.source,
                state.held.fingerprint,
                state.held.options,
                time.time(),
                tried,
            )
            await services.measurements.keep(model.model_id, tuned)
            reason = f"tuned for {goal}: {text(done.best)}, {done.reason}; from the next load on"
            services.tell("model-tuned", model, reason, options=dict(done.best))
        elif former is not None and former.goal == goal:
            await services.measurements.undo(model.model_id)
            reason = f"what was tuned for {goal} is no better than the defaults any more"
            services.tell("model-untuned", model, reason)
        context.log(done.reason)
        held = await conditions(model, services.estimator, services.engines)
        services.measurements.note_search(model.model_id, goal, held)
        return {
            "goal": goal,
            "options": dict(done.best),
            "gain": done.gain,
            "low": done.low,
            "high": done.high,
            "reason": done.reason,
            "is_better": is_better,
            "pairs": len(state.results),
            "tried": [dict(each) for each in tried],
        }


def _with(model: Model, tried: Setting) -> Model:
    return dataclasses.replace(model, options={**model.options, **dict(tried)})


def _tried(state: _State) -> tuple[Mapping[str, Any], ...]:
    """Each candidate with what became of it."""
    ratios: dict[tuple[Setting, Setting, bool], list[float]] = {}
    for pair in state.results:
        key = (pair.challenger, pair.champion, pair.is_final)
        ratios.setdefault(key, []).append(round(pair.ratio, 4))
    measured = [
        {"options": dict(new), "against": dict(old), "ratios": found, "is_final": is_final}
        for (new, old, is_final), found in ratios.items()
    ]
    refused = [{"options": dict(s), "not_tried": why} for s, why in state.excluded.items()]
    return (*measured, *refused)


def _told(pair: Pair) -> str:
    what = "to make sure: " if pair.is_final else ""
    against = text(pair.champion)
    return f"{what}{text(pair.challenger)}: {pair.ratio:.3f} x {against}"


def _saved(pair: Pair) -> dict[str, Any]:
    return {
        "challenger": dict(pair.challenger),
        "champion": dict(pair.champion),
        "ratio": pair.ratio,
        "is_final": pair.is_final,
    }


def _pair(data: Mapping[str, Any]) -> Pair:
    challenger, champion = setting(data["challenger"]), setting(data["champion"])
    return Pair(challenger, champion, data["ratio"], data["is_final"])


def make(services: Services) -> TuneKind:
    """Of the pool's services."""
    return TuneKind(services)
