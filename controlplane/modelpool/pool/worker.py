"""PURE: what is known of one worker process from outside: its handle, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from modelpool_client.http1.endpoint import LocalEndpoint, front_socket
from modelpool_client.wire import Failure

from modelpool.catalog.database import WorkerRow
from modelpool.launchers import WorkerProcess


@dataclass(frozen=True)
class Worker:
    """A started worker: its process and what was written down of it.

    Attributes:
        options: with which it was started; None where a former manager did that.
        host: where its port is.
    """

    record: WorkerRow
    process: WorkerProcess
    options: Mapping[str, Any] | None = field(default=None, repr=False)
    host: str = "127.0.0.1"

    @cached_property
    def endpoint(self) -> LocalEndpoint:
        """Where its requests go."""
        return LocalEndpoint(self.host, self.port, front_socket(self.record.runtime_dir, self.port))

    @property
    def worker_id(self) -> str:
        return self.record.worker_id

    @property
    def port(self) -> int:
        return self.record.port


@dataclass(frozen=True)
class ExitReport:
    """How a worker ended.

    Attributes:
        exit_code: negative for a signal; None where it cannot be known.
        failure: its exit record, or the end of its log.
        is_released: False where some process of its group would not go, or what it held of a
            device was not given back.
    """

    exit_code: int | None
    failure: Failure | None
    is_killed: bool = False
    is_released: bool = True
