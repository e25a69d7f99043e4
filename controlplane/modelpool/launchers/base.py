"""The contract of a launcher: it starts and stops processes and knows nothing of models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from modelpool_client.wire import Assignment

from modelpool.catalog.database import WorkerRow

from .read_ahead import Files


class LaunchError(Exception):
    """The process could not even be started; the text says why."""


def log_heading(worker_id: str) -> str:
    """The line that the output of a worker begins with in the log of its model, which has that of
    those before it, too."""
    return f"-- worker {worker_id}"


@dataclass(frozen=True)
class Site:
    """From where a worker runs: the interpreter, empty for the manager's own, and variables of its
    environment."""

    python: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_common(self) -> bool:
        """Any process will do that was started before there is work for it."""
        return not self.python and not self.variables


class WorkerProcess(Protocol):
    """A started worker, ours or adopted."""

    @property
    def pid(self) -> int: ...

    @property
    def create_time(self) -> float: ...

    async def wait(self) -> int | None:
        """Its exit code once it has ended, negative for a signal; None if that cannot be known."""
        ...

    def terminate(self) -> None:
        """Ask the front to end (TERM). The engine child is the front's to end."""
        ...

    def kill(self) -> None:
        """End the whole group (KILL)."""
        ...

    async def group_gone(self, timeout: float) -> bool:
        """Wait until no process of the group is alive; False if some still is after ``timeout``."""
        ...


class Launcher(Protocol):
    """Starts workers somewhere, and finds again those that a former manager started."""

    def new_worker_id(self, engine: str) -> str:
        """The id for a worker of that engine that is to be started."""
        ...

    async def start(self, assignment: Assignment) -> WorkerProcess:
        """Start one.

        Raises:
            LaunchError: it could not be started.
        """
        ...

    def read_ahead(self, files: Files) -> None:
        """A worker that needs these is started as soon as there is room for it. Returns at once."""
        ...

    async def attach(self, record: WorkerRow) -> WorkerProcess | None:
        """The running process of a record, verified; None if it is gone."""
        ...

    async def sweep(self, record: WorkerRow) -> None:
        """End what a dead worker may have left running: processes that have left its group, and
        what it has noted that it would end itself."""
        ...

    async def close(self) -> None:
        """End what is no worker; the workers stay."""
        ...
