"""What went wrong, when to try again, and how it is said."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelpool.config import PoolConfig
from modelpool.pool.failures import FailureHistory, describe_exit, explain, load_error
from modelpool.pool.worker import ExitReport
from modelpool_client.errors import LoadFailed
from modelpool_client.wire import Failure

OOM = Failure("oom", "out of memory", ("line 1", "line 2", "line 3", "line 4"))


def config(**keys: Any) -> PoolConfig:
    return PoolConfig.model_validate({"state_dir": "/nonexistent"} | keys)


def test_each_failed_load_in_a_row_doubles_the_pause() -> None:
    failures, pauses = FailureHistory(), []
    for _ in range(5):
        failures = failures.load_failed(OOM, 1000, 5000, config())
        pauses.append(failures.retry_at - 1000)
    assert pauses == [10, 20, 40, 60, 60]
    assert (failures.at, failures.retry_at_wall) == (5000, 5060)
    failures = failures.load_succeeded()
    assert failures.failure is None
    failures = failures.load_failed(OOM, 2000, 6000, config())
    assert failures.retry_at == 2010


def test_a_first_pause_above_the_longest_back_off_counts() -> None:
    failures = FailureHistory()
    for _ in range(2):
        failures = failures.load_failed(OOM, 0, 0, config(failed_retry_seconds=100))
        assert failures.retry_at == 100


def test_crashes_back_off_until_the_budget_is_spent() -> None:
    failures, pauses = FailureHistory(), []
    for second in range(5):
        failures = failures.died(OOM, second, 0, config())
        pauses.append(failures.retry_at - second)
    assert pauses == [1, 2, 4, 600, 600]
    assert failures.failure is not None
    assert failures.failure.message == "out of memory; crashed 5 times within 600 s"


def test_old_crashes_are_forgotten() -> None:
    failures = FailureHistory()
    for now in (0, 1, 2, 700):
        failures = failures.died(OOM, now, 0, config())
    assert failures.crashes == (700,)
    assert failures.failure == OOM
    assert failures.retry_at == 701


def test_a_load_that_succeeds_does_not_wipe_out_crashes() -> None:
    failures = FailureHistory()
    failures = failures.died(OOM, 0, 0, config())
    failures = failures.load_succeeded()
    failures = failures.died(OOM, 5, 0, config())
    assert failures.retry_at == 7


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
    failures, now = FailureHistory(), 0.0
    for is_crash, later in falls:
        now += later
        note = failures.died if is_crash else failures.load_failed
        failures = note(OOM, now, now, settings)
        assert now <= failures.retry_at <= now + max(600, first)
        assert failures.failure is not None


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
    ("report", "message"),
    [
        (ExitReport(3, OOM), "out of memory"),
        (ExitReport(-9, None), "the worker process was ended by SIGKILL; perhaps out of memory"),
        (ExitReport(1, Failure("worker_died", "no word")), "the worker process exited with code 1"),
    ],
)
def test_its_own_last_words_come_first(report: ExitReport, message: str) -> None:
    failure = explain(report)
    assert failure.message == message
    assert failure.exit_code == report.exit_code


def test_what_was_known_before_its_end_outranks_its_last_words() -> None:
    hung = Failure("worker_hung", "it hangs")
    assert explain(ExitReport(-9, OOM), hung) == Failure("worker_hung", "it hangs", OOM.lines)
    said = Failure("bad_file", "bad", ("own",))
    assert explain(ExitReport(3, OOM), said) == said


def test_what_a_request_is_told() -> None:
    failures = FailureHistory(failure=OOM)
    error = load_error("m", failures, 7.5)
    assert isinstance(error, LoadFailed)
    assert "m is not running: out of memory. Last lines: line 2 | line 3 | line 4" in error.message
    assert (error.code, error.source, error.retry_after) == ("oom", "worker", 7.5)
    assert error.details["lines"] == list(OOM.lines)


@pytest.mark.parametrize(("exit_code", "source"), [(3, "engine"), (6, "worker"), (None, "worker")])
def test_who_failed(exit_code: int | None, source: str) -> None:
    failures = FailureHistory(failure=Failure("bad_file", "bad", (), exit_code))
    assert load_error("m", failures, 0).source == source


def test_a_request_is_never_told_to_come_back_at_once() -> None:
    error = load_error("m", FailureHistory(), -5)
    assert error.retry_after == 1
    assert error.code == "load_failed"


def test_the_view_for_people() -> None:
    failures = FailureHistory()
    assert failures.view(str) is None
    failures = failures.load_failed(Failure("oom", "text", ("a",), 3), 10, 1000, config())
    assert failures.view(lambda wall: f"at {wall:.0f}") == {
        "code": "oom",
        "message": "text",
        "lines": ["a"],
        "exit_code": 3,
        "at": "at 1000",
        "retry_at": "at 1010",
    }
