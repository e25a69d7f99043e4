"""Which process is the manager that ``up`` started, and a lock around looking for it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from modelpool.launchers.local import boot_id, find_process, start_time


@dataclass(frozen=True)
class PidFile:
    """Remembers which process is the manager; a pid alone could be another's by now."""

    path: Path

    def write(self, pid: int) -> None:
        identity = {"pid": pid, "create_time": start_time(pid), "boot_id": boot_id()}
        self.path.write_text(json.dumps(identity))

    def process(self) -> psutil.Process | None:
        """The manager, if it lives."""
        try:
            data = json.loads(self.path.read_text())
            if data["boot_id"] != boot_id():
                return None
            return find_process(int(data["pid"]), float(data["create_time"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else looks for a manager and starts one: of two the second would end at once, and
        its pid would stand where ``down`` looks for that of the first."""
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)
