"""A job as everyone sees it, what may be done to it in which state, and which runs next. PURE."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

KEPT_LINES = 200
# Before a job whose process was killed is begun again: seconds, each wait twice the one before.
FIRST_RETRY, LONGEST_RETRY = 1.0, 60.0
MAX_LINE = 500


class JobState(StrEnum):
    """Where a job is; the last three are for good."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        return self in _OVER

    @property
    def is_active(self) -> bool:
        """It runs, or will without anybody's doing."""
        return self in (JobState.QUEUED, JobState.RUNNING)


_OVER = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class Action(StrEnum):
    """What may be asked of a job."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    REMOVE = "remove"


# What may be asked in which state. Who fails or was cancelled may be resumed: what was done by then
# is not done again.
ALLOWED: Mapping[Action, frozenset[JobState]] = {
    Action.CANCEL: frozenset({JobState.QUEUED, JobState.RUNNING, JobState.PAUSED}),
    Action.PAUSE: frozenset({JobState.QUEUED, JobState.RUNNING}),
    Action.RESUME: frozenset({JobState.PAUSED, JobState.FAILED, JobState.CANCELLED}),
    Action.REMOVE: _OVER,
}


@dataclass(frozen=True)
class Progress:
    """How far a job is: ``done`` of ``total`` (None where nobody can know) in ``unit`` (``bytes``,
    ``files``, ``runs`` …), and in words what it does."""

    done: float = 0.0
    total: float | None = None
    unit: str = ""
    text: str = ""


@dataclass(frozen=True)
class Line:
    """One line of a job's log; ``at`` in seconds since 1970."""

    at: float
    text: str


@dataclass(frozen=True)
class Job:
    """A snapshot of a job. Replace it, never change it.

    Attributes:
        subject: what it is about: a model's id, a reference to pull, a folder.
        params: what was asked for, as its kind has read it.
        secrets: what of that nobody is shown; forgotten once it succeeded.
        reason: why it is in its state, in words.
        code: of the error that it failed with, else empty.
        checkpoint: what its kind needs to go on where it was; nobody else's business.
        result: what came of it, once it succeeded.
        attempts: how often it was begun.
        created_at, started_at, ended_at: seconds since 1970; the last two None before.
    """

    job_id: str
    kind: str
    subject: str
    params: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, Any] = field(default_factory=dict, repr=False)
    state: JobState = JobState.QUEUED
    reason: str = ""
    code: str = ""
    progress: Progress = Progress()
    checkpoint: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    log: tuple[Line, ...] = ()
    attempts: int = 0
    created_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None

    def __str__(self) -> str:
        return f"{self.job_id} ({self.kind} {self.subject}, {self.state})"

    def queued(self, reason: str) -> Job:
        """It waits to be begun, or begun again."""
        return self._moved(JobState.QUEUED, reason, ended_at=None, code="")

    def running(self, now: float) -> Job:
        """It is begun."""
        values = {"attempts": self.attempts + 1, "progress": Progress(), "started_at": now}
        return self._moved(JobState.RUNNING, "", ended_at=None, **values)

    def paused(self, reason: str) -> Job:
        """It goes on when somebody says so."""
        return self._moved(JobState.PAUSED, reason)

    def over(
        self,
        state: JobState,
        now: float,
        reason: str = "",
        code: str = "",
        result: Mapping[str, Any] | None = None,
    ) -> Job:
        """It has come to an end."""
        kept = {} if state is JobState.SUCCEEDED else self.secrets
        values = {"ended_at": now, "code": code, "result": result or {}, "secrets": kept}
        return self._moved(state, reason, **values)

    def _moved(self, state: JobState, reason: str, **values: Any) -> Job:
        return dataclasses.replace(self, state=state, reason=reason, **values)

    def logged(self, now: float, text: str) -> Job:
        """With one line more; the oldest go."""
        lines = (*self.log, Line(now, text[:MAX_LINE]))[-KEPT_LINES:]
        return dataclasses.replace(self, log=lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values of every field."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Job:
        """The reverse of ``as_dict`` for data of our own; keys of other versions are ignored."""
        known = {f.name for f in dataclasses.fields(cls)}
        values = {k: v for k, v in data.items() if k in known}
        return cls(
            **values
            | {
                "state": JobState(values["state"]),
                "progress": Progress(**values.get("progress", {})),
                "log": tuple(Line(**line) for line in values.get("log", ())),
            }
        )


def retry_delay(failures: int) -> float:
    """Seconds until a job is begun again, after so many failures in a row (from 1)."""
    return min(LONGEST_RETRY, FIRST_RETRY * 2.0 ** (min(failures, KEPT_LINES) - 1))


@dataclass(frozen=True)
class Lane:
    """Jobs that compete for the same: of all in a lane so many run at once, the rest wait."""

    name: str
    at_once: int = 1


def next_to_run(jobs: Iterable[Job], lanes: Mapping[str, Lane]) -> Iterator[Job]:
    """Those that wait and may begin now, first come first served in each lane.

    Args:
        jobs: all that are not over, oldest first.
        lanes: by kind.
    """
    jobs = [job for job in jobs if job.kind in lanes]
    free = {lane.name: lane.at_once for lane in lanes.values()}
    for job in jobs:
        if job.state is JobState.RUNNING:
            free[lanes[job.kind].name] -= 1
    for job in jobs:
        lane = lanes[job.kind].name
        if job.state is JobState.QUEUED and free[lane] > 0:
            free[lane] -= 1
            yield job
