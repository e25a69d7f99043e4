"""etcd as it is: leases that end, restarts with and without its data, users."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from modelpool.registrars.base import Refused
from modelpool.registrars.reconcile import Reconciler
from modelpool.registrars.record import Record
from modelpool.registrars.registry import create
from modelpool.registrars.settings import RegistrarSettings
from support.registries import POOL, record, registry_client
from support.servers import Etcd, needs

pytestmark = needs("etcd")

TTL = 2  # the least that etcd grants
# Of a lease that is to be kept: who keeps it may be held up for more than the least.
KEPT_TTL = 5


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    server = Etcd(tmp_path / "etcd")
    try:
        server.start()
        yield server
    finally:
        server.kill()


def ask(etcd: Etcd, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    answer = httpx.post(f"{etcd.url}{path}", json=body, trust_env=False, timeout=60)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def keys(etcd: Etcd) -> dict[str, dict[str, Any]]:
    """Every key below the usual prefix, with its value, as anybody reads them."""
    code = lambda text: base64.b64encode(text.encode()).decode()  # noqa: E731
    found = ask(
        etcd, "/v3/kv/range", {"key": code("/modelpool/"), "range_end": code("/modelpool0")}
    )
    read = lambda text: base64.b64decode(text).decode()  # noqa: E731
    return {read(kv["key"]): json.loads(read(kv["value"])) for kv in found.get("kvs", ())}


async def until(look: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(30):
        while not look():  # noqa: ASYNC110 - etcd sets no event of ours
            await asyncio.sleep(0.02)


class Desk:
    """A reconciler over an etcd, running."""

    def __init__(self, etcd: Etcd, http: Any, ttl_seconds: int) -> None:
        settings = RegistrarSettings(kind="etcd", url=etcd.url, ttl_seconds=ttl_seconds)
        self.wanted: dict[str, Record] = {"a": record("a"), "b": record("b")}
        self.events: list[str] = []
        self.reconciler = Reconciler(
            create(settings, POOL, http),
            settings,
            lambda: dict(self.wanted),
            lambda event, **_: self.events.append(event),
        )


def play(etcd: Etcd, scene: Callable[[Desk], Awaitable[None]], ttl_seconds: int = TTL) -> None:
    async def main() -> None:
        async with registry_client() as client:
            desk = Desk(etcd, client, ttl_seconds)
            running = asyncio.ensure_future(desk.reconciler.run())
            await until(lambda: len(keys(etcd)) == 2, "the first keys")
            try:
                await scene(desk)
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())


def test_the_keys_are_there_for_others_to_read(etcd: Etcd) -> None:
    async def scene(desk: Desk) -> None:
        found = keys(etcd)
        assert set(found) == {f"/modelpool/{POOL}/workers/{i}" for i in "ab"}
        assert found[f"/modelpool/{POOL}/workers/a"] == record("a").as_dict()

    play(etcd, scene)


def test_keys_of_a_manager_that_was_killed_expire_by_themselves(etcd: Etcd) -> None:
    async def scene(desk: Desk) -> None:
        pass  # its keepalives stop when the scene is over, and nothing is removed

    play(etcd, scene)
    asyncio.run(until(lambda: keys(etcd) == {}, "their end"))


def test_living_keys_outlast_their_ttl(etcd: Etcd) -> None:
    async def scene(desk: Desk) -> None:
        first = ask(etcd, "/v3/lease/leases", {})["leases"]
        await asyncio.sleep(2 * KEPT_TTL)
        assert len(keys(etcd)) == 2
        assert ask(etcd, "/v3/lease/leases", {})["leases"] == first

    play(etcd, scene, KEPT_TTL)


def test_the_next_manager_takes_the_keys_over(etcd: Etcd) -> None:
    """The old lease ends, and with it nothing: the keys are under the new one."""

    async def scene(desk: Desk) -> None:
        pass

    async def heir(desk: Desk) -> None:
        desk.reconciler.wake()
        gone: list[dict[str, Any]] = []
        for _ in range(int(2 * TTL / 0.05)):
            found = keys(etcd)
            if len(found) != 2:
                gone.append(found)
            await asyncio.sleep(0.05)
        assert gone == []

    play(etcd, scene)
    play(etcd, heir, KEPT_TTL)


@pytest.mark.parametrize("is_empty", [False, True], ids=["with its data", "empty"])
def test_an_outage_is_healed(etcd: Etcd, is_empty: bool) -> None:
    async def scene(desk: Desk) -> None:
        etcd.kill()
        if is_empty:
            etcd.wipe()
        desk.wanted = {"b": record("b"), "c": record("c")}
        desk.reconciler.wake()
        await until(lambda: desk.events == ["registrar-failed"], "the failure")
        await asyncio.to_thread(etcd.start)
        await until(lambda: desk.events[1:] == ["registrar-recovered"], "the recovery")
        assert {v["id"] for v in keys(etcd).values()} == {"b", "c"}

    play(etcd, scene)


def test_a_lease_that_ended_while_the_manager_slept_is_replaced(etcd: Etcd) -> None:
    async def scene(desk: Desk) -> None:
        for lease in ask(etcd, "/v3/lease/leases", {})["leases"]:
            ask(etcd, "/v3/lease/revoke", lease)
        assert keys(etcd) == {}
        await until(lambda: len(keys(etcd)) == 2, "their return")
        assert desk.events == []

    play(etcd, scene)


def test_users_and_tokens_that_expire(etcd: Etcd, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("root:pass:word\n")
    ask(etcd, "/v3/auth/user/add", {"name": "root", "password": "pass:word"})
    ask(etcd, "/v3/auth/role/add", {"name": "root"})
    ask(etcd, "/v3/auth/user/grant", {"user": "root", "role": "root"})
    ask(etcd, "/v3/auth/enable", {})

    async def main() -> None:
        async with registry_client() as client:
            known = RegistrarSettings(kind="etcd", url=etcd.url, token_file=secret)
            made = create(known, POOL, client)
            await made.find()
            await made.put(record("a"))
            made._api.headers["authorization"] = "one.that.expired"  # type: ignore[attr-defined]
            assert set(await made.find()) == {"a"}
            stranger = create(RegistrarSettings(kind="etcd", url=etcd.url), POOL, client)
            with pytest.raises(Refused):
                await stranger.find()
            secret.write_text("root:wrong")
            liar = create(known, POOL, client)
            with pytest.raises(Refused):
                await liar.find()

    asyncio.run(main())
