"""The registries to test against, each as settings that lead to a running one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from modelpool.registrars.base import Registrar
from modelpool.registrars.client import RegistryClient
from modelpool.registrars.record import Record
from modelpool.registrars.registry import create
from modelpool.registrars.settings import RegistrarSettings

from support.consul import FakeConsul
from support.servers import Etcd, Registry

POOL = "8d6f0c1e-pool"
PATIENCE_SECONDS = 60.0


def record(record_id: str, **values: Any) -> Record:
    plain = {"model": "org/m:7b", "engine": "fake", "host": "127.0.0.1", "port": 8051}
    lists = {"aliases": ("one", "two=2"), "capabilities": ("chat", "tools")}
    base = {"id": record_id, "pool": POOL, "node": "n", "started_at": "t"}
    return Record(**{**base, **plain, **lists, **values})


class Servers:
    """Started when they are first asked for."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self._running: dict[str, Etcd | Registry] = {}

    def url(self, kind: str) -> str:
        if kind not in self._running:
            server = {"etcd": Etcd, "http": Registry}[kind](self.folder / kind)
            self._stack.callback(server.kill)
            server.start()
            self._running[kind] = server
        return self._running[kind].url


@asynccontextmanager
async def registry_client() -> AsyncIterator[RegistryClient]:
    """As the manager's, but with the patience that a busy machine takes."""
    with ExitStack() as patched:
        for module in ("client", "json_api"):
            name = f"modelpool.registrars.{module}.TIMEOUT_SECONDS"
            patched.enter_context(patch(name, PATIENCE_SECONDS))
        client = RegistryClient()
        yield client
        await client.close()


@asynccontextmanager
async def registries(
    kind: str, servers: Servers, *pools: str, **more: Any
) -> AsyncIterator[list[Registrar]]:
    """One registry of that kind, as each of these pools sees it."""
    async with registry_client() as client, FakeConsul().serving() as consul:
        url = consul.url if kind == "consul" else servers.url(kind)
        settings = RegistrarSettings(kind=kind, url=url, **more)
        yield [create(settings, pool, client) for pool in pools]
