"""Responses are kept first and written then: found meanwhile by whoever asks, and lost by a process
that is killed only."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, ParamSpec

import pytest
import uvloop
from modelpool_client import response_store, response_writers
from modelpool_client.errors import Unavailable
from modelpool_client.owners import NOBODY
from modelpool_client.response_files import ResponseFiles
from modelpool_client.response_store import ResponseStore
from modelpool_client.response_writers import Listener

MOST = 10_000
P = ParamSpec("P")


@pytest.fixture(autouse=True)
def _slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept stays unwritten for the time of a test, unless somebody is in a hurry."""
    monkeypatch.setattr(response_store, "TOGETHER_SECONDS", 60)
    monkeypatch.setattr(response_store, "RETRY_SECONDS", 0.02)


def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_store, "TOGETHER_SECONDS", 0.001)


def runs(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 30))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    run.__wrapped__ = test  # type: ignore[attr-defined]
    return run


@contextlib.asynccontextmanager
async def a_store(
    folder: Path, name: str = "1", most: int = MOST, *, is_alone: bool = False
) -> AsyncIterator[ResponseStore]:
    """One that others may ask, unless it ``is_alone``."""
    run = folder / f"run-{name}"
    run.mkdir(exist_ok=True)
    store = ResponseStore(folder / "r", most, "" if is_alone else f"{run}/7.kept")
    try:
        yield store
    finally:
        await store.close()


def written(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "r").glob("*.json"))


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


class Disk:
    """Stands in the way of all that is written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.goes_on = threading.Event()
        self.is_full = False
        self.tried = 0
        write = ResponseFiles.write

        def slowly(files: ResponseFiles, response_id: str, data: bytes) -> None:
            self.tried += 1
            assert self.goes_on.wait(60)
            if self.is_full:
                raise OSError(28, "No space left on device")
            write(files, response_id, data)

        monkeypatch.setattr(ResponseFiles, "write", slowly)


@runs
async def test_it_is_found_before_it_is_written(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        assert await store.keep("resp_a", {"text": "ä"})
        assert written(tmp_path) == []
        assert await store.find("resp_a") == {"text": "ä"}
        assert await store.find("resp_b") is None
        assert await store.drop("resp_a")
        assert await store.find("resp_a") is None
        assert not await store.drop("resp_a")
    assert written(tmp_path) == []


@runs
async def test_others_find_it_before_it_is_written(tmp_path: Path) -> None:
    async with (
        a_store(tmp_path, "1") as one,
        a_store(tmp_path, "2") as two,
        a_store(tmp_path, is_alone=True) as manager,
    ):
        await one.keep("resp_a", {"text": "a"})
        await two.keep("resp_b", {"text": "b"})
        for store in (one, two, manager):
            assert (await store.find("resp_a"))["text"] == "a"
            assert (await store.find("resp_b"))["text"] == "b"
            assert await store.find("resp_c") is None
        assert written(tmp_path) == []
        assert await manager.drop("resp_a")
        assert await two.drop("resp_b")
        for store in (one, two, manager):
            assert await store.find("resp_a") is await store.find("resp_b") is None
            assert not await store.drop("resp_a")
    assert written(tmp_path) == []


@runs
async def test_another_key_finds_nothing_that_is_not_written(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store, a_store(tmp_path, is_alone=True) as manager:
        await store.keep("resp_a", {"text": "x"}, "me")
        for asked in (store, manager):
            for other in ("you", NOBODY):
                assert await asked.find("resp_a", other) is None
                assert not await asked.drop("resp_a", other)
            assert (await asked.find("resp_a", "me"))["text"] == "x"
        assert await manager.drop("resp_a", "me")


@runs
async def test_it_is_written_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once(monkeypatch)
    async with a_store(tmp_path) as store, a_store(tmp_path, is_alone=True) as manager:
        await store.keep("resp_a", {"text": "x"})
        await until(lambda: written(tmp_path) == ["resp_a"] and "0 not written" in repr(store))
        for asked in (store, manager):
            assert await asked.find("resp_a") == {"text": "x"}
        assert await manager.drop("resp_a")
        assert await store.find("resp_a") is None
        await store.keep("resp_b", {})
        await until(lambda: written(tmp_path) == ["resp_b"])


@runs
async def test_what_is_deleted_while_it_is_written_stays_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once(monkeypatch)
    disk = Disk(monkeypatch)
    async with a_store(tmp_path) as store, a_store(tmp_path, is_alone=True) as manager:
        for who in (store, manager):
            disk.goes_on.clear()
            tried = disk.tried
            await store.keep("resp_a", {})
            await until(lambda tried=tried: disk.tried > tried)  # type: ignore[misc]
            assert await who.find("resp_a") == {}
            dropping = asyncio.create_task(who.drop("resp_a"))
            await asyncio.sleep(0.05)
            disk.goes_on.set()
            assert await dropping
            assert await who.find("resp_a") is None
            assert written(tmp_path) == []


@runs
async def test_the_end_writes_what_is_left(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        for i in range(20):
            await store.keep(f"resp_{i:02}", {"i": i})
        assert written(tmp_path) == []
    assert written(tmp_path) == [f"resp_{i:02}" for i in range(20)]
    assert list((tmp_path / "r" / "writers").iterdir()) == []
    assert list((tmp_path / "run-1").iterdir()) == []
    async with a_store(tmp_path) as store:
        assert await store.find("resp_07") == {"i": 7}


@runs
async def test_who_ends_meanwhile_is_asked_in_vain_and_has_written_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look for the file and the question."""
    look = ResponseFiles.get
    asked = 0
    loop = asyncio.get_running_loop()

    async with a_store(tmp_path) as store, a_store(tmp_path, is_alone=True) as manager:
        await store.keep("resp_a", {"a": 1})

        def slowly(files: ResponseFiles, response_id: str, owner: str = NOBODY) -> Any:
            nonlocal asked
            asked += 1
            found = look(files, response_id, owner)
            if asked == 1:
                asyncio.run_coroutine_threadsafe(store.close(), loop).result(20)
            return found

        monkeypatch.setattr(ResponseFiles, "get", slowly)
        assert await manager.find("resp_a") == {"a": 1}
        assert asked == 2


