"""The note of what has to be ended names commands: whose it is counts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from modelpool_client.wire import LEFT_BEHIND_NAME
from modelpool_worker.clean import clean
from modelpool_worker.left_behind import note_command


def _note(folder: Path) -> tuple[Path, Path]:
    """The note, and the file that its command makes."""
    done = folder.parent / "done"
    note_command(str(folder), ["touch", str(done)], dict(os.environ), None, 10)
    return folder / LEFT_BEHIND_NAME, done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "worker"
    made.mkdir(mode=0o700)
    return made


def test_what_it_names_is_run_once(folder: Path) -> None:
    note, done = _note(folder)
    assert clean(str(note)) == 0
    assert done.exists()
    assert not note.exists()


def _link(note: Path) -> None:
    real = note.with_name("real")
    note.rename(real)
    note.symlink_to(real)


def _pipe(note: Path) -> None:
    note.unlink()
    os.mkfifo(note, 0o600)


def _linked_folder(note: Path) -> None:
    real = note.parent.with_name("elsewhere")
    note.parent.rename(real)
    note.parent.symlink_to(real)


def _list(note: Path) -> None:
    note.write_text(json.dumps(["command"]))


def _nothing_in_it(note: Path) -> None:
    note.write_text("{}")


def _no_command(note: Path) -> None:
    note.write_text(json.dumps({"command": 5}))


CHANGES: list[Callable[[Path], object]] = [
    lambda note: note.chmod(0o666),
    lambda note: note.parent.chmod(0o777),
    _link,
    _linked_folder,
    _pipe,
    _list,
    _nothing_in_it,
    _no_command,
]


@pytest.mark.parametrize("change", CHANGES)
def test_one_that_others_may_have_written_or_that_is_none_is_not_followed(
    folder: Path, change: Callable[[Path], object], capfd: pytest.CaptureFixture[str]
) -> None:
    note, done = _note(folder)
    change(note)
    assert clean(str(note)) == 1
    assert not done.exists()
    assert "is not followed" in capfd.readouterr().err


def test_one_of_another_user_is_not_followed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    note, done = _note(folder)
    monkeypatch.setattr(os, "geteuid", lambda: note.stat().st_uid + 1)
    assert clean(str(note)) == 1
    assert not done.exists()
    assert "another user" in capfd.readouterr().err
