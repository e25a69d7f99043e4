"""What a worker is told: its assignment, read once from standard input."""

from __future__ import annotations

import json
import os
from typing import Any

from modelpool_client.http1.endpoint import MAX_SOCKET_PATH
from modelpool_client.http1.timeouts import Timeouts
from modelpool_client.wire import Assignment, DecodeError, PromptCacheLimits, decode, encode


class BadAssignment(ValueError):
    """The assignment cannot be used; ``exit_record`` is where to say so, if that much is known."""

    def __init__(self, message: str, exit_record: str = "") -> None:
        super().__init__(message)
        self.exit_record = exit_record


def read_assignment(line: bytes) -> Assignment:
    """Read the line that the manager wrote.

    Raises:
        BadAssignment: no JSON, a missing or wrong key, or a value out of range.
    """
    try:
        data = json.loads(line)
    except ValueError as e:
        raise BadAssignment(f"the assignment is no JSON: {e}") from None
    record = data.get("exit_record", "") if isinstance(data, dict) else ""
    try:
        assignment = decode(Assignment, data)
    except DecodeError as e:
        raise BadAssignment(str(e), record if isinstance(record, str) else "") from None
    if problem := _problem(assignment):
        raise BadAssignment(f"Assignment.{problem}", assignment.exit_record)
    return assignment


def _problem(a: Assignment) -> str:
    if not 0 <= a.port <= 65535:
        return f"port: {a.port} is no port"
    if not a.worker_id or "/" in a.worker_id:
        return "worker_id: must be given and hold no slash"
    if not a.secret:
        return "secret: must be given"
    if not a.manager_url.startswith(("http://", "https://")):
        return f"manager_url: {a.manager_url!r} is no http URL"
    if a.beat_seconds <= 0:
        return "beat_seconds: must be above 0"
    timeouts = timeouts_of(a)
    if timeouts.period <= 0:
        return "client_header_timeout_seconds and the like: must be above 0"
    if min(a.drain_seconds, a.orphan_seconds, a.lease_seconds or 0) < 0:
        return "drain_seconds, orphan_seconds and lease_seconds: must not be negative"
    if min(a.prompt_cache_limits.max_bytes, a.prompt_cache_limits.seconds) < 0:
        return "prompt_cache_limits: must not be negative"
    if min(a.log_limits.max_bytes, a.log_limits.max_files - 1) < 1:
        return "log_limits: max_bytes must be above 0, max_files above 1"
    if len(os.fsencode(a.runtime_dir)) > MAX_SOCKET_PATH - len("/1234567.sock"):
        return f"runtime_dir: too long for a unix socket, {MAX_SOCKET_PATH} bytes with the name"
    return ""


def timeouts_of(a: Assignment) -> Timeouts:
    """How long the worker's clients may take."""
    return Timeouts(
        a.client_header_timeout_seconds,
        a.client_body_timeout_seconds,
        a.send_timeout_seconds,
        a.stream_ping_seconds,
    )


def job_line(a: Assignment, socket_path: str) -> bytes:
    """The line with which a front tells its engine child what to do (``engine.EngineJob``)."""
    job: dict[str, Any] = {
        "engine": a.engine,
        "model_id": a.model_id,
        "source": a.source,
        "options": dict(a.options),
        "socket": socket_path,
        "worker_id": a.worker_id,
        "prompt_cache_dir": a.prompt_cache_dir,
        "prompt_cache_limits": encode(a.prompt_cache_limits),
        "settings": dict(a.engine_settings),
    }
    return json.dumps(job).encode() + b"\n"


def save_line(limits: PromptCacheLimits) -> bytes:
    """The line with which a front tells its engine child to keep its prompts, then to end."""
    return json.dumps({"save_prompts": encode(limits)}).encode() + b"\n"
