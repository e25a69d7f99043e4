"""What went wrong, when to try again, and how it is said."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.config import PoolConfig
from modelpool.pool.failures import Trouble, describe_exit, load_error
from modelpool.pool.workers import Burial
from modelpool_client.errors import LoadFailed
from modelpool_client.wire import Failure

OOM = Failure("oom", "out of memory", ("line 1", "line 2", "line 3", "line 4"))


def config(**keys: Any) -> PoolConfig:
    return PoolConfig.model_validate({"state_dir": "/nonexistent"} | keys)


def test_each_failed_load_in_a_row_doubles_the_pause() -> None:
    trouble, pauses = Trouble(), []
    for _ in range(5):
        trouble.load_failed(OOM, 1000, 5000, config())
        pauses.append(trouble.retry_at - 1000)
    assert pauses == [10, 20, 40, 60, 60]
    assert (trouble.at, trouble.retry_at_wall) == (5000, 5060)
    trouble.load_succeeded()
    assert trouble.failure is None
    trouble.load_failed(OOM, 2000, 6000, config())
    assert trouble.retry_at == 2010


def test_a_first_pause_above_the_longest_back_off_counts() -> None:
    trouble = Trouble()
    for _ in range(2):
        trouble.load_failed(OOM, 0, 0, config(failed_retry_seconds=100))
        assert trouble.retry_at == 100


def test_crashes_back_off_until_the_budget_is_spent() -> None:
    trouble, pauses = Trouble(), []
    for second in range(5):
        trouble.died(OOM, second, 0, config())
        pauses.append(trouble.retry_at - second)
    assert pauses == [1, 2, 4, 600, 600]
    assert trouble.failure is not None
    assert trouble.failure.message == "out of memory; crashed 5 times within 600 s"


def test_old_crashes_are_forgotten() -> None:
    trouble = Trouble()
    for now in (0, 1, 2, 700):
        trouble.died(OOM, now, 0, config())
    assert trouble.crashes == (700,)
    assert trouble.failure == OOM
    assert trouble.retry_at == 701


def test_a_load_that_succeeds_does_not_wipe_out_crashes() -> None:
    trouble = Trouble()
    trouble.died(OOM, 0, 0, config())
    trouble.load_succeeded()
    trouble.died(OOM, 5, 0, config())
    assert trouble.retry_at == 7


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 1000)), max_size=20),
    st.integers(0, 5),
    st.floats(0, 100),
)
def test_the_next_try_is_never_in_the_past_nor_beyond_the_longest_pause(
    falls: list[tuple[bool, float]], budget: int, first: float
) -> None:
    settings = config(
        crash_budget=budget, failed_retry_seconds=first, restart_backoff_seconds=min(first, 60)
    )
    trouble, now = Trouble(), 0.0
    for is_crash, later in falls:
        now += later
        (trouble.died if is_crash else trouble.load_failed)(OOM, now, now, settings)
        assert now <= trouble.retry_at <= now + max(600, first)
        assert trouble.failure is not None


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (None, "ended (its exit code is unknown)"),
        (0, "exited with code 0"),
        (6, "exited with code 6"),
        (-signal.SIGSEGV, "was ended by SIGSEGV"),
        (-signal.SIGKILL, "was ended by SIGKILL; perhaps out of memory"),
        (-77, "was ended by signal 77"),
    ],
)
def test_how_it_ended_in_words(code: int | None, text: str) -> None:
    assert describe_exit(code) == text


@pytest.mark.parametrize(
    ("burial", "message"),
    [
        (Burial(3, OOM), "out of memory"),
        (Burial(-9, None), "the worker process was ended by SIGKILL; perhaps out of memory"),
        (Burial(1, Failure("worker_died", "no word")), "the worker process exited with code 1"),
    ],
)
def test_its_own_last_words_come_first(burial: Burial, message: str) -> None:
    failure = Trouble().explain(burial)
    assert failure.message == message
    assert failure.exit_code == burial.exit_code


def test_what_a_request_is_told() -> None:
    trouble = Trouble(failure=OOM)
    error = load_error("m", trouble, 7.5)
    assert isinstance(error, LoadFailed)
    assert "m is not running: out of memory. Last lines: line 2 | line 3 | line 4" in error.message
    assert (error.code, error.source, error.retry_after) == ("oom", "worker", 7.5)
    assert error.details["lines"] == list(OOM.lines)


@pytest.mark.parametrize(("exit_code", "source"), [(3, "engine"), (6, "worker"), (None, "worker")])
def test_who_failed(exit_code: int | None, source: str) -> None:
    trouble = Trouble(failure=Failure("bad_file", "bad", (), exit_code))
    assert load_error("m", trouble, 0).source == source


def test_a_request_is_never_told_to_come_back_at_once() -> None:
    error = load_error("m", Trouble(), -5)
    assert error.retry_after == 1
    assert error.code == "load_failed"


def test_the_view_for_people() -> None:
    trouble = Trouble()
    assert trouble.view(str) is None
    trouble.load_failed(Failure("oom", "text", ("a",), 3), 10, 1000, config())
    assert trouble.view(lambda wall: f"at {wall:.0f}") == {
        "code": "oom",
        "message": "text",
        "lines": ["a"],
        "exit_code": 3,
        "at": "at 1000",
        "retry_at": "at 1010",
    }
