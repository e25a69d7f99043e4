"""What is kept of responses: found again by whoever shares the folder, bounded, never half."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import threading
from pathlib import Path

import pytest
from modelpool_client.errors import Unavailable
from modelpool_client.owners import NOBODY
from modelpool_client.response_store import KEPT_SECONDS, ResponseStore


class Clock:
    def __init__(self) -> None:
        self.seconds = 1e9

    def __call__(self) -> float:
        self.seconds += 1
        return self.seconds


def names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.iterdir()) if folder.exists() else []


def test_what_one_has_kept_another_finds(tmp_path: Path) -> None:
    mine, other = (ResponseStore(tmp_path / "r", 10_000) for _ in range(2))
    assert mine.get("resp_a") is None
    assert mine.put("resp_a", {"text": "ä"})
    assert other.get("resp_a") == {"text": "ä"}
    assert other.delete("resp_a")
    assert not mine.delete("resp_a")
    assert mine.get("resp_a") is None


def test_another_key_finds_nothing(tmp_path: Path) -> None:
    store = ResponseStore(tmp_path, 10_000)
    store.put("resp_mine", {"text": "x"}, "me")
    store.put("resp_all", {"text": "y"})
    for other in ("you", NOBODY):
        assert store.get("resp_mine", other) is None
        assert not store.delete("resp_mine", other)
    assert store.get("resp_mine", "me")["text"] == "x"
    assert store.get("resp_all", "you") == store.get("resp_all") == {"text": "y"}
    assert store.delete("resp_mine", "me")


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    ResponseStore(tmp_path / "r", 10_000).put("resp_a", {})
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "r", *(tmp_path / "r").iterdir())]
    assert modes == [0o700, 0o600]


@pytest.mark.parametrize("name", ["", "..", "../x", "resp_", "resp_../x", "resp_a/b", "resp_a\0"])
def test_a_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.json").write_text("{}")
    store = ResponseStore(tmp_path / "r", 10_000)
    assert store.get(name) is None
    assert not store.delete(name)
    assert (tmp_path / "x.json").exists()


def test_the_oldest_make_room(tmp_path: Path) -> None:
    store = ResponseStore(tmp_path, 1000, Clock())
    for i in range(50):
        assert store.put(f"resp_{i:02}", {"x": "y" * 90})
        assert store.get("resp_00"), "it is used all the time"
        assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 1000 * (1 + 2 / 16) + 100
    assert names(tmp_path)[0] == "resp_00"
    assert names(tmp_path)[-1] == "resp_49"
    assert len(names(tmp_path)) < 12


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    clock = Clock()
    store = ResponseStore(tmp_path, 10_000, clock)
    store.put("resp_old", {})
    (tmp_path / "left.unfinished").write_text("half")
    os.utime(tmp_path / "left.unfinished", (clock.seconds, clock.seconds))
    clock.seconds += KEPT_SECONDS
    store.put("resp_new", {})
    store.make_room()
    assert names(tmp_path) == ["resp_new"]


def test_nothing_is_kept_where_none_is_to_be(tmp_path: Path) -> None:
    ResponseStore(tmp_path, 1000).put("resp_a", {})
    store = ResponseStore(tmp_path, 0)
    assert not store.put("resp_b", {})
    store.make_room()
    assert names(tmp_path) == []


def test_what_cannot_be_written_is_not_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert not ResponseStore(tmp_path / "file", 1000).put("resp_a", {})
    assert not ResponseStore(tmp_path / "r", 1000).put("resp_a", {"x": "y" * 1000})
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert names(tmp_path / "r") == []


def test_garbage_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "resp_a.json").write_text("{")
    store = ResponseStore(tmp_path, 1000)
    assert store.get("resp_a") is None
    assert store.put("resp_a", {"a": 1})
    assert json.loads((tmp_path / "resp_a.json").read_text()) == {"a": 1}


def test_a_disk_that_hangs_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelpool_client.response_store.DISK_SECONDS", 0.05)
    goes_on = threading.Event()
    store = ResponseStore(tmp_path, 1000)
    for name in ("get", "put", "delete"):
        monkeypatch.setattr(store, name, lambda *_: goes_on.wait(60))

    async def ask() -> None:
        assert not await store.keep("resp_a", {})
        for work in (store.find, store.drop):
            with pytest.raises(Unavailable, match="did not answer"):
                await work("resp_a")
        goes_on.set()

    asyncio.run(ask())