@runs
async def test_a_full_disk_is_said_once_and_answers_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    at_once(monkeypatch)
    disk = Disk(monkeypatch)
    disk.goes_on.set()
    disk.is_full = True
    async with a_store(tmp_path) as store, a_store(tmp_path, is_alone=True) as manager:
        assert await store.keep("resp_a", {"a": 1})
        await until(lambda: disk.tried >= 3)
        assert [r.levelname for r in caplog.records] == ["WARNING"]
        assert "No space left on device" in caplog.text
        for asked in (store, manager):
            assert await asked.find("resp_a") == {"a": 1}
        assert await store.keep("resp_b", {})
        assert await manager.drop("resp_b")
        disk.is_full = False
        await until(lambda: written(tmp_path) == ["resp_a"])


@runs
async def test_a_full_disk_lets_go_of_the_oldest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    at_once(monkeypatch)
    disk = Disk(monkeypatch)
    disk.goes_on.set()
    disk.is_full = True
    async with a_store(tmp_path, most=1000) as store:
        for i in range(30):
            assert await store.keep(f"resp_{i:02}", {"x": "y" * 90})
            await until(lambda: "1 not" in repr(store) or disk.tried > 1)
        found = [i for i in range(30) if await store.find(f"resp_{i:02}")]
        assert found == list(range(30 - len(found), 30))
        assert 5 <= len(found) <= 10
        assert "resp_00 is not kept any more" in caplog.text
    assert f"{len(found)} responses are lost" in caplog.text


@runs
async def test_a_folder_that_is_removed_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once(monkeypatch)
    async with a_store(tmp_path) as store:
        await store.keep("resp_a", {})
        await until(lambda: written(tmp_path) == ["resp_a"])
        shutil.rmtree(tmp_path / "r")
        await store.keep("resp_b", {})
        await until(lambda: written(tmp_path) == ["resp_b"])
        assert await store.find("resp_a") is None
        monkeypatch.setattr(response_store, "TOGETHER_SECONDS", 60)
        await store.keep("resp_c", {"c": 1})
        async with a_store(tmp_path, is_alone=True) as manager:
            assert await manager.find("resp_c") == {"c": 1}


@runs
async def test_more_than_memory_holds_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    async with a_store(tmp_path, most=1000) as store:
        many = [store.keep(f"resp_{i:02}", {"x": "y" * 90}) for i in range(15)]
        keeping = asyncio.gather(*many)
        await until(lambda: disk.tried > 0)
        assert not keeping.done()
        disk.goes_on.set()
        assert all(await keeping)
        assert await store.find("resp_14")


@runs
async def test_a_disk_that_hangs_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once(monkeypatch)
    monkeypatch.setattr(response_store, "DISK_SECONDS", 0.05)
    disk = Disk(monkeypatch)
    monkeypatch.setattr(ResponseFiles, "get", lambda *_: disk.goes_on.wait(60))
    async with a_store(tmp_path, most=1000) as store:
        assert await store.keep("resp_a", {"x": "y" * 500}), "its client has it"
        await until(lambda: disk.tried > 0)
        assert not await store.keep("resp_b", {"x": "y" * 500})
        assert await store.find("resp_a"), "it is in memory"
        for work in (store.drop("resp_a"), store.find("resp_c")):
            with pytest.raises(Unavailable, match="did not answer"):
                await work
        disk.goes_on.set()


@runs
async def test_a_writer_that_hangs_is_no_reason_to_say_there_is_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response_writers, "ANSWER_SECONDS", 0.05)
    goes_on = asyncio.Event()

    async def never(_: str, __: str) -> bytes:
        await goes_on.wait()
        return b""

    async with a_store(tmp_path) as store, a_store(tmp_path, is_alone=True) as manager:
        monkeypatch.setattr(store, "_told", never)
        await store.keep("resp_a", {})
        with pytest.raises(Unavailable, match="did not answer"):
            await manager.find("resp_a")
        goes_on.set()


