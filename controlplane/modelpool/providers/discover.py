"""Models that providers list become entries: found ones, that go when they are listed no more."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from modelpool.catalog.model import Model
from modelpool.catalog.parse import read_model
from modelpool.catalog.parse_rules import ParseRules
from modelpool.describing import WORKER
from modelpool.discovery.merge import ORIGIN
from modelpool.services import Services, put_in_pool

from .entries import PROVIDER_TYPE, model_entry

log = logging.getLogger(__name__)

SECONDS = 40.0


@dataclass(frozen=True)
class Listed:
    """What came of asking one provider: its models, or why there are none."""

    models: tuple[str, ...] = ()
    error: str = ""


def providers_to_ask(services: Services) -> list[Model]:
    """Providers of the catalog that say ``discover``."""
    return [
        m for m in services.catalog if m.model_type == PROVIDER_TYPE and m.options.get("discover")
    ]


async def discover(services: Services) -> dict[str, dict[str, Any]]:
    """Ask every provider that says so for its models, and bring them into the catalog. For each
    provider how many there are, which are new or gone, and what went wrong; then nothing of it has
    changed.

    Raises:
        StoreError: it could not be written down.
    """
    providers = providers_to_ask(services)
    answers = await asyncio.gather(*map(_ask, providers))
    told = {}
    for provider, answer in zip(providers, answers, strict=True):
        told[provider.model_id] = await _bring(services, provider, answer)
    await _drop_orphans(services)
    return told


async def _ask(provider: Model) -> Listed:
    job = {
        "engine": provider.engine,
        "model_id": provider.model_id,
        "source": provider.source,
        "socket": "",
        "options": dict(provider.options),
    }
    process = await asyncio.create_subprocess_exec(
        *WORKER,
        "models",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(SECONDS):
            out, _ = await process.communicate(json.dumps(job).encode() + b"\n")
        answer = json.loads(out)
    except TimeoutError:
        return Listed(error=f"it gave no list of its models in {SECONDS:g} s")
    except ValueError:
        return Listed(error="the worker program could not ask for its models")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if "models" not in answer:
        return Listed(error=str(answer.get("error")))
    return Listed(tuple(dict.fromkeys(answer["models"])))


async def _bring(services: Services, provider: Model, listed: Listed) -> dict[str, Any]:
    if listed.error:
        log.warning("%s: %s", provider.model_id, listed.error)
        services.warn(provider, listed.error)
        return {"models": 0, "added": [], "removed": [], "error": listed.error}
    own = {m.model_id: m for m in services.catalog if m.served_by == provider.model_id}
    found = _models(services, provider, listed.models)
    new = [m for m in found if m.model_id not in own]
    names = {m.model_id for m in found}
    gone = [m for m in own.values() if m.origin == ORIGIN and m.model_id not in names]

    def put(written: Sequence[Model]) -> None:
        for model in written:
            put_in_pool(services.pool, model)
            services.tell("model-discovered", model, f"{provider.model_id} lists it")

    written = await services.catalog.adopt_found(new, put)
    await _drop(services, gone, f"{provider.model_id} lists it no more")
    return {
        "models": len(found),
        "added": [m.model_id for m in written],
        "removed": [m.model_id for m in gone],
        "error": "",
    }


def _models(services: Services, provider: Model, names: Sequence[str]) -> list[Model]:
    extra: Mapping[str, Any] = {
        name: settings.model_dump(exclude_none=True)
        for name, settings in services.configured.remote_models.items()
    }
    made = []
    for name in names:
        entry = model_entry(provider.as_dict(), {"name": name}, extra)
        model, _ = read_model(entry, ParseRules())
        if model is not None:  # names that no model can have here are left out
            made.append(replace(model, origin="discovered"))
    return made


async def _drop_orphans(services: Services) -> None:
    """Those whose provider is gone, or does not say ``discover`` any more."""
    asked = {m.model_id for m in providers_to_ask(services)}
    found = [m for m in services.catalog if m.served_by and m.origin == ORIGIN]
    await _drop(services, [m for m in found if m.served_by not in asked], "its provider is gone")


async def _drop(services: Services, gone: Sequence[Model], reason: str) -> None:
    if not gone:
        return

    def then(removed: Sequence[Model]) -> None:
        for model in removed:
            services.tell("model-vanished", model, reason)
            services.see_off(model, reason)

    await services.catalog.drop_found(gone, then)
    await services.are_gone([m.model_id for m in gone])
