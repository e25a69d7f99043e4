"""The config file is read again while the pool runs: only what changed in it is touched."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from pathlib import Path

from modelpool_client.errors import Conflict, InvalidRequest, ModelPoolError

from modelpool.api.answers import ConfigReload
from modelpool.catalog.catalog import ImportReport
from modelpool.catalog.described import described_all
from modelpool.catalog.errors import StoreError
from modelpool.catalog.parse_rules import refuse
from modelpool.catalog.served_by import moved
from modelpool.config import ConfigError, PoolConfig, Reloaded, load_config, reloaded
from modelpool.engines import check_models
from modelpool.providers.discover import discover
from modelpool.services import Services

log = logging.getLogger(__name__)


async def reload_config(services: Services, why: str) -> ConfigReload:
    """Take over what the file says otherwise than when it was last read; the answer names it.

    Live keys count at once. Models that are new in the file are added, changed ones keep what they
    run with until they are loaded again, and those gone from it are removed as at a start, their
    workers ending their current work first. What was set at run time stays where the file says
    what it said before.

    Args:
        why: who wants it, for the event.

    Raises:
        Conflict: there is no file, or a name in it belongs to a model registered at run time.
        InvalidRequest: the file is wrong, with all that is; nothing was changed.
    """
    try:
        async with services.reloading:
            answer = await _reload(services, why)
    except ModelPoolError as e:
        services.events.publish("config-reload-failed", reason=f"{why}: {e.message}")
        raise
    await services.end_unwanted()
    await services.adopt_virtual_models(services.configured, f"{why}: the config file has changed")
    await _begin_warm_ups(services, answer["models"]["added"])
    for model in services.configured.models:
        await services.describe(model.model_id)  # a file that was missing may be there by now
    await services.are_gone(answer["models"]["removed"])
    with contextlib.suppress(StoreError):
        await discover(services)
    return answer


async def _reload(services: Services, why: str) -> ConfigReload:
    file = services.pool.config.file
    if file is None:
        text = "the pool was started without a config file; change keys with PATCH /config"
        raise Conflict(text, code="no_config_file")
    said = await readable_config(file)
    new = reloaded(services.pool.config, services.configured, said)
    put_in_force = services.prepared(new.config)
    refuse([p for m in new.models for p in moved(m, services.catalog.find(m.model_id))])
    models = await described_all(new.models, services.estimator, lambda *_: None)

    def then(report: ImportReport) -> None:
        services.warn_of_config(w for w in said.warnings if w not in services.configured.warnings)
        services.configured = said
        put_in_force()
        if new.changed or new.needs_restart or report.added or report.updated or report.removed:
            services.events.publish("config-changed", **_answer(file, new, report), reason=why)
        for model_id in (*report.added, *report.updated):
            services.take_over(services.catalog.get(model_id), f"{why}: {file.name} has changed")
        for model_id in report.removed:
            gone = services.pool.status(model_id).model
            services.see_off(gone, f"{why}: no more in {file.name}")

    report = await services.catalog.adopt_config(models, new.gone, then)
    changed = map(services.catalog.get, (*report.added, *report.updated))
    for model in await services.ask_for_memory(changed):
        services.warn_if_it_never_fits(model)
    return _answer(file, new, report)


async def readable_config(file: Path | None) -> PoolConfig:
    """What file and environment say now.

    Raises:
        InvalidRequest: what is wrong with it, all at once.
    """
    try:
        return await asyncio.to_thread(load_config, file, check=check_models)
    except ConfigError as e:
        errors = [{"param": i.key, "message": str(i)} for i in e.errors]
        raise InvalidRequest(
            f"nothing was changed: {e.message}",
            param=e.errors[0].key or None,
            code=e.code,
            details={"errors": errors},
        ) from None


def _answer(file: Path, new: Reloaded, report: ImportReport) -> ConfigReload:
    return {
        "file": str(file),
        "changed": dict(new.changed),
        "needs_restart": dict(new.needs_restart),
        "models": {
            "added": list(report.added),
            "updated": list(report.updated),
            "removed": list(report.removed),
        },
    }


async def _begin_warm_ups(services: Services, model_ids: Iterable[str]) -> None:
    for model_id in model_ids:
        with contextlib.suppress(ModelPoolError):  # the model's own events say why not
            if services.pool.status(model_id).model.warmup:
                await services.pool.load(model_id, "warm-up", None)
