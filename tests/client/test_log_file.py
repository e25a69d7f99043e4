"""Logs that rotate while processes write them: real processes, real files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from modelpool_client.log_file import begins_at, rotate
from modelpool_client.wire import LogLimits

# Logs, and a thing or two that knows nothing of it, as native code and dying interpreters do.
WRITER = r"""
import logging, os, sys
from modelpool_client.log_file import LogOutput
from modelpool_client.wire import LogLimits

path, name, lines, size, files = sys.argv[1:]
output = LogOutput(path, LogLimits(int(size), int(files)))
logging.basicConfig(stream=output, level="INFO", format="%(message)s")
for number in range(int(lines)):
    logging.info("%s %d.", name, number)
    if number % 10 == 9:
        os.write(1, f"{name} print {number}.\n".encode())
"""


def started(
    log: Path, name: str, lines: int, size: int = 1000, files: int = 1000, to: Path | None = None
) -> subprocess.Popen[bytes]:
    args = [sys.executable, "-c", WRITER, log, name, str(lines), str(size), str(files)]
    with (to or log).open("ab") as out:
        return subprocess.Popen(args, stdout=out, stderr=out)


def files_of(log: Path) -> list[Path]:
    """The newest first."""
    older = sorted(log.parent.glob(f"{log.name}.*"), key=lambda f: int(f.suffix[1:]))
    return [log, *older]


def expected(name: str, lines: int) -> list[str]:
    printed = [f"{name} print {n}." for n in range(9, lines, 10)]
    return sorted(printed + [f"{name} {n}." for n in range(lines)])


def test_processes_that_share_a_log_rotate_it_and_lose_nothing(tmp_path: Path) -> None:
    log = tmp_path / "m.log"
    names = ["a", "b", "c"]
    for process in [started(log, name, 400) for name in names]:
        assert process.wait(60) == 0
    files = files_of(log)
    assert len(files) > 2
    lines = [line for f in files for line in f.read_text().splitlines()]
    said = sorted(line for line in lines if not line.startswith("--"))
    assert said == sorted(line for name in names for line in expected(name, 400))
    for newer in files[:-1]:
        assert re.match(r"-- this log continues at byte \d+\n", newer.read_text())


def test_there_is_a_file_at_every_moment(tmp_path: Path) -> None:
    """A writer that finds none begins another, which the rotation then overwrites."""
    log, missed, is_over = tmp_path / "m.log", 0, threading.Event()
    log.write_text("x" * 1000)

    def watch() -> None:
        nonlocal missed
        while not is_over.is_set():
            missed += not log.exists()

    watching = threading.Thread(target=watch)
    watching.start()
    for _ in range(2000):
        rotate(str(log), LogLimits(max_bytes=1, max_files=3))
    is_over.set()
    watching.join()
    assert missed == 0


def test_each_file_says_what_was_logged_before_it(tmp_path: Path) -> None:
    log = tmp_path / "m.log"
    assert started(log, "a", 300).wait(60) == 0
    before = 0
    for file in reversed(files_of(log)):
        with file.open("rb") as f:
            assert begins_at(f) == before
        before += file.stat().st_size
        assert file.stat().st_size < 1000 + 100


def test_only_so_many_files_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "m.log"
    assert started(log, "a", 300, files=2).wait(60) == 0
    assert [f.name for f in files_of(log)] == ["m.log", "m.log.1"]
    assert "a 299." in log.read_text()


def test_what_is_not_the_log_is_only_written(tmp_path: Path) -> None:
    log, other = tmp_path / "m.log", tmp_path / "other.log"
    log.write_text("of somebody else\n" * 200)
    assert started(log, "a", 300, to=other).wait(60) == 0
    assert sorted(other.read_text().splitlines()) == expected("a", 300)
    assert files_of(other) == [other]
    assert files_of(log) == [log]


def test_standard_output_stays_where_it_is_if_it_is_not_the_log(tmp_path: Path) -> None:
    log = tmp_path / "m.log"
    args = [sys.executable, "-c", WRITER, log, "a", "300", "1000", "1000"]
    with log.open("ab") as out:
        done = subprocess.run(args, stdout=subprocess.PIPE, stderr=out, timeout=60, check=True)
    assert done.stdout.decode().splitlines() == [f"a print {n}." for n in range(9, 300, 10)]
    assert len(files_of(log)) > 1


def test_a_log_that_a_tool_has_moved_is_begun_anew(tmp_path: Path) -> None:
    log = tmp_path / "m.log"
    script = WRITER.replace("    logging.info", "    sys.stdin.readline()\n    logging.info")
    args = [sys.executable, "-c", script, log, "a", "2", "2000", "5"]
    with log.open("ab") as out:
        process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=out, stderr=out)
        assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    while not log.read_text():
        assert process.poll() is None
    log.rename(tmp_path / "moved")
    process.communicate(b"\n", 60)
    assert (tmp_path / "moved").read_text() == "a 0.\n"
    assert log.read_text() == "a 1.\n"


def test_a_log_that_cannot_be_rotated_is_written_on(tmp_path: Path) -> None:
    log = tmp_path / "m.log"
    (tmp_path / "m.log.1").mkdir()
    assert started(log, "a", 300, files=2).wait(60) == 0
    assert sorted(log.read_text().splitlines()) == expected("a", 300)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["m.log", "m.log.1"]


def test_files_beyond_a_lower_limit_go(tmp_path: Path) -> None:
    log = tmp_path / "m.log"
    for files in (6, 6, 6, 6, 3):
        with log.open("a") as f:
            f.write("12345")
        rotate(str(log), LogLimits(1, files))
    assert [f.name for f in files_of(log)] == ["m.log", "m.log.1", "m.log.2"]


def test_a_folder_that_is_gone_hinders_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    process = started(folder / "m.log", "a", 300)
    shutil.rmtree(folder)
    assert process.wait(60) == 0


@pytest.mark.parametrize(("size", "is_rotated"), [(4, True), (5, True), (6, False)])
def test_full_is_what_has_reached_the_limit(tmp_path: Path, size: int, is_rotated: bool) -> None:
    log = tmp_path / "m.log"
    rotate(str(log), LogLimits(size))
    log.write_text("12345")
    rotate(str(log), LogLimits(size))
    assert (tmp_path / "m.log.1").exists() == is_rotated
    assert os.path.getsize(log) == (len("-- this log continues at byte 5\n") if is_rotated else 5)
