"""A process that has answered waits for the next question, and nobody depends on it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from modelpool import describing as module
from modelpool.describing import WORKER, Describer

# Says how often such a process was started, in which way and with what it was asked; the argument
# `crash` ends one that is asked again and again, and `hang` does not answer before a file is there.
PROGRAM = """
import json, os, sys, time
folder, _, *arguments = sys.argv[1:]
open(os.path.join(folder, "starts"), "a").write("x")
def answer(arguments, data, is_kept):
    if is_kept and arguments == ["crash"]:
        sys.exit(3)
    if arguments == ["fork"]:
        os.fork()
    while arguments in (["hang"], ["fork"]) and not os.path.exists(os.path.join(folder, "go")):
        time.sleep(0.01)
    starts = os.path.getsize(os.path.join(folder, "starts"))
    told = {"arguments": arguments, "data": data, "kept": is_kept, "start": starts}
    print(json.dumps(told), flush=True)
if arguments != ["--each"]:
    answer(arguments, sys.stdin.read(), False)
else:
    for line in sys.stdin:
        asked = json.loads(line)
        answer(asked["arguments"], asked["data"], True)
"""
LONG_SECONDS = 600.0


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[float], Describer]]:
    made: list[Describer] = []

    def describer(keep_seconds: float) -> Describer:
        command = (sys.executable, "-c", PROGRAM, str(tmp_path))
        made.append(Describer(command, keep_seconds))
        return made[-1]

    yield describer
    (tmp_path / "go").touch()
    for one in made:
        one.end()


def until(question: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def starts(told: dict[str, Any] | None) -> tuple[int, bool]:
    assert told is not None
    return told["start"], told["kept"]


def test_a_process_answers_more_than_one_question(make: Any) -> None:
    kept, each = make(LONG_SECONDS), make(0)
    long = "x" * 1_000_000
    assert kept.ask("a", "b", data=long) == {
        "arguments": ["a", "b"],
        "data": long,
        "kept": True,
        "start": 1,
    }
    assert starts(kept.ask("c")) == (1, True)
    assert starts(each.ask("c")) == (2, False)
    kept.end()
    assert starts(kept.ask("c")) == (3, True)


def test_what_may_have_been_installed_is_seen(make: Any) -> None:
    kept = make(LONG_SECONDS)
    assert starts(kept.ask()) == (1, True)
    kept.renew()
    assert [starts(kept.ask()) for _ in range(2)] == [(2, True)] * 2


def test_a_question_that_ends_it_costs_no_answer(make: Any) -> None:
    kept = make(LONG_SECONDS)
    assert starts(kept.ask()) == (1, True)
    assert starts(kept.ask("crash")) == (2, False)
    assert starts(kept.ask()) == (3, True)


def test_a_question_that_hangs_is_given_up(
    make: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept = make(LONG_SECONDS)
    kept.ask()
    monkeypatch.setattr(module, "DESCRIBE_SECONDS", 0.1)
    assert kept.ask("hang") is None
    assert "no answer within" in caplog.text
    monkeypatch.undo()
    assert starts(kept.ask()) == (2, True)


def test_what_a_question_has_started_keeps_nobody(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = make(LONG_SECONDS)
    kept.ask()
    monkeypatch.setattr(module, "DESCRIBE_SECONDS", 0.1)
    asking = threading.Thread(target=kept.ask, args=("fork",), daemon=True)
    asking.start()
    until(lambda: not asking.is_alive())
    monkeypatch.undo()
    assert starts(kept.ask()) == (2, True)


def test_nobody_waits_for_a_question_that_hangs(make: Any, tmp_path: Path) -> None:
    kept = make(LONG_SECONDS)
    kept.ask()
    told: list[Any] = []
    asking = threading.Thread(target=lambda: told.append(kept.ask("hang")))
    asking.start()
    until(lambda: starts(kept.ask())[1] is False)
    assert not told
    (tmp_path / "go").touch()
    asking.join()
    assert starts(told[0])[1] is True


def test_one_that_nobody_asks_leaves(make: Any) -> None:
    kept = make(0.01)
    kept.ask()
    until(lambda: kept._process is None)
    assert starts(kept.ask())[0] == 2


def test_one_that_is_asked_all_the_time_is_replaced(make: Any) -> None:
    kept = make(0.2)

    def is_another() -> bool:
        start, is_kept = starts(kept.ask())
        return is_kept and start > 1  # one that is asked while it is replaced has started, too

    until(is_another)


def test_the_worker_program_says_the_same_either_way() -> None:
    kept, each = Describer(WORKER, LONG_SECONDS), Describer(WORKER)
    models = [{"engine": "fake", "source": "none", "options": {"tokens": "x"}}]
    data = module.json.dumps({"models": models})
    try:
        for arguments in (("--check",), ("--about", "fake"), ("--engine", "fake")):
            assert kept.ask(*arguments, data=data) == each.ask(*arguments, data=data)
        assert kept.ask("--no-such-option") is None
    finally:
        kept.end()
