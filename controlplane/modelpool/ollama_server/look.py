"""Finds what servers of Ollama have, and brings it into the catalog."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from modelpool_client.errors import ModelPoolError

from modelpool.jobs.process import run_process
from modelpool.services import Services

from .entries import known_digests, planned

log = logging.getLogger(__name__)

PROGRAM = "modelpool.ollama_server.program"
URL_KEYS = ("ollama_base_url", "ollama_base_urls")
DEFAULT = "http://127.0.0.1:11434"


def servers_of(services: Services) -> list[dict[str, str]]:
    """Those of the configuration, else Ollama's own default: ``url``, and the ``name`` by which
    people are told of it, which is a number where the URL is from the environment."""
    config = services.pool.config
    urls = config.ollama_servers or [os.environ.get("OLLAMA_HOST") or DEFAULT]
    is_hidden = not config.templates.keys().isdisjoint(URL_KEYS)
    return [
        {"url": url, "name": f"server {number}" if is_hidden else url}
        for number, url in enumerate(urls, 1)
    ]


async def look(services: Services) -> Mapping[str, Any]:
    """Ask the servers, and make the catalog say so: ``registered`` and ``removed`` ids, ``refused``
    with why, and how each of the ``servers`` answered.

    Raises:
        ModelPoolError: they could not be asked.
    """
    known = known_digests(services.catalog)
    request = {"task": "find", "servers": servers_of(services), "known": known}
    found = await run_process(PROGRAM, request, lambda _: None)
    plan = planned(found, services.catalog)
    registered, removed, refused = [], [], {}
    for entry in plan.put:
        try:
            registered.append((await services.register(entry)).model_id)
        except ModelPoolError as e:
            refused[entry["model_id"]] = e.message
    for model_id, why in plan.drop:
        log.info("%s is removed: %s", model_id, why)
        await services.delete(model_id)
        removed.append(model_id)
    told = {s["name"]: s["error"] or f"{len(s['models'])} models" for s in found}
    return {"registered": registered, "removed": removed, "refused": refused, "servers": told}


class OllamaServersController:
    """Looks now and then what the servers of the configuration have."""

    def __init__(self, services: Services, now: Callable[[], float] = time.monotonic) -> None:
        self._services = services
        self._now = now
        self._next = 0.0
        self._told: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        return "<OllamaServersController>"

    async def reconcile(self) -> None:
        """See ``Controller``."""
        config = self._services.pool.config
        interval = config.discovery_interval_seconds
        if not config.ollama_servers or not interval or self._now() < self._next:
            return
        self._next = self._now() + interval
        try:
            done = await look(self._services)
        except ModelPoolError as e:
            done = {"servers": {"all": e.message}, "refused": {}}
        told = {**done["servers"], **done["refused"]}
        if told != self._told:
            log.info("servers of Ollama: %s", "; ".join(f"{k}: {v}" for k, v in told.items()))
            self._told = told
