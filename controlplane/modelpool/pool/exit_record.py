"""What a worker that ended has left on disk: its exit record, its log, its files."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

from modelpool_client.wire import DecodeError, Failure, decode

from modelpool.catalog.database import WorkerRow

LOG_TAIL_BYTES = 16_384
LOG_TAIL_LINES = 20


def read_exit_record(record: WorkerRow) -> Failure:
    """Its exit record, else the end of its log."""
    with contextlib.suppress(OSError, ValueError, DecodeError):
        return decode(Failure, json.loads(Path(record.exit_record).read_text()))
    return Failure("worker_died", "the worker left no exit record", tail(Path(record.log_path)))


def tail(path: Path, lines: int = LOG_TAIL_LINES) -> tuple[str, ...]:
    """The last lines of a log; nothing if there is none."""
    try:
        with path.open("rb") as f:
            f.seek(0, 2)
            f.seek(max(0, f.tell() - LOG_TAIL_BYTES))
            text = f.read().decode(errors="replace")
    except OSError:
        return ()
    return tuple(text.splitlines()[-lines:])


def remove_files(record: WorkerRow) -> None:
    """Remove its folder and its exit record."""
    shutil.rmtree(record.runtime_dir, ignore_errors=True)
    Path(record.exit_record).unlink(missing_ok=True)
