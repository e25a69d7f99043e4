"""A small registry that answers as the PAS registry does, in memory, to try discovery with.

It drops what nobody renews for ``ttl_s``; the original leaves that to a service of its own.
"""

from __future__ import annotations

import asyncio
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException
from fastapi_offline import FastAPIOffline
from modelpool_client import __version__
from modelpool_client.guard import Guard
from modelpool_client.http1.exchange import Exchange
from modelpool_client.http1.server import HttpServer
from modelpool_client.http1.timeouts import Timeouts
from pydantic import BaseModel, ConfigDict, Field

from modelpool.asgi import AsgiApp
from modelpool.entry import Entry
from modelpool.observe.events import iso
from modelpool.restart import STOPPING
from modelpool.sockets import bind

HOST = "127.0.0.1"
MAX_BODY_BYTES = 1_000_000
KEEP_ALIVE_SECONDS = 75
CLOSE_SECONDS = 1.0

Kind = Literal["model", "tool", "agent"]
Role = Literal["production", "staging", "canary", "experimental"]
Status = Literal[
    "ok",
    "degraded",
    "down",
    "queued",
    "running",
    "blocked",
    "waiting_approval",
    "paused",
    "error",
    "done",
]
Seconds = Annotated[int, Field(ge=1, le=31_536_000)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Registration(_Body):
    """``POST /register``."""

    service_id: str | None = Field(None, min_length=1, max_length=255)
    name: str = Field(min_length=1, max_length=100)
    type: Kind
    role: Role
    url: str = Field(min_length=1, max_length=2048)
    caps: list[str] = Field(min_length=1)
    labels: dict[str, Any] | None = None
    ctx_limit: int | None = None
    cost_hint: dict[str, float] | None = None
    heartbeat_interval_s: Seconds = 60
    ttl_s: Seconds = 90


class Heartbeat(_Body):
    """``PUT /heartbeat``."""

    service_id: str
    status: Status = "ok"
    p95_ms: float | None = None
    queue_depth: int | None = None
    load: float | None = None
    message: str | None = None


class Deregistration(_Body):
    """``POST /deregister``."""

    service_id: str


@dataclass
class Service:
    """What is known of one service; times are seconds since 1970."""

    id: str
    registration: Registration
    registered_at: float
    beat: Heartbeat
    beat_at: float

    def view(self) -> dict[str, Any]:
        """The service as it is listed."""
        told, beat = self.registration, self.beat
        return {
            "service_id": self.id,
            **told.model_dump(exclude={"service_id", "cost_hint"}),
            "cost_hint_usd_per_1k": (told.cost_hint or {}).get("usd_per_1k"),
            "status": beat.status,
            "last_heartbeat_ts": iso(self.beat_at),
            "registered_at": iso(self.registered_at),
            "p95_ms": beat.p95_ms,
            "queue_depth": beat.queue_depth,
            "load": beat.load,
        }


class Directory:
    """The services. One that has not been heard of for its ``ttl_s`` is forgotten when anybody
    asks next."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._services: dict[str, Service] = {}

    def register(self, body: Registration) -> Service:
        """Add a service.

        Raises:
            KeyError: that id is taken.
        """
        now = self._wall()
        service_id = body.service_id or str(uuid.uuid4())
        self._forget_the_silent()
        if service_id in self._services:
            raise KeyError(service_id)
        beat = Heartbeat(service_id=service_id)
        service = self._services[service_id] = Service(service_id, body, now, beat, now)
        return service

    def heard(self, beat: Heartbeat) -> None:
        """A service is alive.

        Raises:
            KeyError: it is not registered.
        """
        service = self.get(beat.service_id)
        service.beat, service.beat_at = beat, self._wall()

    def remove(self, service_id: str) -> None:
        """Forget a service.

        Raises:
            KeyError: it is not registered.
        """
        self.get(service_id)
        del self._services[service_id]

    def get(self, service_id: str) -> Service:
        """One service.

        Raises:
            KeyError: it is not registered, or expired.
        """
        self._forget_the_silent()
        return self._services[service_id]

    def all(self) -> list[Service]:
        """Those that live, by name and role."""
        self._forget_the_silent()
        found = self._services.values()
        return sorted(found, key=lambda s: (s.registration.name, s.registration.role))

    def _forget_the_silent(self) -> None:
        now = self._wall()
        alive = [s for s in self._services.values() if now < s.beat_at + s.registration.ttl_s]
        self._services = {s.id: s for s in alive}


def registry_api(directory: Directory) -> FastAPI:
    """The registry's routes; errors are ``{"detail": ...}``, as in the original."""
    api = FastAPIOffline(redoc_url=None, title="modelpool registry", version=__version__)

    def missing(service_id: str) -> HTTPException:
        return HTTPException(404, f"Service {service_id} not found")

    def done() -> dict[str, Any]:
        return {"success": True, "ts": iso(time.time())}

    @api.post("/register")
    async def register(body: Registration) -> dict[str, Any]:
        try:
            service = directory.register(body)
        except KeyError:
            raise HTTPException(400, f"Service ID {body.service_id} already registered") from None
        return {"service_id": service.id, "registered_at": iso(service.registered_at)}

    @api.put("/heartbeat")
    async def heartbeat(body: Heartbeat) -> dict[str, Any]:
        try:
            directory.heard(body)
        except KeyError:
            raise missing(body.service_id) from None
        return done()

    @api.post("/deregister")
    async def deregister(body: Deregistration) -> dict[str, Any]:
        try:
            directory.remove(body.service_id)
        except KeyError:
            raise missing(body.service_id) from None
        return done()

    @api.get("/discover")
    async def discover(
        type: Kind | None = None,
        role: Role | None = None,
        cap: str | None = None,
        name: str | None = None,
        status: str | None = None,
    ) -> dict[str, Any]:
        asked = {"type": type, "role": role, "name": name, "status": status}
        views = [s.view() for s in directory.all()]
        for key, value in asked.items():
            views = [v for v in views if value is None or v[key] == value]
        return {"items": [v for v in views if cap is None or cap in v["caps"]]}

    @api.get("/services")
    async def services() -> dict[str, Any]:
        return {"items": [s.view() for s in directory.all()]}

    @api.get("/services/{service_id}")
    async def service(service_id: str) -> dict[str, Any]:
        try:
            return directory.get(service_id).view()
        except KeyError:
            raise missing(service_id) from None

    @api.get("/health")
    async def health() -> dict[str, Any]:
        found = directory.all()
        healthy = sum(s.beat.status == "ok" for s in found)
        return {"status": "ok", "registered": len(found), "healthy": healthy}

    return api


def run(port: int) -> None:
    """Serve on loopback until TERM or INT.

    Raises:
        PortTaken: somebody else listens there.
    """
    with bind(HOST, port) as sock:
        asyncio.run(_serve(sock, port))


async def _serve(sock: socket.socket, port: int) -> None:
    api = AsgiApp(registry_api(Directory()))

    async def no_model(exchange: Exchange, path: str) -> None:
        await api(exchange, path, exchange.request.headers, b"")

    server = HttpServer(
        Entry(api, no_model, Guard(HOST), MAX_BODY_BYTES),
        sock,
        source="pool",
        timeouts=Timeouts(),
        keep_alive_seconds=KEEP_ALIVE_SECONDS,
    )
    told = asyncio.Event()
    for number in STOPPING:
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    await server.start()
    print(f"the registry listens on http://{HOST}:{port}", flush=True)
    await told.wait()
    await server.close(CLOSE_SECONDS)
