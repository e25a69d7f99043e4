"""What this machine can use, as plain JSON values: engines, environments, devices."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from modelpool.api.answers import Devices, Engines, Json
from modelpool.environments.environment import Environment
from modelpool.pool.devices import Device
from modelpool.providers.entries import listed
from modelpool.services import Services


async def engines_view(
    services: Services, *, with_all: bool = False, is_asked_again: bool = False
) -> Engines:
    """Engines that are for tests are told only with ``with_all``, and where a model uses them."""
    if is_asked_again:
        await services.engines.refresh()
    used = {model.engine for model in services.catalog}
    found = [
        engine
        for engine in await services.engines.all()
        if with_all or not engine.get("for_tests") or engine["name"] in used
    ]
    environments = environments_view(services)
    return {"engines": found, "environments": environments, "providers": listed(os.environ)}


def environments_view(services: Services) -> list[Json]:
    """Every environment that is configured or was made."""
    known = services.environments
    return [_environment(services, known.get(name)) for name in known.names()]


def _environment(services: Services, environment: Environment) -> Json:
    other = services.engines.other_version(environment.name)
    return {
        "name": environment.name,
        "python": str(environment.python),
        "usable": environment.is_usable,
        "reason": environment.problem
        or (f"it has modelpool {other}, which is not this version" if other else ""),
        "is_configured": environment.is_configured,
        "is_made_here": environment.folder is not None,
        "extras": list(environment.settings.extras),
        "packages": list(environment.settings.packages),
    }


def devices_view(services: Services) -> Devices:
    """As they were seen last. Of what is taken of a device, ``ours_bytes`` is what the workers of
    the pool tell of theirs, ``others_bytes`` the rest."""
    seen, config = services.devices.now, services.pool.config
    return {
        "devices": [_device(services, device) for device in seen.devices],
        "vendors": [dataclasses.asdict(vendor) for vendor in seen.vendors],
        "budgets_mb": dict(config.device_memory_mb),
    }


def _device(services: Services, device: Device) -> dict[str, Any]:
    facts = [s.facts for s in services.pool.holders if s.facts is not None]
    ours = sum(f.device_memory_bytes.get(device.id, 0) for f in facts)
    used = None if device.free_bytes is None else max(0, device.total_bytes - device.free_bytes)
    reserved = sum(r.devices.get(device.id, 0) for r in services.pool.resources.residents())
    return {
        **dataclasses.asdict(device),
        "processes": [{"pid": pid, "bytes": size} for pid, size in device.processes.items()],
        "used_bytes": used,
        "ours_bytes": ours,
        "others_bytes": None if used is None or device.is_shared else max(0, used - ours),
        "budget_bytes": services.pool.config.device_budgets.get(device.id),
        "reserved_bytes": reserved,
    }
