"""All of them: they begin, hear of events, change with the configuration, and end together."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from modelpool.registrars import registrars as module
from modelpool.registrars.registrars import LAST_WORDS_SECONDS, Entry, Registrars
from modelpool.registrars.registry import BadRegistrar
from modelpool.registrars.settings import RegistrarSettings
from support.shelf import SETTINGS, Desk, Shelf, record
from support.virtual_time import run_virtual


async def registrars(desk: Desk) -> Registrars:
    made = Registrars((), "p", cast(Any, None), lambda: dict(desk.wanted), desk.tell)
    made._entries = [Entry(SETTINGS, desk.reconciler)]
    return made


def test_only_what_moves_a_model_wakes_them() -> None:
    async def main() -> None:
        desk = Desk()
        all_of_them = await registrars(desk)
        assert not all_of_them.has_begun
        all_of_them.begin()
        assert all_of_them.has_begun
        await asyncio.sleep(0.01)
        quiet = ("model-progress", "registrar-failed", "config-changed")
        for name, rounds in (*((name, 1) for name in quiet), ("model-cooling", 2)):
            desk.wanted = {name: record(name)}
            all_of_them.on_event(cast(Any, SimpleNamespace(name=name)))
            await asyncio.sleep(0.01)
            assert len(desk.finds) == rounds
        await all_of_them.close()

    run_virtual(main())


def test_the_end_is_one_more_round() -> None:
    async def main() -> None:
        desk = Desk()
        desk.wanted = {"a": record("a")}
        all_of_them = await registrars(desk)
        all_of_them.begin()
        await asyncio.sleep(0.01)
        await all_of_them.close()
        assert set(desk.shelf.listed) == {"a"}, "a worker that serves on stays listed"
        desk.wanted.clear()
        await all_of_them.close()
        assert desk.shelf.listed == {}

    run_virtual(main())


def test_a_registry_that_hangs_does_not_hold_up_the_end() -> None:
    async def main() -> float:
        desk = Desk()
        desk.shelf.seconds = 1e6
        all_of_them = await registrars(desk)
        all_of_them.begin()
        await asyncio.sleep(10)
        began = asyncio.get_running_loop().time()
        await all_of_them.close()
        return asyncio.get_running_loop().time() - began

    assert run_virtual(main()) == pytest.approx(LAST_WORDS_SECONDS)


# -- the configuration changes ----------------------------------------------------------------


class Hall:
    """Registries by their addresses, which stay when nobody uses them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shelves: dict[str, Shelf] = {}
        self.wanted = {"a": record("a")}
        self.told: list[str] = []
        monkeypatch.setattr(module, "create", self.create)
        session = cast(Any, None)
        self.all = Registrars((), "p", session, lambda: dict(self.wanted), self.tell)
        self.all.begin()

    def create(self, settings: RegistrarSettings, *_: object) -> Shelf:
        if settings.address.endswith(":1"):
            raise BadRegistrar("its token file cannot be read")
        return self.shelves.setdefault(settings.address, Shelf())

    def tell(self, event: str, **_: Any) -> None:
        self.told.append(event)

    async def have(self, *settings: RegistrarSettings) -> None:
        self.all.take(self.all.prepared(settings))
        await asyncio.sleep(0.01)

    @property
    def listed(self) -> dict[str, list[str]]:
        return {url[-1]: sorted(shelf.listed) for url, shelf in self.shelves.items()}


def at(port: int, **values: Any) -> RegistrarSettings:
    return RegistrarSettings(kind="http", url=f"http://127.0.0.1:{port}", **values)


def test_one_that_comes_is_told_and_one_that_goes_lists_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        hall = Hall(monkeypatch)
        await hall.have(at(7), at(8))
        assert hall.listed == {"7": ["a"], "8": ["a"]}
        before = len(hall.shelves["http://127.0.0.1:8"].calls)
        await hall.have(at(8), at(9))
        assert hall.listed == {"7": [], "8": ["a"], "9": ["a"]}
        assert len(hall.shelves["http://127.0.0.1:8"].calls) == before, "it stayed as it was"
        assert [v["url"][-1] for v in hall.all.view()] == ["8", "9"]
        hall.wanted["b"] = record("b")
        hall.all.on_event(cast(Any, SimpleNamespace(name="model-loaded")))
        await asyncio.sleep(20)
        assert hall.listed == {"7": [], "8": ["a", "b"], "9": ["a", "b"]}
        await hall.all.close()

    run_virtual(main())


def test_another_ttl_is_written_without_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        hall = Hall(monkeypatch)
        await hall.have(at(7, ttl_seconds=15))
        shelf = hall.shelves["http://127.0.0.1:7"]
        shelf.calls.clear()
        await hall.have(at(7, ttl_seconds=60))
        assert [what for _, what in shelf.calls] == ["find", "put a"]
        await asyncio.sleep(100)
        assert sum(what == "keep" for _, what in shelf.calls) == 5
        await hall.all.close()

    run_virtual(main())


def test_one_that_goes_and_comes_back_waits_for_its_own_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        hall = Hall(monkeypatch)
        await hall.have(at(7))
        hall.shelves["http://127.0.0.1:7"].seconds = 1
        await hall.have()
        await hall.have(at(7))
        await asyncio.sleep(4.5)
        assert hall.listed == {"7": ["a"]}
        await hall.all.close()
        assert hall.told == []

    run_virtual(main())


def test_one_that_is_down_while_it_goes_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> float:
        hall = Hall(monkeypatch)
        await hall.have(at(7))
        hall.shelves["http://127.0.0.1:7"].seconds = 1e6
        await hall.have(at(8))
        assert hall.listed["8"] == ["a"]
        began = asyncio.get_running_loop().time()
        await hall.all.close()
        assert not [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        return asyncio.get_running_loop().time() - began

    assert run_virtual(main()) == pytest.approx(LAST_WORDS_SECONDS)


def test_one_that_cannot_be_made_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        hall = Hall(monkeypatch)
        await hall.have(at(7))
        with pytest.raises(BadRegistrar):
            await hall.have(at(8), at(1))
        await asyncio.sleep(0.01)
        assert hall.listed == {"7": ["a"], "8": []}
        assert [v["url"][-1] for v in hall.all.view()] == ["7"]
        await hall.all.close()

    run_virtual(main())
