"""Look what servers of Ollama have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelpool_client.errors import InvalidRequest

from modelpool.jobs.base import Context, JobRequest
from modelpool.jobs.job import Lane
from modelpool.ollama_server.look import look, servers_of
from modelpool.services import Services


class FindOllama:
    """Its subject is the servers that are asked. It takes no parameters."""

    name = "ollama"
    lane = Lane("ollama", 1)
    is_resumable = True
    model_events = False

    def __init__(self, services: Services) -> None:
        self._services = services

    async def parse(self, data: Mapping[str, Any]) -> JobRequest:
        """See ``Kind``."""
        if data:
            raise InvalidRequest("it takes no parameters", param=str(next(iter(data))))
        return JobRequest(", ".join(server["name"] for server in servers_of(self._services)))

    async def run(self, context: Context) -> Mapping[str, Any]:
        """See ``Kind``."""
        done = await look(self._services)
        for each, said in {**done["servers"], **done["refused"]}.items():
            context.log(f"{each}: {said}")
        return done
