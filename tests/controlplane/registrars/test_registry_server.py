"""The registry that ships: the calls of the PAS registry, what it refuses, what it forgets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
import pytest
from modelpool.registrars.server import Directory, Heartbeat, Registration, registry_api
from support.registries import Servers
from support.servers import Registry

GIVEN = {
    "service_id": "a",
    "name": "llama",
    "type": "model",
    "role": "production",
    "url": "http://127.0.0.1:8051",
    "caps": ["infer", "chat"],
    "labels": {"tier": 2},
    "ttl_s": 90,
}


class Wall:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def play(scene: Callable[[httpx.AsyncClient, Wall], Awaitable[None]]) -> None:
    async def main() -> None:
        wall = Wall()
        transport = httpx.ASGITransport(registry_api(Directory(wall)))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            await scene(client, wall)

    asyncio.run(main())


async def post(client: httpx.AsyncClient, path: str, body: Mapping[str, Any]) -> httpx.Response:
    return await client.post(path, json=body)


def test_registered_listed_found_and_removed() -> None:
    async def scene(client: httpx.AsyncClient, wall: Wall) -> None:
        answer = await post(client, "/register", GIVEN)
        assert (answer.status_code, answer.json()["service_id"]) == (200, "a")
        assert answer.json()["registered_at"]
        other = {k: v for k, v in GIVEN.items() if k != "service_id"} | {"type": "tool"}
        made = (await post(client, "/register", other)).json()["service_id"]
        items = (await client.get("/services")).json()["items"]
        assert {i["service_id"] for i in items} == {"a", made}
        for query, expected in {
            "type=model": {"a"},
            "type=agent": set(),
            "role=production": {"a", made},
            "cap=chat&type=model": {"a"},
            "cap=cha": set(),
            "name=llama&type=tool": {made},
            "status=ok": {"a", made},
            "status=down": set(),
        }.items():
            items = (await client.get(f"/discover?{query}")).json()["items"]
            assert {i["service_id"] for i in items} == expected, query
        one = (await client.get("/services/a")).json()
        assert (one["labels"], one["caps"], one["status"]) == ({"tier": 2}, GIVEN["caps"], "ok")
        assert (await client.get("/health")).json() == {
            "status": "ok",
            "registered": 2,
            "healthy": 2,
        }
        assert (await post(client, "/deregister", {"service_id": "a"})).json()["success"]
        assert (await client.get("/services/a")).status_code == 404

    play(scene)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/register", GIVEN, 400),
        ("POST", "/register", GIVEN | {"type": "engine"}, 422),
        ("POST", "/register", GIVEN | {"role": "boss"}, 422),
        ("POST", "/register", GIVEN | {"caps": []}, 422),
        ("POST", "/register", GIVEN | {"name": "x" * 101}, 422),
        ("POST", "/register", GIVEN | {"more": 1}, 422),
        ("POST", "/register", {"name": "x"}, 422),
        ("PUT", "/heartbeat", {"service_id": "b"}, 404),
        ("PUT", "/heartbeat", {"service_id": "a", "status": "tired"}, 422),
        ("POST", "/deregister", {"service_id": "b"}, 404),
        ("GET", "/services/b", None, 404),
        ("GET", "/discover?type=engine", None, 422),
    ],
)
def test_refusals_change_nothing(method: str, path: str, body: Any, status: int) -> None:
    async def scene(client: httpx.AsyncClient, wall: Wall) -> None:
        await post(client, "/register", GIVEN)
        before = (await client.get("/services")).json()
        answer = await client.request(method, path, json=body)
        assert (answer.status_code, bool(answer.json()["detail"])) == (status, True)
        assert (await client.get("/services")).json() == before

    play(scene)


def test_who_is_silent_for_its_ttl_is_forgotten_and_who_beats_is_not() -> None:
    async def scene(client: httpx.AsyncClient, wall: Wall) -> None:
        await post(client, "/register", GIVEN)
        await post(client, "/register", GIVEN | {"service_id": "quiet", "ttl_s": 30})
        wall.now += 29
        assert len((await client.get("/services")).json()["items"]) == 2
        beat = {"service_id": "a", "status": "degraded", "load": 0.5}
        assert (await client.put("/heartbeat", json=beat)).json()["success"]
        wall.now += 61
        (left,) = (await client.get("/services")).json()["items"]
        assert (left["service_id"], left["status"], left["load"]) == ("a", "degraded", 0.5)
        assert (await client.get("/services/quiet")).status_code == 404
        assert (await client.put("/heartbeat", json={"service_id": "quiet"})).status_code == 404
        wall.now += 29
        assert (await client.get("/health")).json()["registered"] == 0
        assert (await post(client, "/register", GIVEN)).status_code == 200

    play(scene)


def test_a_directory_alone() -> None:
    wall = Wall()
    directory = Directory(wall)
    directory.register(Registration(**GIVEN))
    with pytest.raises(KeyError):
        directory.register(Registration(**GIVEN))
    with pytest.raises(KeyError):
        directory.heard(Heartbeat(service_id="b"))
    directory.remove("a")
    assert directory.all() == []


def test_the_command_serves_on_loopback_and_no_web_page(servers: Servers) -> None:
    url = servers.url("http")
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}):
        refused = httpx.get(f"{url}/services", headers=headers, trust_env=False, timeout=60)
        assert refused.status_code == 403
    broken = httpx.post(f"{url}/register", content=b"{", trust_env=False, timeout=60)
    assert broken.status_code == 400


def test_a_second_one_on_the_port_says_so(servers: Servers) -> None:
    import subprocess

    first = servers.url("http")
    second = Registry(servers.folder / "second")
    second.port = int(first.rpartition(":")[2])
    run = subprocess.run(second.command(), capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert "cannot be taken" in run.stderr
    assert "Traceback" not in run.stderr
