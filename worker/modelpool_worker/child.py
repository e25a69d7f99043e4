"""The front's hold on its engine child: status, last words, end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from modelpool_client.wire import PromptCacheLimits, ServedModels

from .backend import Listener
from .config import save_line
from .link import ChildLink
from .spawn import Spawned

LAST_LINES = 20
_LINE_LIMIT = 500
_REST_LIMIT = 1 << 16
# How long a child that was asked to end may take before it is killed.
STOP_SECONDS = 2.0


class Output(Protocol):
    """Where lines of the engine go."""

    def write(self, text: str, /) -> object: ...


class EngineChild:
    """Listens to a started engine process from ``attach`` on; its output goes on to ``output``."""

    probe: None = None
    serves_others = False
    served: Sequence[str] = ()
    held: None = None

    def __init__(self, spawned: Spawned, output: Output, socket_path: str) -> None:
        self._process = spawned.process
        self.pid: int | None = spawned.process.pid
        self.started: float | None = spawned.started
        self.link = ChildLink(socket_path)
        self.exit_code: int | None = None
        self._log = output
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._status = _Lines(spawned.status_fd)
        self._output = _Lines(spawned.output_fd)

    def resolve(self, name: str) -> bool:
        """See ``Backend``: it has one model."""
        return False

    def serve(self, models: ServedModels) -> None:
        """See ``Backend``: it has one model."""

    def upstream(self) -> Mapping[str, Any]:
        """See ``Backend``: it computes here."""
        return {}

    def __repr__(self) -> str:
        end = "" if self.exit_code is None else f" ended: {describe_exit(self.exit_code)}"
        return f"<EngineChild pid {self.pid}{end}>"

    def attach(self, loop: asyncio.AbstractEventLoop, listener: Listener) -> None:
        """Copy its output to ours, pass on its status lines, and report its end once."""
        self._listener = listener
        self._loop = loop
        self._gone = asyncio.Event()
        loop.add_reader(self._status.fd, self._read, self._status, self._on_status_line)
        loop.add_reader(self._output.fd, self._read, self._output, self._on_output_line)
        # A thread, not a pidfd: the same on every system, and no polling either.
        threading.Thread(target=self._wait, daemon=True, name="engine-exit").start()

    async def wait(self) -> None:
        """Until the child is gone and has been reported."""
        await self._gone.wait()

    async def stop(
        self, grace: float = STOP_SECONDS, save: PromptCacheLimits | None = None
    ) -> None:
        """End it: close its standard input, kill it when that does not help in time. With ``save``
        it is told to keep its prompts first, for which it has the seconds that they say more."""
        if save is not None:
            self._tell(save_line(save))
            grace += save.seconds
        if grace > 0:
            self._let_go()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._gone.wait()
        self.kill()
        await self._gone.wait()

    def kill(self) -> None:
        """End it at once, if it has not ended yet."""
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    def _tell(self, line: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def _let_go(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def _wait(self) -> None:
        code = self._process.wait()
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._on_gone, code)

    def _on_gone(self, code: int) -> None:
        self.exit_code = code
        # What it wrote last is still in the pipes; a process that it leaked may hold them open.
        self._read(self._status, self._on_status_line)
        self._read(self._output, self._on_output_line)
        self._output.finish(self._on_output_line)
        for pipe in (self._status, self._output):
            self._loop.remove_reader(pipe.fd)
            pipe.close()
        self._let_go()
        self._gone.set()
        self._listener.on_exit(code)

    def _read(self, pipe: _Lines, take: Callable[[str], None]) -> None:
        if not pipe.read(take):
            self._loop.remove_reader(pipe.fd)

    def _on_output_line(self, line: str) -> None:
        self.last_lines.append(line[:_LINE_LIMIT])
        self._log.write(f"{line}\n")

    def _on_status_line(self, line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            return
        try:
            if (address := event.get("address")) is not None:
                self.link.endpoint = address if isinstance(address, str) else tuple(address)
            self._listener.on_status(event)
        except Exception as e:  # a stranger's engine may say anything; else nobody hears of it
            message = f"the engine said of itself what makes no sense: {e!r}"
            self._listener.on_status({"event": "failed", "code": "load_failed", "message": message})
            self.kill()


class _Lines:
    """Whole lines from a pipe that never blocks."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self._rest = b""

    def read(self, take: Callable[[str], None]) -> bool:
        """Hand over what is there. False at the end of the pipe."""
        while True:
            try:
                data = os.read(self.fd, 65536)
            except BlockingIOError:
                return True
            if not data:
                return False
            *lines, self._rest = (self._rest + data).split(b"\n")
            if len(self._rest) > _REST_LIMIT:
                lines, self._rest = [*lines, self._rest], b""
            for line in lines:
                take(line.decode(errors="replace"))

    def finish(self, take: Callable[[str], None]) -> None:
        """Hand over a last line without its end."""
        if self._rest:
            take(self._rest.decode(errors="replace"))
            self._rest = b""

    def close(self) -> None:
        os.close(self.fd)


def describe_exit(code: int) -> str:
    """An exit code in words: ``exit code 1``, ``signal 9 (SIGKILL; out of memory?)``."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    return f"signal {-code} ({name}{'; out of memory?' if name == 'SIGKILL' else ''})"
