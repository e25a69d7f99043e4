"""The loop: woken by transitions, patient with failures, loud on edges, bounded at the end."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from modelpool.pool.clock import Clock
from modelpool.registrars.base import Refused, RegistrarFailed
from modelpool.registrars.reconcile import LAST_WORDS_SECONDS, Reconciler, Registrars
from modelpool.registrars.record import Record
from modelpool.registrars.settings import RegistrarSettings
from support.virtual_time import run_virtual

SETTINGS = RegistrarSettings(kind="http", ttl_seconds=15)


def record(record_id: str, **values: Any) -> Record:
    plain = {"model": "m", "engine": "fake", "host": "127.0.0.1", "port": 8051, "pool": "p"}
    return Record(**{"id": record_id, "node": "n", "started_at": "t", **plain, **values})


class Shelf:
    """A registry in memory; ``trouble`` is raised, or awaited, at every call."""

    def __init__(self) -> None:
        self.listed: dict[str, Record | None] = {}
        self.calls: list[tuple[float, str]] = []
        self.trouble: Exception | None = None
        self.seconds = 0.0
        self.refused: set[str] = set()

    async def _happens(self, what: str) -> None:
        self.calls.append((asyncio.get_running_loop().time(), what))
        await asyncio.sleep(self.seconds)
        if self.trouble is not None:
            raise self.trouble

    async def find(self) -> Mapping[str, Record | None]:
        await self._happens("find")
        return dict(self.listed)

    async def put(self, record: Record) -> None:
        await self._happens(f"put {record.id}")
        if record.id in self.refused:
            raise Refused(f"{record.id} is not to my taste")
        self.listed[record.id] = record

    async def keep(self, records: Sequence[Record]) -> None:
        await self._happens("keep")

    async def remove(self, record_id: str) -> None:
        await self._happens(f"remove {record_id}")
        self.listed.pop(record_id, None)


class Desk:
    """A reconciler over a shelf, with what it told."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.wanted: dict[str, Record] = {}
        self.told: list[tuple[str, str]] = []
        self.reconciler = Reconciler(
            self.shelf, SETTINGS, lambda: dict(self.wanted), self.tell, Clock(), lambda: 1.0
        )

    def tell(self, event: str, **data: Any) -> None:
        assert (data["kind"], data["url"]) == ("http", "http://127.0.0.1:6121")
        self.told.append((event, data["reason"]))

    @property
    def finds(self) -> list[float]:
        return [at for at, what in self.shelf.calls if what == "find"]


def play(scene: Callable[[Desk], Awaitable[None]]) -> None:
    async def main() -> None:
        desk = Desk()
        running = asyncio.ensure_future(desk.reconciler.run())
        try:
            await asyncio.sleep(0.01)
            await scene(desk)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    run_virtual(main())


def test_a_transition_is_told_at_once_and_silence_every_third_of_a_ttl() -> None:
    async def scene(desk: Desk) -> None:
        desk.wanted["a"] = record("a")
        desk.reconciler.wake()
        await asyncio.sleep(0.01)
        assert set(desk.shelf.listed) == {"a"}
        desk.wanted.clear()
        desk.reconciler.wake()
        await asyncio.sleep(0.01)
        assert desk.shelf.listed == {}
        count = len(desk.finds)
        await asyncio.sleep(15.01)
        assert len(desk.finds) == count + 3
        assert desk.told == []

    play(scene)


def test_what_a_stranger_did_is_undone_by_the_next_look() -> None:
    async def scene(desk: Desk) -> None:
        desk.wanted["a"] = record("a")
        desk.reconciler.wake()
        await asyncio.sleep(0.01)
        desk.shelf.listed = {"dead": record("dead"), "strange": None}
        await asyncio.sleep(5.01)
        assert desk.shelf.listed == desk.wanted

    play(scene)


