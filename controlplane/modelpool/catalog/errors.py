"""What can go wrong in the catalog beyond the errors that the wire already knows.

ModelPoolError
├── InvalidRequest
│   └── BadModelFile         400  bad_file: the model file is missing, truncated or corrupt
└── Unavailable
    └── StoreError           503  store_failed: the database cannot be read or written
        └── PoolAlreadyRunning    another manager holds the database
"""

from __future__ import annotations

from pathlib import Path

from modelpool_client.errors import InvalidRequest, Unavailable


class BadModelFile(InvalidRequest):
    """A model file that no engine could load; the text names the file and what is wrong."""

    default_code = "bad_file"

    def __init__(self, path: Path | str, problem: str) -> None:
        super().__init__(f"{path}: {problem}", param="source")
        self.path = Path(path)
        self.problem = problem


class StoreError(Unavailable):
    """The database failed; the text names its file. What was asked for was not done."""

    default_code = "store_failed"

    def __init__(self, path: Path | str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = Path(path)
        self.problem = problem


class PoolAlreadyRunning(StoreError):
    """Another manager works on this database; ``pid`` is its process, None if it did not say."""

    default_code = "pool_already_running"

    def __init__(self, path: Path | str, pid: int | None) -> None:
        who = f"process {pid}" if pid is not None else "another process"
        super().__init__(path, f"in use by {who}; one manager per database, stop that one first")
        self.pid = pid
