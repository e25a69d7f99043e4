"""What went wrong with a replica, when it may be tried again, and how to say so."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelpool_client.errors import LoadFailed, ModelPoolError
from modelpool_client.wire import Failure

from modelpool.config import PoolConfig
from modelpool.pool.crew import Burial, Worker
from modelpool.pool.lifecycle import backoff, recent
from modelpool.pool.remains import tail


@dataclass
class Trouble:
    """The failures of one replica. ``retry_at`` is on the pool's clock, the rest is for people."""

    failure: Failure | None = None
    at: float = 0.0
    retry_at: float = 0.0
    retry_at_wall: float = 0.0
    failed_loads: int = 0
    crashes: tuple[float, ...] = field(default=())
    is_given_up: bool = False  # the crash budget is spent

    def load_succeeded(self) -> None:
        """Crashes stay on record: a model that loads and dies, loads and dies, is not well."""
        self.failed_loads = 0
        self.failure = None
        self.is_given_up = False

    def load_failed(self, failure: Failure, now: float, wall: float, config: PoolConfig) -> None:
        """A load failed: cool off, twice as long after each failure in a row."""
        self.failed_loads += 1
        longest = max(config.failed_retry_seconds, config.restart_backoff_max_seconds)
        pause = backoff(self.failed_loads, config.failed_retry_seconds, longest)
        self._note(failure, now, wall, pause)

    def died(self, failure: Failure, now: float, wall: float, config: PoolConfig) -> None:
        """A loaded one died: back off, and give up for a while once the crash budget is spent."""
        window = config.crash_window_seconds
        self.crashes = (*recent(self.crashes, now, window), now)
        first, longest = config.restart_backoff_seconds, config.restart_backoff_max_seconds
        pause = backoff(len(self.crashes), first, longest)
        self.is_given_up = len(self.crashes) > config.crash_budget
        if self.is_given_up:
            pause = window
            text = f"{failure.message}; crashed {len(self.crashes)} times within {window:.0f} s"
            failure = replace(failure, message=text)
        self._note(failure, now, wall, pause)

    def _note(self, failure: Failure, now: float, wall: float, pause: float) -> None:
        self.failure = failure
        self.at = wall
        self.retry_at = now + pause
        self.retry_at_wall = wall + pause

    def explain(self, burial: Burial) -> Failure:
        """The worker's own last words; failing that, how it ended."""
        failure = burial.failure or Failure("worker_died", "")
        if failure.code != "worker_died":
            return replace(failure, exit_code=burial.exit_code)
        text = f"the worker process {describe_exit(burial.exit_code)}"
        return replace(failure, message=text, exit_code=burial.exit_code)

    def last_lines(self, worker: Worker) -> tuple[str, ...]:
        """The end of the worker's log."""
        return tail(Path(worker.record.log_path))

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


def load_error(model_id: str, trouble: Trouble, retry_after: float) -> ModelPoolError:
    """What a request for a failed model is told."""
    failure = trouble.failure or Failure("load_failed", "the load failed")
    last = f" Last lines: {' | '.join(failure.lines[-3:])}" if failure.lines else ""
    return LoadFailed(
        f"{model_id} is not running: {failure.message}.{last}",
        code=failure.code,
        source="engine" if failure.exit_code == 3 else "worker",
        retry_after=max(retry_after, 1.0),
        details={"lines": list(failure.lines), "exit_code": failure.exit_code},
    )
