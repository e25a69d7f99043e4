"""What every registrar does alike: a real etcd, the registry that ships, a stand-in for Consul."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from modelpool.registrars.base import Registrar, RegistrarFailed
from modelpool.registrars.registry import create
from modelpool.registrars.settings import RegistrarSettings
from support.registries import POOL, Servers, record, registries, registry_client
from support.servers import free_port, needs

KINDS = ("http", pytest.param("etcd", marks=needs("etcd")), "consul")
Scene = Callable[[Registrar], Awaitable[None]]

pytestmark = pytest.mark.parametrize("kind", KINDS)


def play(kind: str, servers: Servers, scene: Scene) -> None:
    async def main() -> None:
        async with registries(kind, servers, POOL) as (made,):
            await scene(made)
            for left in await made.find():
                await made.remove(left)

    asyncio.run(main())


def test_what_was_put_is_found_as_it_was(kind: str, servers: Servers) -> None:
    async def scene(made: Registrar) -> None:
        assert await made.find() == {}
        told = [record("a"), record("b", model="é/ü", port=8052, aliases=(), host="::1")]
        for each in told:
            await made.put(each)
        assert await made.find() == {r.id: r for r in told}
        await made.keep(told)
        assert await made.find() == {r.id: r for r in told}

    play(kind, servers, scene)


def test_put_replaces(kind: str, servers: Servers) -> None:
    async def scene(made: Registrar) -> None:
        await made.put(record("a"))
        changed = record("a", aliases=("other",), port=8060)
        await made.put(changed)
        assert await made.find() == {"a": changed}

    play(kind, servers, scene)


def test_what_is_gone_can_be_removed_again(kind: str, servers: Servers) -> None:
    async def scene(made: Registrar) -> None:
        await made.put(record("a"))
        await made.put(record("b"))
        for _ in range(2):
            await made.remove("a")
        assert set(await made.find()) == {"b"}

    play(kind, servers, scene)


def test_an_entry_that_vanished_comes_back_by_being_kept_or_found_missing(
    kind: str, servers: Servers
) -> None:
    async def scene(made: Registrar) -> None:
        await made.put(record("a"))
        await made.remove("a")
        await made.keep([record("a")])
        if kind != "etcd":  # there the lease is kept, not the key, and the next round finds it gone
            assert set(await made.find()) == {"a"}

    play(kind, servers, scene)


def test_long_names_and_many_aliases(kind: str, servers: Servers) -> None:
    async def scene(made: Registrar) -> None:
        aliases = tuple(f"{'x' * 200}{n}" for n in range(20))
        told = record("a", model="m" * 255, aliases=aliases)
        await made.put(told)
        assert await made.find() == {"a": told}

    play(kind, servers, scene)


def test_other_pools_are_left_alone(kind: str, servers: Servers) -> None:
    async def main() -> None:
        async with registries(kind, servers, POOL, "another") as (ours, theirs):
            await theirs.put(record("b", pool="another"))
            await ours.put(record("a"))
            assert set(await ours.find()) == {"a"}
            assert set(await theirs.find()) == {"b"}
            await theirs.remove("b")
            await ours.remove("a")

    asyncio.run(main())


def test_nobody_there(kind: str, servers: Servers) -> None:
    async def main() -> None:
        url = f"http://127.0.0.1:{free_port()}"
        async with registry_client() as client:
            made = create(RegistrarSettings(kind=kind, url=url), POOL, client)
            with pytest.raises(RegistrarFailed, match=url):
                await made.find()

    asyncio.run(main())
