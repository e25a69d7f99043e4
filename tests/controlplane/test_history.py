"""History: written in batches, within bounds, read back by those who ask or resume."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest
from modelpool.catalog.event_rows import LAST_OF_A_RUN, POOL, EventRow, Page
from modelpool.catalog.model import Model
from modelpool.catalog.store import Store, StoreError
from modelpool.observe import history as history_module
from modelpool.observe.events import Event, EventBus
from modelpool.observe.history import (
    KEPT_PER_MODEL,
    KEPT_SECONDS,
    PENDING,
    WRITE_SECONDS,
    History,
    missing,
    timeline,
)
from support.virtual_time import run_virtual

DAY = 1_700_000_000.0


class Wall:
    """Seconds since 1970, moved by the test."""

    def __init__(self, now: float = DAY) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class MemoryStore:
    """Keeps rows in a list; refuses while ``trouble`` says why."""

    def __init__(self) -> None:
        self.rows: list[EventRow] = []
        self.batches: list[int] = []
        self.trouble = ""

    async def append_events(self, rows: Sequence[EventRow], keep: int, oldest: float) -> None:
        await asyncio.sleep(0)
        if self.trouble:
            raise StoreError(Path("pool.db"), self.trouble)
        self.rows += rows
        self.batches.append(len(rows))

    async def forget_events(self, model_ids: Collection[str] = ()) -> None:
        if self.trouble:
            raise StoreError(Path("pool.db"), self.trouble)
        self.rows = [row for row in self.rows if row.model_id not in model_ids]

    async def events_of(self, *_: Any) -> Any:
        raise AssertionError("not asked")

    async def events_after(self, *_: Any) -> Any:
        raise StoreError(Path("pool.db"), "is closed")


def made(store: Any, wall: Wall | None = None) -> tuple[EventBus, History, list[tuple[int, str]]]:
    wall = wall or Wall()
    reports: list[tuple[int, str]] = []
    bus = EventBus(wall)
    history = History(store, wall, lambda count, why: reports.append((count, why)))
    bus.archive = history
    bus.listeners.append(history.note)
    return bus, history, reports


def move(bus: EventBus, model: str, state: str, previous: str, **more: Any) -> Event:
    return bus.publish(
        f"model-{state.lower()}", model_id=model, state=state, previous=previous, **more
    )


def with_store(folder: Path, scene: Callable[[Store], Awaitable[None]]) -> None:
    async def main() -> None:
        store = await Store.open(folder / "pool.db")
        try:
            await scene(store)
        finally:
            await store.close()

    asyncio.run(main())


async def resumed(bus: EventBus, last_event_id: str) -> tuple[list[str], str]:
    """Names of the events that a stream begins with, and its gap if it tells one."""
    names, gap = [], ""
    async with contextlib.aclosing(bus.stream(last_event_id, lambda _: True, 0.05)) as stream:
        async for part in stream:
            if part == b": ping\n\n":
                break
            if part.startswith(b"event: gap"):
                assert not gap, "once is enough"
                gap = part.decode()
            elif part.startswith(b"id: "):
                names.append(part.split(b"\n")[1].decode().removeprefix("event: "))
    return names, gap


# -- writing ---------------------------------------------------------------------------------------


def test_a_batch_is_written_a_moment_after_the_first_of_it() -> None:
    async def scene() -> None:
        store = MemoryStore()
        bus, history, _ = made(store)
        writing = asyncio.ensure_future(history.write_on())
        for n in range(5):
            bus.publish("x", n=n)
        bus.publish("model-progress", model_id="m", progress={})
        await asyncio.sleep(WRITE_SECONDS * 0.9)
        assert store.batches == []
        await asyncio.sleep(WRITE_SECONDS * 0.2)
        assert store.batches == [5], "one write for all, and none for progress"
        await asyncio.sleep(3600)
        assert store.batches == [5]
        bus.publish("y")
        await asyncio.sleep(WRITE_SECONDS * 1.1)
        assert store.batches == [5, 1]
        writing.cancel()

    run_virtual(scene())


def test_a_store_that_refuses_costs_nothing_but_what_is_beyond_the_bound() -> None:
    async def scene() -> None:
        store = MemoryStore()
        bus, history, reports = made(store)
        writing = asyncio.ensure_future(history.write_on())
        store.trouble = "cannot be written: the disk is full"
        for n in range(PENDING + 7):
            bus.publish("x", n=n)
        await asyncio.sleep(10)
        assert (store.rows, reports) == ([], [])
        assert "7 dropped" in repr(history)
        store.trouble = ""
        await asyncio.sleep(10)
        assert len(store.rows) == PENDING
        assert store.rows[0].serial == 8, "the oldest went"
        assert reports == [(7, "pool.db: cannot be written: the disk is full")], "once"
        bus.publish("y")
        await asyncio.sleep(10)
        assert len(reports) == 1
        writing.cancel()

    run_virtual(scene())


def test_a_short_trouble_loses_nothing_and_keeps_the_order() -> None:
    async def scene() -> None:
        store = MemoryStore()
        bus, history, reports = made(store)
        store.trouble = "is busy"
        bus.publish("a")
        await history.flush()
        bus.publish("b")
        store.trouble = ""
        await history.flush()
        assert [row.name for row in store.rows] == ["a", "b"]
        assert reports == []

    run_virtual(scene())


def test_forgetting_takes_what_is_not_written_yet_too() -> None:
    async def scene() -> None:
        store = MemoryStore()
        bus, history, _ = made(store)
        bus.publish("x", model_id="gone")
        bus.publish("x", model_id="other")
        await history.forget("gone")
        bus.publish("model-deleted", model_id="gone")
        await history.flush()
        owners = [(row.name, row.model_id) for row in store.rows]
        assert owners == [("x", "other"), ("model-deleted", POOL)], "news, but no history"
        store.trouble = "is gone"
        await history.forget("other")  # no error reaches who deletes

    run_virtual(scene())


def test_forgetting_while_the_store_is_about_to_refuse() -> None:
    async def scene() -> None:
        store = MemoryStore()
        bus, history, _ = made(store)
        bus.publish("x", model_id="gone")
        bus.publish("x", model_id="other")
        store.trouble = "cannot be written: the disk is full"
        writing = asyncio.ensure_future(history.flush())
        await asyncio.sleep(0)
        await history.forget("gone")
        await writing
        store.trouble = ""
        await history.flush()
        assert [row.model_id for row in store.rows] == ["other"]

    run_virtual(scene())


# -- reading ---------------------------------------------------------------------------------------


def test_the_past_of_a_model_survives_its_manager(tmp_path: Path) -> None:
    async def first(store: Store) -> None:
        wall = Wall()
        bus, history, _ = made(store, wall)
        move(bus, "m", "WARMING", "COLD", reason="a request came", port=8051)
        move(bus, "n", "WARMING", "COLD")
        wall.now += 2
        move(bus, "m", "HOT", "WARMING", reason="loaded")
        bus.publish("model-evicted", model_id="m", state="HOT", previous="HOT")
        wall.now += 900.5
        move(bus, "m", "COOLING", "HOT")
        await history.flush()

    async def second(store: Store) -> None:
        _, history, _ = made(store, Wall(DAY + 5000))
        found = await history.of("m", 10)
        assert [(e["event"], e["lasted_seconds"]) for e in found] == [
            ("model-cooling", None),
            ("model-evicted", None),
            ("model-hot", 900.5),
            ("model-warming", 2),
        ]
        assert (found[-1]["reason"], found[-1]["port"]) == ("a request came", 8051)
        page = await history.of("m", 1, before=found[1]["number"])
        assert [(e["event"], e["lasted_seconds"]) for e in page] == [("model-hot", 900.5)]
        assert await history.of("m", 5, before=page[0]["number"]) == found[3:]
        assert await history.of("unknown", 5) == ()

    with_store(tmp_path, first)
    with_store(tmp_path, second)


def test_the_last_of_each_model_stay_and_none_for_ever(tmp_path: Path) -> None:
    async def scene(store: Store) -> None:
        wall = Wall()
        bus, history, _ = made(store, wall)
        for n in range(KEPT_PER_MODEL + 50):
            bus.publish("x", model_id="busy", n=n)
        bus.publish("x", model_id="quiet", n=0)
        await history.flush()
        found = await history.of("busy", KEPT_PER_MODEL + 100)
        assert [e["n"] for e in found] == list(range(KEPT_PER_MODEL + 49, 49, -1))
        assert len(await history.of("quiet", 5)) == 1
        wall.now += KEPT_SECONDS + 1
        for n in range(500):
            bus.publish("x", model_id="new", n=n)
        await history.flush()
        assert await history.of("busy", 5) == ()
        assert len(await history.of("quiet", 5)) == 1, "two old ones go for each that comes"
        bus.publish("x", model_id="new", n=-1)
        await history.flush()
        assert await history.of("quiet", 5) == ()
        assert len(await history.of("new", KEPT_PER_MODEL)) == 501

    with_store(tmp_path, scene)


def test_a_leap_of_the_clock_costs_next_to_nothing(tmp_path: Path) -> None:
    async def scene(store: Store) -> None:
        wall = Wall()
        bus, history, _ = made(store, wall)
        for n in range(500):
            bus.publish("x", model_id="m", n=n)
        await history.flush()
        wall.now += 10 * KEPT_SECONDS
        for n in range(500, 503):
            bus.publish("x", model_id="m", n=n)
            await history.flush()
        wall.now -= 10 * KEPT_SECONDS
        bus.publish("x", model_id="m", n=503)
        await history.flush()
        found = await history.of("m", KEPT_PER_MODEL)
        assert [e["n"] for e in found] == list(range(503, 5, -1)), "the oldest went"

    with_store(tmp_path, scene)


def test_the_history_of_a_deleted_model_goes_with_it(tmp_path: Path) -> None:
    async def scene(store: Store) -> None:
        bus, history, _ = made(store)
        models = [Model(name, "fake", "x") for name in ("kept", "gone")]
        await store.write_models(models)
        for model in models:
            bus.publish("x", model_id=model.model_id)
        await history.flush()
        await store.write_models((), ["gone"])
        assert await history.of("gone", 5) == ()
        bus.publish("x", model_id="gone")  # its worker's last words, and then the manager died
        await history.flush()
        await history.tidy()
        assert await history.of("gone", 5) == ()
        assert len(await history.of("kept", 5)) == 1

    with_store(tmp_path, scene)


def test_a_full_disk_is_a_store_error_and_the_pool_goes_on(tmp_path: Path) -> None:
    async def scene(store: Store) -> None:
        bus, history, _ = made(store)
        limit = "PRAGMA max_page_count = {}"
        await store._run(lambda: store._database._db.execute(limit.format(40)))
        for _ in range(40):
            bus.publish("x", reason="x" * 20_000)
        await history.flush()
        assert "the disk is full" in repr(history)
        await store._run(lambda: store._database._db.execute(limit.format(1_000_000)))
        await history.flush()
        assert repr(history) == "<History 0 to write>"

    with_store(tmp_path, scene)


# -- resuming --------------------------------------------------------------------------------------


def test_resuming_over_a_restart_misses_nothing(tmp_path: Path) -> None:
    seen: list[str] = []

    async def first(store: Store) -> None:
        bus, history, _ = made(store)
        bus.publish("a")
        seen.append(bus.publish("b").id)
        seen.append(bus.publish("model-progress", model_id="m").id)
        bus.publish("c")
        seen.append(bus.publish(LAST_OF_A_RUN).id)
        await history.flush()

    async def second(store: Store) -> None:
        bus, _, _ = made(store, Wall(DAY + 1))
        bus.publish("initialized")
        assert await resumed(bus, seen[0]) == (["c", "stopped", "initialized"], "")
        assert await resumed(bus, seen[1]) == (["c", "stopped", "initialized"], "")
        assert await resumed(bus, seen[2]) == (["initialized"], "")

    with_store(tmp_path, first)
    with_store(tmp_path, second)


def test_a_manager_that_was_killed_may_have_said_more(tmp_path: Path) -> None:
    seen: list[str] = []

    async def killed(store: Store) -> None:
        bus, history, _ = made(store)
        seen.append(bus.publish("a").id)
        bus.publish("b")
        await history.flush()
        bus.publish("never written")

    async def second(store: Store) -> None:
        bus, history, _ = made(store, Wall(DAY + 1))
        bus.publish("initialized")
        names, gap = await resumed(bus, seen[0])
        assert names == ["b", "initialized"]
        assert "ended without a word" in gap
        await history.flush()

    async def stranger(store: Store) -> None:
        bus, _, _ = made(store, Wall(DAY + 2))
        names, gap = await resumed(bus, "abc-7")
        assert (names, "no event of that manager" in gap) == ([], True)

    with_store(tmp_path, killed)
    with_store(tmp_path, second)
    with_store(tmp_path, stranger)


def test_what_the_memory_dropped_comes_from_the_store(tmp_path: Path) -> None:
    async def scene(store: Store) -> None:
        bus, _, _ = made(store)
        first = bus.publish("x0").id
        for n in range(1, 1500):
            bus.publish(f"x{n}", model_id=f"m{n % 2}")
        names, gap = await resumed(bus, first)
        assert names == [f"x{n}" for n in range(1, 1500)]
        assert gap == ""

    with_store(tmp_path, scene)


def test_one_who_comes_from_far_back_gets_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "PAGE", 7)
    seen: list[str] = []

    async def first(store: Store) -> None:
        bus, history, _ = made(store)
        seen.append(bus.publish("x0").id)
        for n in range(1, 50):
            bus.publish(f"x{n}", model_id=f"m{n % 2}")
        bus.publish(LAST_OF_A_RUN)
        await history.flush()

    async def second(store: Store) -> None:
        bus, _, _ = made(store, Wall(DAY + 1))
        for n in range(50, 1100):
            bus.publish(f"x{n}", model_id=f"m{n % 2}")
        names, gap = await resumed(bus, seen[0])
        assert [name for name in names if name != LAST_OF_A_RUN] == [
            f"x{n}" for n in range(1, 1100)
        ]
        assert gap == ""

    with_store(tmp_path, first)
    with_store(tmp_path, second)


async def refuse(*_: Any) -> None:
    raise StoreError(Path("pool.db"), "cannot be written: the disk is full")


@pytest.mark.parametrize("written", [0, 50])
def test_what_the_store_refuses_comes_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    async def scene(store: Store) -> None:
        bus, history, _ = made(store)
        for n in range(written):
            bus.publish(f"x{n}")
        await history.flush()
        monkeypatch.setattr(store, "append_events", refuse)
        for n in range(written, 1550):
            bus.publish(f"x{n}")
        names, gap = await resumed(bus, f"{bus.run}-10")
        assert names == [f"x{n}" for n in range(10, 1550)]
        assert gap == ""

    with_store(tmp_path, scene)


def test_what_the_store_refused_and_nobody_kept_is_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "PENDING", 1200)

    async def scene(store: Store) -> None:
        bus, history, _ = made(store)
        for n in range(50):
            bus.publish(f"x{n}")
        await history.flush()
        monkeypatch.setattr(store, "append_events", refuse)
        for n in range(50, 1550):
            bus.publish(f"x{n}")
        await history.flush()
        names, gap = await resumed(bus, f"{bus.run}-10")
        assert names == [f"x{n}" for n in (*range(10, 50), *range(350, 1550))]
        assert "300 could not be written" in gap
        names, gap = await resumed(bus, f"{bus.run}-350")
        assert (len(names), gap) == (1200, "")

    with_store(tmp_path, scene)


def test_a_manager_may_say_more_after_its_last_word(tmp_path: Path) -> None:
    seen: list[str] = []

    async def first(store: Store) -> None:
        bus, history, _ = made(store)
        seen.append(bus.publish("a").id)
        bus.publish(LAST_OF_A_RUN)
        seen.append(bus.publish("registrar-failed").id)
        await history.flush()

    async def second(store: Store) -> None:
        bus, _, _ = made(store, Wall(DAY + 1))
        bus.publish("initialized")
        told = ["stopped", "registrar-failed", "initialized"]
        assert await resumed(bus, seen[0]) == (told, "")
        assert await resumed(bus, seen[1]) == (["initialized"], "")

    with_store(tmp_path, first)
    with_store(tmp_path, second)


def test_pruned_events_are_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "KEPT_PER_MODEL", 10)

    async def scene(store: Store) -> None:
        bus, history, _ = made(store)
        first = bus.publish("first", model_id="m").id
        for n in range(1200):
            bus.publish("x", model_id="m", n=n)
        await history.flush()
        _, gap = await resumed(bus, first)
        assert "too old" in gap

    with_store(tmp_path, scene)


def test_a_store_that_cannot_be_read_is_a_gap() -> None:
    async def scene() -> None:
        bus, _, _ = made(MemoryStore())
        bus.publish("a")
        names, gap = await resumed(bus, "other-1")
        assert (names, "cannot be read" in gap) == (["a"], True)

    run_virtual(scene())


# -- pure ------------------------------------------------------------------------------------------


def row(
    number: int, run: str = "r", name: str = "x", moved: bool = True, at: float = 0
) -> EventRow:
    return EventRow(run, number, name, "m", at, moved, "{}", number)


@pytest.mark.parametrize(
    ("first", "before", "rows", "run", "is_whole"),
    [
        (2, row(1), [row(2), row(3)], "r", True),
        (2, None, [row(2)], "r", False),
        (2, row(1, "former"), [row(2)], "r", True),
        (3, row(1, "former"), [row(3)], "r", False),
        (2, row(1), [], "r", True),
        (1, None, [], "r", True),
        (None, None, [], "r", True),
        (None, None, [], "next", False),
        (2, row(1), [row(3)], "r", False),
        (2, row(1), [row(2), row(4)], "r", False),
        (2, row(1), [row(2)], "next", True),
        (2, row(1), [], "next", False),
        (2, row(1, "left"), [], "next", True),
        (2, row(1), [row(2, "next")], "next", False),
        (2, row(1), [row(2, "left"), row(3, "next")], "next", False),
    ],
)
def test_when_something_may_be_missing(
    first: int | None, before: EventRow | None, rows: list[EventRow], run: str, is_whole: bool
) -> None:
    page = Page(first, tuple(rows), before, frozenset({"left"}))
    after = before.run if before is not None and before.run == "left" else "r"
    assert (missing(page, after, run) == "") is is_whole


def test_how_long_states_lasted() -> None:
    rows = [row(3, at=30), row(2, at=20, moved=False), row(1, at=10)]
    assert [e["lasted_seconds"] for e in timeline(rows, None)] == [None, None, 20]
    assert [e["lasted_seconds"] for e in timeline(rows, 45)] == [15, None, 20]
