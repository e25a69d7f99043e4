"""A stand-in for a Consul agent, NOT a real one: exactly the documented calls that the registrar
makes, strict about paths, fields and limits. Time is an argument.

What it knows is from the agent's API documentation: register, deregister, update a TTL check, list
services; a missed TTL is critical at once.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

FIELDS = {"ID", "Name", "Address", "Port", "Tags", "Meta", "Check"}
CHECK_FIELDS = {"TTL", "Status", "DeregisterCriticalServiceAfter"}
LONGEST_VALUE, LONGEST_KEY, MOST_PAIRS = 512, 128, 64


class FakeConsul:
    """``services`` is what is registered; ``token`` what every call must carry if it is set."""

    def __init__(self, now: Callable[[], float] = lambda: 0.0) -> None:
        self.now = now
        self.token = ""
        self.services: dict[str, dict[str, Any]] = {}
        self.beats: dict[str, float] = {}
        self.url = ""

    def passing(self) -> set[str]:
        """Ids of the services whose TTL has not run out."""
        return {
            i
            for i, s in self.services.items()
            if self.now() < self.beats[i] + seconds(s["Check"]["TTL"])
        }

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[FakeConsul]:
        app = web.Application(middlewares=[self._checked])
        app.router.add_get("/v1/agent/services", self._list)
        app.router.add_put("/v1/agent/service/register", self._register)
        app.router.add_put("/v1/agent/service/deregister/{id}", self._deregister)
        app.router.add_put("/v1/agent/check/update/{check}", self._update)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"
        try:
            yield self
        finally:
            await runner.cleanup()

    @web.middleware
    async def _checked(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.token and request.headers.get("X-Consul-Token") != self.token:
            return web.Response(status=403, text="Permission denied: token with AccessorID ''")
        if request.query_string:
            return web.Response(status=400, text=f"undocumented query {request.query_string}")
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _list(self, _: web.Request) -> web.Response:
        listed = {
            i: {
                "ID": i,
                "Service": s["Name"],
                "Tags": s["Tags"],
                "Meta": s["Meta"],
                "Port": s["Port"],
                "Address": s["Address"],
                "EnableTagOverride": False,
                "Weights": {"Passing": 1, "Warning": 1},
            }
            for i, s in self.services.items()
        }
        return web.json_response(listed)

    async def _register(self, request: web.Request) -> web.Response:
        body = await request.json()
        problem = wrong(body)
        if problem:
            return web.Response(status=400, text=problem)
        self.services[body["ID"]] = body
        self.beats[body["ID"]] = self.now()
        return web.Response()

    async def _deregister(self, request: web.Request) -> web.Response:
        if self.services.pop(request.match_info["id"], None) is None:
            return web.Response(status=404, text="Unknown service ID")
        return web.Response()

    async def _update(self, request: web.Request) -> web.Response:
        kind, _, service = request.match_info["check"].partition(":")
        body = await request.json()
        if set(body) - {"Status", "Output"} or body["Status"] != "passing":
            return web.Response(status=400, text=f"not expected here: {body}")
        if kind != "service" or service not in self.services:
            return web.Response(status=404, text="Unknown check ID")
        self.beats[service] = self.now()
        return web.Response()


def seconds(text: str) -> float:
    """A duration as Consul writes it, of seconds or minutes."""
    number, unit = re.fullmatch(r"(\d+)(s|m)", text).groups()  # type: ignore[union-attr]
    return float(number) * (60 if unit == "m" else 1)


def wrong(body: dict[str, Any]) -> str:
    """What an agent would object to; empty if nothing."""
    if set(body) != FIELDS or set(body["Check"]) != CHECK_FIELDS:
        return f"not the expected fields: {sorted(body)} {sorted(body.get('Check', ()))}"
    if not isinstance(body["Port"], int) or not all(isinstance(t, str) for t in body["Tags"]):
        return "Port is a number, Tags are strings"
    if seconds(body["Check"]["DeregisterCriticalServiceAfter"]) < 60:
        return "the least is a minute"
    meta = body["Meta"]
    if len(meta) > MOST_PAIRS or not all(isinstance(v, str) for v in meta.values()):
        return "Meta is at most 64 pairs of strings"
    if any(len(v) > LONGEST_VALUE for v in meta.values()):
        return "a value of Meta is too long"
    if not all(re.fullmatch(r"[A-Za-z0-9_-]{1,128}", key) for key in meta):
        return "a key of Meta is not allowed"
    return ""
