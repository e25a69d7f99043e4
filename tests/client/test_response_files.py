"""The files of responses: found again by whoever shares the folder, bounded, never half."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from modelpool_client.owners import NOBODY
from modelpool_client.response_files import KEPT_SECONDS, ResponseFiles, encoded


class Clock:
    def __init__(self) -> None:
        self.seconds = 1e9

    def __call__(self) -> float:
        self.seconds += 1
        return self.seconds


def names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.iterdir()) if folder.exists() else []


def test_what_one_has_kept_another_finds(tmp_path: Path) -> None:
    mine, other = (ResponseFiles(tmp_path / "r", 10_000) for _ in range(2))
    assert mine.get("resp_a") is None
    mine.write("resp_a", encoded({"text": "ä"}, NOBODY))
    assert other.get("resp_a") == {"text": "ä"}
    assert other.delete("resp_a")
    assert not mine.delete("resp_a")
    assert mine.get("resp_a") is None


def test_another_key_finds_nothing(tmp_path: Path) -> None:
    files = ResponseFiles(tmp_path, 10_000)
    files.write("resp_mine", encoded({"text": "x"}, "me"))
    files.write("resp_all", encoded({"text": "y"}, NOBODY))
    for other in ("you", NOBODY):
        assert files.get("resp_mine", other) is None
        assert not files.delete("resp_mine", other)
    assert files.get("resp_mine", "me")["text"] == "x"
    assert files.get("resp_all", "you") == files.get("resp_all") == {"text": "y"}
    assert files.delete("resp_mine", "me")


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    ResponseFiles(tmp_path / "r", 10_000).write("resp_a", b"{}")
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "r", *(tmp_path / "r").iterdir())]
    assert modes == [0o700, 0o600]


@pytest.mark.parametrize("name", ["", "..", "../x", "resp_", "resp_../x", "resp_a/b", "resp_a\0"])
def test_a_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.json").write_text("{}")
    files = ResponseFiles(tmp_path / "r", 10_000)
    assert files.get(name) is None
    assert not files.delete(name)
    assert (tmp_path / "x.json").exists()


def test_the_oldest_make_room(tmp_path: Path) -> None:
    (tmp_path / "writers").mkdir()
    files = ResponseFiles(tmp_path, 1000, Clock())
    for i in range(50):
        files.write(f"resp_{i:02}", encoded({"x": "y" * 90}, NOBODY))
        assert files.get("resp_00"), "it is used all the time"
        sizes = [p.stat().st_size for p in tmp_path.glob("*.json")]
        assert sum(sizes) <= 1000 * (1 + 2 / 16) + 100
    assert names(tmp_path)[0] == "resp_00"
    assert names(tmp_path)[-2:] == ["resp_49", "writers"], "which is no file"
    assert 8 < len(names(tmp_path)) < 13


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    clock = Clock()
    files = ResponseFiles(tmp_path, 10_000, clock)
    files.write("resp_old", b"{}")
    (tmp_path / "left.unfinished").write_text("half")
    os.utime(tmp_path / "left.unfinished", (clock.seconds, clock.seconds))
    clock.seconds += KEPT_SECONDS
    files.write("resp_new", b"{}")
    files.make_room()
    assert names(tmp_path) == ["resp_new"]


def test_nothing_stays_where_none_is_to_be(tmp_path: Path) -> None:
    ResponseFiles(tmp_path, 1000).write("resp_a", b"{}")
    ResponseFiles(tmp_path, 0).make_room()
    assert names(tmp_path) == []


@pytest.mark.parametrize("garbage", ["{", "[]", "1", ""])
def test_garbage_is_nothing(tmp_path: Path, garbage: str) -> None:
    (tmp_path / "resp_a.json").write_text(garbage)
    files = ResponseFiles(tmp_path, 1000)
    assert files.get("resp_a") is None
    files.write("resp_a", b'{"a":1}')
    assert json.loads((tmp_path / "resp_a.json").read_text()) == {"a": 1}
