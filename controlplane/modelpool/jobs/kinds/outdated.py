"""Asks the origins of all pulled models whether they have other files now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelpool_client.errors import InvalidRequest

from modelpool.jobs.base import Context, JobRequest
from modelpool.jobs.job import Lane
from modelpool.jobs.process import run_process
from modelpool.services import Services

from .pull import PROGRAM, origin_settings


class Outdated:
    """See ``Kind``. Its result has an entry for each pull, under ``pulls``."""

    name = "outdated"
    lane = Lane("origins", 1)
    is_resumable = True
    retries = 3
    model_events = False

    def __init__(self, services: Services) -> None:
        self._services = services

    async def parse(self, data: Mapping[str, Any]) -> JobRequest:
        """See ``Kind``."""
        if data:
            raise InvalidRequest("it takes no parameters", param=str(next(iter(data))))
        return JobRequest(str(self._services.pool.config.models_folder))

    async def run(self, context: Context) -> Mapping[str, Any]:
        """See ``Kind``."""
        request = {
            "task": "outdated",
            "models_dir": context.job.subject,
            "origin": origin_settings(self._services),
        }

        def on_message(message: Mapping[str, Any]) -> None:
            context.progress(**message["progress"])

        return {"pulls": await run_process(PROGRAM, request, on_message)}
