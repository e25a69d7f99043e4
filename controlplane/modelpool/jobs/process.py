"""Work of a job in a process of its own: what hangs on a disk or a network, or takes much memory,
does so there, and can be ended.

The child reads one JSON document from its standard input, which stays open for what it is told
later, one document a line: its end means that the manager is gone. It writes one JSON object a
line: messages of the job, and last ``{"result": …}`` or ``{"error": {…}}`` as the wire has errors.
The end of its standard error is told where it fails.
``child`` is its side.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from modelpool_client.errors import InternalError, from_response

log = logging.getLogger(__name__)


class ProcessKilled(InternalError):
    """The process that did the work was ended by a signal, without a word: not by its own fault,
    as far as anybody can tell, so that another attempt may succeed."""

    default_code = "process_killed"


MAX_LINE_BYTES = 16 << 20
TERM_SECONDS = 2.0
KILL_SECONDS = 1.0
SHOWN_LINES = 5


async def run_process(
    module: str,
    request: Mapping[str, Any],
    on_message: Callable[[Mapping[str, Any]], object],
    orders: AsyncIterator[Mapping[str, Any]] | None = None,
) -> Any:
    """What ``python -m module`` makes of the request.

    Args:
        on_message: is given each message but the last.
        orders: what the child is told while it works, as it comes.

    Raises:
        ProcessKilled: somebody killed the child, or the system did for want of memory.
        ModelPoolError: the child said so, or it ended without a word.
    """
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=MAX_LINE_BYTES,
        start_new_session=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    last_words = asyncio.ensure_future(_last_lines(child.stderr))
    telling = asyncio.ensure_future(_told(child.stdin, request, orders))
    try:
        async for line in child.stdout:
            message = _message(line)
            if "result" in message:
                return message["result"]
            if "error" in message:
                raise from_response(int(message.get("status", 500)), message)
            on_message(message)
        await child.wait()
        said = "; ".join(await last_words) or "it said nothing"
        raise _ended(module, child.returncode or 0, said)
    finally:
        try:
            await _end(child)
        finally:
            last_words.cancel()
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)


def _ended(module: str, returncode: int, said: str) -> InternalError:
    if returncode >= 0:
        return InternalError(f"the process of {module} ended with {returncode}: {said}")
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    hint = ", as the system does where memory runs out" if name == "SIGKILL" else ""
    return ProcessKilled(f"the process of {module} was ended by {name}{hint}: {said}")


async def _told(
    stdin: asyncio.StreamWriter,
    request: Mapping[str, Any],
    orders: AsyncIterator[Mapping[str, Any]] | None,
) -> None:
    with contextlib.suppress(ConnectionError):
        stdin.write(json.dumps(request).encode() + b"\n")
        await stdin.drain()
        if orders is not None:
            async for order in orders:
                stdin.write(json.dumps(order).encode() + b"\n")
                await stdin.drain()


def _message(line: bytes) -> Mapping[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise InternalError(f"a process of a job wrote no JSON object: {line[:200]!r}")
    return message


async def _last_lines(stream: asyncio.StreamReader) -> Sequence[str]:
    lines: list[str] = []
    with contextlib.suppress(ValueError):  # a line without end
        async for line in stream:
            lines = [*lines, line.decode(errors="replace").rstrip()][-SHOWN_LINES:]
    return lines


async def _end(child: asyncio.subprocess.Process) -> None:
    """One that hangs in the kernel, on a disk that is gone, cannot be ended: it is left behind."""
    try:
        await _signal(child, signal.SIGTERM, TERM_SECONDS)
    finally:  # at once, if whoever cancels will not wait
        await _signal(child, signal.SIGKILL, KILL_SECONDS)
    if child.returncode is None:
        log.warning("process %d of a job does not end: it waits for a disk, perhaps", child.pid)


async def _signal(child: asyncio.subprocess.Process, sign: signal.Signals, seconds: float) -> None:
    if child.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, sign)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await child.wait()
