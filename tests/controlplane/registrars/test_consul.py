"""Consul, against a stand-in that knows exactly the documented calls. No real agent was asked."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from modelpool.registrars.base import Refused
from modelpool.registrars.registry import create
from modelpool.registrars.settings import RegistrarSettings
from support.consul import FakeConsul
from support.registries import POOL, record, registry_client


class Now:
    at = 0.0

    def __call__(self) -> float:
        return self.at


def test_a_worker_is_a_passing_service_while_it_is_kept() -> None:
    async def main() -> None:
        now = Now()
        async with FakeConsul(now).serving() as consul, registry_client() as client:
            settings = RegistrarSettings(kind="consul", url=consul.url, ttl_seconds=10)
            made = create(settings, POOL, client)
            await made.put(record("a"))
            (service,) = consul.services.values()
            assert (service["Name"], service["ID"]) == ("modelpool", "a")
            assert (service["Address"], service["Port"]) == ("127.0.0.1", 8051)
            assert service["Meta"]["model"] == "org/m:7b"
            assert "model=org/m:7b" in service["Tags"]
            assert service["Check"]["TTL"] == "10s"
            now.at = 9
            await made.keep([record("a")])
            now.at = 18
            assert consul.passing() == {"a"}
            now.at = 20
            assert consul.passing() == set()
            await made.keep([record("a")])
            assert consul.passing() == {"a"}

    asyncio.run(main())


def test_what_the_agent_lost_is_registered_again() -> None:
    async def main() -> None:
        async with FakeConsul().serving() as consul, registry_client() as client:
            made = create(RegistrarSettings(kind="consul", url=consul.url), POOL, client)
            await made.put(record("a"))
            consul.services.clear()
            await made.keep([record("a")])
            assert set(consul.services) == {"a"}

    asyncio.run(main())


def test_the_token_and_the_name_of_the_service(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("t0ken\n")

    async def main() -> None:
        async with FakeConsul().serving() as consul, registry_client() as client:
            consul.token = "t0ken"
            settings = RegistrarSettings(
                kind="consul", url=consul.url, prefix="llm", token_file=secret
            )
            made = create(settings, POOL, client)
            await made.put(record("a"))
            assert consul.services["a"]["Name"] == "llm"
            assert set(await made.find()) == {"a"}
            without = create(RegistrarSettings(kind="consul", url=consul.url), POOL, client)
            with pytest.raises(Refused, match="403 Permission denied"):
                await without.find()

    asyncio.run(main())
