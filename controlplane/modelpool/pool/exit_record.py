"""What a worker that ended has left on disk: its exit record, its log, its files."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

from modelpool_client.wire import LEFT_BEHIND_NAME, DecodeError, Failure, decode

from modelpool.catalog.database import WorkerRow
from modelpool.launchers import log_heading
from modelpool.log_reader import tail


def read_exit_record(record: WorkerRow) -> Failure:
    """Its exit record, else the end of what it has logged."""
    with contextlib.suppress(OSError, ValueError, DecodeError):
        return decode(Failure, json.loads(Path(record.exit_record).read_text()))
    return Failure("worker_died", "the worker left no exit record", _last_lines(record))


def _last_lines(record: WorkerRow) -> tuple[str, ...]:
    """Its own, not those of the worker before it."""
    lines, heading = tail(Path(record.log_path)), log_heading(record.worker_id)
    return lines[lines.index(heading) + 1 :] if heading in lines else lines


def has_left_behind(record: WorkerRow) -> bool:
    """Whether it has not ended all that it had begun beside its processes."""
    return bool(record.runtime_dir) and (Path(record.runtime_dir) / LEFT_BEHIND_NAME).exists()


def remove_files(record: WorkerRow) -> None:
    """Remove its folder and its exit record."""
    shutil.rmtree(record.runtime_dir, ignore_errors=True)
    Path(record.exit_record).unlink(missing_ok=True)
