"""PURE but for the names of signals: what went wrong with a replica, and when it may be tried
again."""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from typing import Any

from modelpool_client.errors import LoadFailed, ModelPoolError
from modelpool_client.wire import Failure

from modelpool.config import PoolConfig
from modelpool.pool.states import backoff, recent
from modelpool.pool.worker import ExitReport


@dataclass(frozen=True)
class FailureHistory:
    """The failures of one replica.

    Attributes:
        failure: the last one, until a load succeeds.
        at, retry_at_wall: seconds since 1970, for people.
        retry_at: until when it backs off, on the pool's clock.
        crashes: when loaded workers died, on the pool's clock.
        is_given_up: the crash budget is spent.
    """

    failure: Failure | None = None
    at: float = 0.0
    retry_at: float = 0.0
    retry_at_wall: float = 0.0
    failed_loads: int = 0
    crashes: tuple[float, ...] = ()
    is_given_up: bool = False

    def load_succeeded(self) -> FailureHistory:
        """Crashes stay on record: a model that loads and dies, loads and dies, is not well."""
        return replace(self, failed_loads=0, failure=None, is_given_up=False)

    def load_failed(
        self, failure: Failure, now: float, wall: float, config: PoolConfig
    ) -> FailureHistory:
        """A load failed: back off, twice as long after each failure in a row."""
        count = self.failed_loads + 1
        longest = max(config.failed_retry_seconds, config.restart_backoff_max_seconds)
        pause = backoff(count, config.failed_retry_seconds, longest)
        return replace(self, failed_loads=count)._noted(failure, now, wall, pause)

    def died(self, failure: Failure, now: float, wall: float, config: PoolConfig) -> FailureHistory:
        """A loaded one died: back off, and give up for a while once the crash budget is spent."""
        window = config.crash_window_seconds
        crashes = (*recent(self.crashes, now, window), now)
        first, longest = config.restart_backoff_seconds, config.restart_backoff_max_seconds
        pause = backoff(len(crashes), first, longest)
        is_given_up = len(crashes) > config.crash_budget
        if is_given_up:
            pause = window
            text = f"{failure.message}; crashed {len(crashes)} times within {window:.0f} s"
            failure = replace(failure, message=text)
        history = replace(self, crashes=crashes, is_given_up=is_given_up)
        return history._noted(failure, now, wall, pause)

    def retry_now(self, now: float) -> FailureHistory:
        """Somebody wants it loaded whatever happened."""
        return replace(self, retry_at=now)

    def _noted(self, failure: Failure, now: float, wall: float, pause: float) -> FailureHistory:
        return replace(
            self, failure=failure, at=wall, retry_at=now + pause, retry_at_wall=wall + pause
        )

    def view(self, iso: Any) -> dict[str, Any] | None:
        """For the API; ``iso`` turns wall seconds into text."""
        if self.failure is None:
            return None
        return {
            "code": self.failure.code,
            "message": self.failure.message,
            "lines": list(self.failure.lines),
            "exit_code": self.failure.exit_code,
            "at": iso(self.at),
            "retry_at": iso(self.retry_at_wall),
        }


def explain(report: ExitReport, verdict: Failure | None = None) -> Failure:
    """Why a worker ended: what was known before, else its own last words, else how it ended."""
    found = report.failure or Failure("worker_died", "")
    if verdict is not None:
        return replace(verdict, lines=verdict.lines or found.lines)
    if found.code != "worker_died":
        return replace(found, exit_code=report.exit_code)
    text = f"the worker process {describe_exit(report.exit_code)}"
    return replace(found, message=text, exit_code=report.exit_code)


def describe_exit(code: int | None) -> str:
    """How a process ended, in words."""
    if code is None:
        return "ended (its exit code is unknown)"
    if code >= 0:
        return f"exited with code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    hint = "; perhaps out of memory" if -code == signal.SIGKILL else ""
    return f"was ended by {name}{hint}"


def without_room(failure: Failure, held: str, why: str) -> Failure:
    """It ran out of memory with what it ``held``, and could not be tried with more."""
    text = f"it ran out of memory with {held}, and there is no room for a retry with more"
    return replace(failure, message=f"{failure.message}; {text}: {why}")


def load_error(model_id: str, failures: FailureHistory, retry_after: float) -> ModelPoolError:
    """What a request for a failed model is told."""
    failure = failures.failure or Failure("load_failed", "the load failed")
    last = f" Last lines: {' | '.join(failure.lines[-3:])}" if failure.lines else ""
    return LoadFailed(
        f"{model_id} is not running: {failure.message}.{last}",
        code=failure.code,
        source="engine" if failure.exit_code == 3 else "worker",
        retry_after=max(retry_after, 1.0),
        details={"lines": list(failure.lines), "exit_code": failure.exit_code},
    )
