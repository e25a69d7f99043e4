"""The loop: woken by transitions, patient with failures, loud on edges, bounded at the end."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping

import pytest
from modelpool.registrars.base import RegistrarFailed
from modelpool.registrars.record import Record
from support.shelf import Desk, record
from support.virtual_time import run_virtual


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


def test_events_that_change_nothing_ask_nothing_of_the_registry() -> None:
    async def scene(desk: Desk) -> None:
        desk.wanted = {i: record(i) for i in "abc"}
        desk.reconciler.wake()
        await asyncio.sleep(0.01)
        desk.shelf.calls.clear()
        for _ in range(2400):
            desk.reconciler.wake()
            await asyncio.sleep(0.005)
        calls = [what for _, what in desk.shelf.calls]
        assert calls == ["find", "keep"] * 2, "once in a period of 5 s"

    play(scene)


def test_what_moves_is_told_without_renewing_the_rest_and_that_comes_in_time() -> None:
    async def scene(desk: Desk) -> None:
        desk.wanted["a"] = record("a")
        for n in range(40):
            desk.wanted[f"{n}"] = record(f"{n}")
            desk.reconciler.wake()
            await asyncio.sleep(0.5)
            assert set(desk.shelf.listed) == set(desk.wanted)
        kept = [at for at, what in desk.shelf.calls if what == "keep"]
        gaps = [b - a for a, b in itertools.pairwise(kept)]
        assert gaps == pytest.approx([5, 5, 5])

    play(scene)


def test_records_that_cannot_be_told_are_a_failure_like_any_other() -> None:
    async def scene(desk: Desk) -> None:
        def broken() -> Mapping[str, Record]:
            raise KeyError("a replica that is gone")

        whole, desk.reconciler._records = desk.reconciler._records, broken
        desk.reconciler.wake()
        await asyncio.sleep(0.01)
        assert [event for event, _ in desk.told] == ["registrar-failed"]
        assert desk.reconciler.view()["status"] == "failing"
        desk.reconciler._records = whole
        await asyncio.sleep(1)
        assert desk.reconciler.view()["status"] == "ok"

    play(scene)


def test_a_round_can_be_had_out_of_turn() -> None:
    async def scene(desk: Desk) -> None:
        desk.wanted["a"] = record("a")
        assert await desk.reconciler.settle()
        desk.shelf.calls.clear()
        assert await desk.reconciler.settle()
        assert desk.shelf.calls == []
        assert await desk.reconciler.settle(renew=True)
        assert [what for _, what in desk.shelf.calls] == ["find", "keep"]

    play(scene)


def test_who_does_not_trust_what_is_there_writes_it_anew_once() -> None:
    async def main() -> list[str]:
        desk = Desk()
        desk.wanted["a"] = desk.shelf.listed["a"] = record("a")
        desk.reconciler.writes_anew = True
        for _ in range(2):
            await desk.reconciler.settle(renew=True)
        return [what for _, what in desk.shelf.calls]

    assert run_virtual(main()) == ["find", "put a", "find", "keep"]


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
        desk.wanted["b"] = record("b")
        desk.reconciler.wake()
        await asyncio.sleep(0.5)  # it has read what is wanted
        desk.wanted["a"] = record("a")
        desk.reconciler.wake()
        await asyncio.sleep(4)
        assert set(desk.shelf.listed) == {"a", "b"}

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
        desk.wanted["a"] = record("a")
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
        desk.wanted["a"] = record("a")
        desk.reconciler.wake()
        await asyncio.sleep(0.01)
        ((event, reason),) = desk.told
        assert event == "registrar-failed"
        assert "http http://127.0.0.1:6121 does not answer as one of its kind" in reason
        desk.shelf.trouble = None
        await asyncio.sleep(1)
        assert desk.told[-1][0] == "registrar-recovered"

    play(scene)


def test_a_round_that_does_not_end_is_given_up() -> None:
    async def scene(desk: Desk) -> None:
        desk.shelf.seconds = 1e6
        desk.wanted["a"] = record("a")
        desk.reconciler.wake()
        await asyncio.sleep(40)
        assert desk.told == [
            ("registrar-failed", "http http://127.0.0.1:6121 was not done after 30 s")
        ]
        desk.shelf.seconds = 0
        await asyncio.sleep(31)
        assert desk.told[-1][0] == "registrar-recovered"

    play(scene)