def test_news_during_a_round_make_another_one() -> None:
    async def scene(desk: Desk) -> None:
        desk.shelf.seconds = 1.0
        desk.reconciler.wake()
        await asyncio.sleep(0.5)  # it has read what is wanted
        desk.wanted["a"] = record("a")
        desk.reconciler.wake()
        await asyncio.sleep(3)
        assert set(desk.shelf.listed) == {"a"}

    play(scene)


def test_a_failure_is_told_once_and_so_is_the_end_of_it() -> None:
    async def scene(desk: Desk) -> None:
        desk.shelf.trouble = RegistrarFailed("it is on fire")
        desk.wanted["a"] = record("a")
        desk.reconciler.wake()
        await asyncio.sleep(60)
        assert desk.told == [("registrar-failed", "it is on fire")]
        view = desk.reconciler.view()
        assert (view["status"], view["last_error"]) == ("failing", "it is on fire")
        assert view["failures"] > 5
        desk.shelf.trouble = None
        await asyncio.sleep(desk.reconciler.period)
        assert [event for event, _ in desk.told] == ["registrar-failed", "registrar-recovered"]
        assert set(desk.shelf.listed) == {"a"}
        view = desk.reconciler.view()
        assert (view["status"], view["registered"]) == ("ok", 1)
        assert view["last_success_at"]

    play(scene)


def test_retries_back_off_up_to_the_period_and_news_do_not_hurry_them() -> None:
    async def scene(desk: Desk) -> None:
        desk.shelf.trouble = RegistrarFailed("no")
        desk.reconciler.wake()
        for _ in range(300):
            await asyncio.sleep(0.1)
            desk.reconciler.wake()
        tries = desk.finds[1:]
        gaps = [b - a for a, b in itertools.pairwise(tries)]
        assert gaps[:4] == pytest.approx([0.5, 1, 2, 4])
        assert max(gaps) == pytest.approx(desk.reconciler.period)

    play(scene)


def test_jitter_only_shortens() -> None:
    async def main() -> list[float]:
        desk = Desk()
        desk.shelf.trouble = RegistrarFailed("no")
        desk.reconciler._jitter = lambda: 0.0
        running = asyncio.ensure_future(desk.reconciler.run())
        await asyncio.sleep(2)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return desk.finds

    assert run_virtual(main())[:3] == pytest.approx([0, 0.25, 0.75])


def test_one_refused_record_does_not_keep_the_others_out() -> None:
    async def scene(desk: Desk) -> None:
        desk.shelf.refused = {"b"}
        desk.wanted = {i: record(i) for i in "abc"}
        desk.reconciler.wake()
        await asyncio.sleep(0.01)
        assert set(desk.shelf.listed) == {"a", "c"}
        assert desk.told == [("registrar-failed", "b is not to my taste")]

    play(scene)


def test_a_bug_of_a_plug_in_is_a_failure_like_any_other() -> None:
    async def scene(desk: Desk) -> None:
        desk.shelf.trouble = KeyError("items")
        desk.reconciler.wake()
        await asyncio.sleep(0.01)
        ((event, reason),) = desk.told
        assert event == "registrar-failed"
        assert "http http://127.0.0.1:6121 does not answer as one of its kind" in reason
        desk.shelf.trouble = None
        await asyncio.sleep(1)
        assert desk.told[-1][0] == "registrar-recovered"

    play(scene)


# -- all of them ----------------------------------------------------------------------------


async def registrars(desk: Desk) -> Registrars:
    made = Registrars((), "p", cast(Any, None), lambda: dict(desk.wanted), desk.tell)
    made._reconcilers = [desk.reconciler]
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
            all_of_them.heard(cast(Any, SimpleNamespace(name=name)))
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


def test_a_round_that_does_not_end_is_given_up() -> None:
    async def scene(desk: Desk) -> None:
        desk.shelf.seconds = 1e6
        desk.reconciler.wake()
        await asyncio.sleep(40)
        assert desk.told == [
            ("registrar-failed", "http http://127.0.0.1:6121 was not done after 30 s")
        ]
        desk.shelf.seconds = 0
        await asyncio.sleep(31)
        assert desk.told[-1][0] == "registrar-recovered"

    play(scene)
