"""Makes the environment of an engine, or one that the configuration names; see
``docs/environments.md``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelpool_client.errors import Conflict, InvalidRequest, NotFound

from modelpool.catalog.model import did_you_mean
from modelpool.environments.packages import packages_of
from modelpool.jobs.base import Context, JobRequest
from modelpool.jobs.job import Lane
from modelpool.jobs.process import run_process
from modelpool.services import Services

PROGRAM = "modelpool.environments.program"


class Install:
    """``{"name": an engine's or an environment's}``; see ``Kind``. Nothing is installed that
    neither the configuration nor an engine names."""

    name = "install"
    lane = Lane("install")
    is_resumable = True
    model_events = False

    def __init__(self, services: Services) -> None:
        self._services = services

    async def parse(self, data: Mapping[str, Any]) -> JobRequest:
        """See ``Kind``."""
        unknown = sorted(data.keys() - {"name"})
        if unknown:
            raise InvalidRequest(f"an install knows no {unknown[0][:80]!r}", param=unknown[0][:80])
        name = data.get("name")
        if not isinstance(name, str):
            raise InvalidRequest("name is required: of an engine or an environment", param="name")
        return JobRequest(name, await self._wanted(name))

    async def _wanted(self, name: str) -> dict[str, Any]:
        environments, engines = self._services.environments, self._services.engines
        configured = environments.configured(name)
        if configured is not None:
            if configured.python is not None:
                text = f"environment {name} is yours: install into {configured.python} yourself"
                raise Conflict(text, param="name", code="not_ours")
            return {"extras": list(configured.extras), "packages": list(configured.packages)}
        found = await engines.about(name)
        if not found:
            known = sorted({*(await engines.names() or ()), *environments.names()})
            text = f"there is no engine or environment {name[:80]!r}{did_you_mean(name, known)}"
            raise NotFound(f"{text}; there are {', '.join(known)}", param="name")
        return _wanted_of(name, found)

    async def run(self, context: Context) -> Mapping[str, Any]:
        """See ``Kind``."""
        name, services = context.job.subject, self._services
        folder = services.environments.planned(name).folder
        if folder is None:
            raise Conflict(f"environment {name} is yours by now", code="not_ours")
        request = {**context.job.params, "folder": str(folder)}

        def on_message(message: Mapping[str, Any]) -> None:
            if "progress" in message:
                context.progress(**message["progress"])
            if "log" in message:
                context.log(str(message["log"]))

        try:
            record: Mapping[str, Any] = await run_process(PROGRAM, request, on_message)
        finally:
            services.engines.forget(name)
        services.events.publish(
            "environment-made",
            reason=f"environment {name} is there, with {', '.join(record['requirements'])}",
            environment=name,
        )
        usable = [e["name"] for e in await services.engines.in_environment(name) if e["usable"]]
        return {**record, "environment": name, "usable": usable}


def _wanted_of(name: str, engine: Mapping[str, Any]) -> dict[str, Any]:
    """What the engine says is missing, as extras of ours and packages. PURE.

    Raises:
        Conflict: it does not come by pip.
    """
    packages = packages_of(engine)
    if packages is not None:
        return {"extras": list(packages.extras), "packages": list(packages.names)}
    if engine.get("usable"):
        text = f"engine {name} needs no installation: it can be used already"
    else:
        why = engine.get("install_hint") or engine.get("reason") or "it does not say how"
        text = f"engine {name} is not installed by pip: {why}"
    raise Conflict(text, param="name", code="not_by_pip")
