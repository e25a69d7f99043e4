"""The contract of a kind of job, and what a job may do while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from .job import Job, Lane


@dataclass(frozen=True)
class JobRequest:
    """What is to be done: about what, and how. ``model_id`` where that is a model of the catalog:
    then its history tells of it. ``secrets`` are kept for the work and never shown."""

    subject: str
    params: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, Any] = field(default_factory=dict, repr=False)


class Context(Protocol):
    """A running job's way to the world."""

    @property
    def job(self) -> Job:
        """As it is now."""
        ...

    def progress(
        self, done: float, total: float | None = None, unit: str = "", text: str = ""
    ) -> None:
        """Say how far it is. As often as one likes: it is told and written now and then."""
        ...

    def log(self, text: str) -> None:
        """Add a line to the job's log."""
        ...

    async def save(self, checkpoint: Mapping[str, Any]) -> None:
        """Write down what the next attempt needs to go on from here."""
        ...


class Kind(Protocol):
    """One kind of work that outlives a request. It is built once, with what it needs.

    Attributes:
        is_resumable: it goes on by its checkpoint, or by what it finds: so it may be paused, and is
            begun again by itself after a restart of the manager. Another kind fails then.
        retries: how often it is begun again by itself where the process that does its work is
            killed alone (by a signal, or for want of memory) and got no further than before; 0 for
            a kind whose work must not be done twice, or is not done in a process of its own.
        model_events: its subject is a model's id, and the model's history tells of it.
    """

    name: str
    lane: Lane
    is_resumable: bool
    retries: int
    model_events: bool

    async def parse(self, data: Mapping[str, Any]) -> JobRequest:
        """What is asked for; nothing is begun.

        Raises:
            ModelPoolError: why it cannot be done; with ``param``.
        """
        ...

    async def run(self, context: Context) -> Mapping[str, Any]:
        """Do it; the result is plain JSON. Pause, cancel and the manager's end come as
        ``CancelledError``: clean up what would be in the way of another attempt, and keep the rest.

        Raises:
            ModelPoolError: it failed; its message and code are what is told.
        """
        ...
