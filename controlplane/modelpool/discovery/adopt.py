"""Brings what was found into the catalog, and tells of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from modelpool.catalog.estimator import (
    ADAPTERS_OPTION,
    DRAFT_OPTION,
    PROJECTOR_OPTION,
    described,
)
from modelpool.catalog.formats.registry import formats
from modelpool.catalog.model import Model
from modelpool.discovery.findings import Finding
from modelpool.discovery.merge import Drop, Merged, Put, merged
from modelpool.services import Services, put_in_pool

T = TypeVar("T")

# Models that are written at a time: the pool answers between two such steps.
STEP = 100
# Plans, where entries are changed by others while one is carried out.
MOST_PLANS = 3
# Options that name further files, which count in estimates and decide what a model can do.
FILES = frozenset({DRAFT_OPTION, PROJECTOR_OPTION, ADAPTERS_OPTION})


@dataclass
class Adopted:
    """What became of it, by ids."""

    discovered: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    merged: Merged = field(default_factory=lambda: Merged((), (), {}, {}, ()))


def engines() -> dict[str, str]:
    """Which engine runs a format."""
    return {name: each.engine for name, each in formats().items()}


async def adopt(services: Services) -> Adopted:
    """Make the catalog say what the disk has. What runs goes on: a model whose files went is
    removed once it is unloaded, ``waiting`` until then.

    Raises:
        StoreError: it could not be written; what was before is.
    """
    discovery = services.discovery
    attach = services.pool.config.attach_companions
    done = Adopted()
    here = await services.engines.names()
    for _ in range(MOST_PLANS):
        before = dict(services.catalog.by_id)
        plan = merged(discovery.findings, before.values(), discovery.wishes, engines(), attach)
        done.merged = plan
        if not await _put_all(services, plan, before, done, here):
            break
    for dropped in _steps(done.merged.drop):
        await _drop(services, dropped, done)
    return done


async def _put_all(
    services: Services,
    plan: Merged,
    before: Mapping[str, Model],
    done: Adopted,
    here: Iterable[str] | None,
) -> bool:
    """Whether some were left out, as their entries had become others: a user's change counts."""
    is_outdated = False
    for step in _steps(plan.put):
        left = await _put(services, step, before, done, here)
        now = services.catalog.by_id
        is_outdated |= any(now.get(model_id) is not before.get(model_id) for model_id in left)
        await asyncio.sleep(0)
    return is_outdated


async def _put(
    services: Services,
    step: Sequence[Put],
    before: Mapping[str, Model],
    done: Adopted,
    here: Iterable[str] | None,
) -> set[str]:
    """Ids of those that were not put."""
    models = [await _described(services, put) for put in step]
    puts = {put.model.model_id: put for put in step}

    def then(written: Sequence[Model]) -> None:
        for model in written:
            put = puts[model.model_id]
            services.estimator.look_up_again(model)
            put_in_pool(services.pool, model)
            if put.is_told:
                _tell(services, put.event, model, _with_engine(put.reason, model, here))
            is_new = put.event == "model-discovered"
            (done.discovered if is_new else done.changed).append(model.model_id)

    written = await services.catalog.adopt_found(models, then, before)
    for model in written:
        if puts[model.model_id].event == "model-discovered" and not FILES.isdisjoint(model.options):
            await services.describe(model.model_id)  # with what the other files say
    return puts.keys() - {model.model_id for model in written}


async def _described(services: Services, put: Put) -> Model:
    """With what its files say, and what it can do by that."""
    finding = put.finding
    if (info := finding.info) is None:
        return put.model
    model = described(put.model, info)
    return await services.capabilities.judged(model, info, finding.fingerprint.digest)


def _with_engine(reason: str, model: Model, here: Iterable[str] | None) -> str:
    if here is None or model.engine in here:
        return reason
    return f"{reason}; it cannot be loaded: this version has no engine {model.engine!r}"


async def _drop(services: Services, step: Sequence[Drop], done: Adopted) -> None:
    running = [d for d in step if _is_running(services, d.model.model_id)]
    ending = {d.model.model_id: d for d in step if d not in running}
    done.waiting += [d.model.model_id for d in running]
    for dropped in running:
        if dropped.model.model_id not in services.vanished:
            services.vanished.add(dropped.model.model_id)
            reason = f"{dropped.reason}; it goes on until it is unloaded"
            _tell(services, "model-vanished", dropped.model, reason)
    if not ending:
        return
    await services.discovery.departed(d.model for d in ending.values())

    def then(removed: Sequence[Model]) -> None:
        for model in removed:
            reason = ending[model.model_id].reason
            if model.model_id not in services.vanished:
                _tell(services, "model-vanished", model, reason)
            services.vanished.discard(model.model_id)
            services.see_off(model, reason)
            done.vanished.append(model.model_id)

    await services.catalog.drop_found([d.model for d in ending.values()], then)
    await services.are_gone(ending)


def _is_running(services: Services, model_id: str) -> bool:
    if not services.pool.has(model_id):
        return False
    return any(status.state.has_worker for status in services.pool.statuses(model_id))


def _tell(services: Services, event: str, model: Model, reason: str) -> None:
    services.events.publish(
        event,
        model_id=model.model_id,
        key=f"{model.engine}:{model.model_id}",
        reason=reason,
        path=model.source,
    )


def _steps(items: Sequence[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while step := list(islice(rest, STEP)):
        yield step


def summary(
    adopted: Adopted, findings: Iterable[Finding], roots: Mapping[str, Any]
) -> dict[str, Any]:
    """What came of a look, for its job. PURE."""
    kinds = [f.kind for f in findings]
    return {
        "discovered": len(adopted.discovered),
        "changed": len(adopted.changed),
        "vanished": len(adopted.vanished),
        "models": kinds.count("model"),
        "companions": kinds.count("companion"),
        "broken": kinds.count("broken"),
        "unsettled": kinds.count("unsettled"),
        "duplicates": len(adopted.merged.duplicates),
        "roots": {path: report.state for path, report in roots.items()},
        "failed": {path: report.reason for path, report in roots.items() if report.reason},
    }