@runs
async def test_a_writer_that_fails_is_no_reason_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(_: str, __: str) -> bytes:
        raise KeyError("resp_a")

    async with a_store(tmp_path) as store, a_store(tmp_path, is_alone=True) as manager:
        monkeypatch.setattr(store, "_told", fails)
        await store.keep("resp_a", {})
        with pytest.raises(Unavailable, match="failed to answer"):
            await manager.find("resp_a")


@runs
async def test_half_of_an_answer_is_none(tmp_path: Path) -> None:
    path = f"{tmp_path}/7.kept"

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b'9\n{"a"')
        writer.close()

    Listener(tmp_path / "r", path, {}).announce()
    async with (
        await asyncio.start_unix_server(half, path),
        a_store(tmp_path, is_alone=True) as manager,
    ):
        with pytest.raises(Unavailable, match="failed to answer"):
            await manager.find("resp_a")


def test_a_writer_that_too_many_ask_is_no_reason_either(tmp_path: Path) -> None:
    path = f"{tmp_path}/7.kept"

    async def ask() -> None:
        Listener(tmp_path / "r", path, {}).announce()
        async with a_store(tmp_path, is_alone=True) as manager:
            for work in (manager.find("resp_a"), manager.drop("resp_a")):
                with pytest.raises(Unavailable, match="cannot be asked"):
                    await work

    with socket.socket(socket.AF_UNIX) as full, contextlib.ExitStack() as asking:
        full.bind(path)
        full.listen(1)
        for _ in range(2):
            other = asking.enter_context(socket.socket(socket.AF_UNIX))
            other.setblocking(False)
            other.connect(path)
        # As in a manager and a worker: asyncio's own loop takes a full queue for a connection.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(ask())


@runs
async def test_who_cannot_say_where_it_is_asked_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung = threading.Event()
    monkeypatch.setattr(Listener, "announce", lambda _: hung.wait(20))
    monkeypatch.setattr(response_writers, "ANSWER_SECONDS", 0.05)
    try:
        async with a_store(tmp_path) as store:
            keeping = asyncio.create_task(store.keep("resp_1", {}))
            await asyncio.sleep(0)  # the loop goes on meanwhile
            assert not keeping.done()
            assert await keeping
            assert written(tmp_path) == ["resp_1"], "it was written first"
    finally:
        hung.set()


def test_what_says_no_path_is_passed_by(tmp_path: Path) -> None:
    folder = tmp_path / response_writers.FOLDER
    folder.mkdir()
    path = os.fsdecode(b"/run/\xff/7.kept")
    (folder / "a").write_bytes(os.fsencode(path))
    (folder / "b").write_bytes(b"")
    assert response_writers.addresses(tmp_path) == [path]


@runs
async def test_who_cannot_be_asked_writes_first(tmp_path: Path) -> None:
    async with a_store(tmp_path, is_alone=True) as alone:
        assert await alone.keep("resp_a", {})
        assert written(tmp_path) == ["resp_a"]
    async with a_store(tmp_path, "n" * 200) as store:
        assert await store.keep("resp_b", {}), "the path is too long for a socket"
        assert written(tmp_path) == ["resp_a", "resp_b"]


@runs
async def test_what_cannot_be_written_first_is_not_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "r").write_text("in the way")
    async with a_store(tmp_path, is_alone=True) as store:
        assert not await store.keep("resp_a", {})
        assert not await store.keep("resp_a", {"x": "y" * MOST})
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2


@runs
async def test_nothing_is_kept_where_none_is_to_be(tmp_path: Path) -> None:
    async with a_store(tmp_path, most=0) as store:
        assert not await store.keep("resp_a", {})
    assert not (tmp_path / "r").exists()


KEEPER = """
    import asyncio, sys
    from pathlib import Path
    from modelpool_client.response_store import ResponseStore

    async def main() -> None:
        store = ResponseStore(Path(sys.argv[1]) / "r", 1 << 30, sys.argv[1] + "/run/1.kept")
        for i in range(1_000_000):
            await store.keep(f"resp_{i}", {"i": i, "text": "x" * 5000})
            print(i, flush=True)
            await asyncio.sleep(0)

    asyncio.run(main())
"""


def test_who_is_killed_leaves_nothing_torn(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    code = textwrap.dedent(KEEPER)
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as keeper:
        assert keeper.stdout is not None
        last = 0
        while len(written(tmp_path)) < 100:
            last = int(keeper.stdout.readline())
        os.kill(keeper.pid, signal.SIGKILL)
    found = sorted(int(name.removeprefix("resp_")) for name in written(tmp_path))
    assert found == list(range(len(found))), "what is lost is what came last"
    for i in found:
        kept = json.loads((tmp_path / "r" / f"resp_{i}.json").read_bytes())
        assert (kept["i"], len(kept["text"])) == (i, 5000)

    @runs
    async def ask() -> None:
        async with a_store(tmp_path, is_alone=True) as manager:
            assert await manager.find("resp_0")
            assert await manager.find(f"resp_{last + 10_000}") is None
        assert list((tmp_path / "r" / "writers").iterdir()) == []

    ask()
