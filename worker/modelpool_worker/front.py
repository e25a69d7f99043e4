"""The front: serves the port, listens to its engine, and decides when the worker ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from dataclasses import replace
from typing import Any

import uvloop
from modelpool_client.errors import LoadFailed, ModelPoolError, WorkerFailed
from modelpool_client.http1.logs import EngineLines, LogFormat, set_up
from modelpool_client.http1.server import HttpServer
from modelpool_client.log_file import LogOutput
from modelpool_client.surfaces.parameters import Support
from modelpool_client.surfaces.routes import BASIC
from modelpool_client.wire import (
    WORKER_EXIT_ENGINE_DIED,
    WORKER_EXIT_LOAD_FAILED,
    WORKER_EXIT_OK,
    Assignment,
    Facts,
    Failure,
    Phase,
    Progress,
    PromptCacheLimits,
)

from . import diagnose
from .adapters import Adapters
from .app import App
from .backend import Backend
from .child import STOP_SECONDS, EngineChild, describe_exit
from .config import job_line, timeouts_of
from .engine import EngineJob
from .engine_client import BrokenOffError, EngineClient
from .heartbeat import Heartbeat
from .oom import OomWatch
from .progress import SAMPLE_SECONDS, LoadEstimate
from .prompt_cache.store import remove_unfinished
from .record import write_exit_record
from .shortcut import Shortcut
from .spawn import Spawned
from .worker import Change, Worker

log = logging.getLogger(__name__)

# How long requests that were told why they end may take to say so.
FAREWELL_SECONDS = 2.0
KEEP_ALIVE_SECONDS = 90
# After it has become ready, unless its first request ends before.
UNMEASURED_SECONDS = 0.5
# What an engine child needs beyond the time that it gives to what it has started.
SHUT_DOWN_SECONDS = 2.5
# How long connections may take to end once everything is answered.
CLOSE_SECONDS = 0.5
TOLD_TO_STOP = "told to stop"


def run(
    assignment: Assignment,
    socks: tuple[socket.socket, ...],
    spawned: Spawned | None,
    socket_path: str,
    told: list[int],
) -> int:
    """Run a front to its end: it listens on ``socks``, the first of them its port. Returns the exit
    code."""
    output = LogOutput(assignment.log_path, assignment.log_limits)
    about = {"model": assignment.model_id, "worker_id": assignment.worker_id}
    how: LogFormat = "json" if assignment.log_format == "json" else "text"
    set_up(output, logging.INFO, how, "%(asctime)s %(levelname)s %(message)s", about)
    of_engine = EngineLines(output, about) if how == "json" else output

    async def main() -> int:
        backend: Backend
        if spawned is not None:
            backend = EngineChild(spawned, of_engine, socket_path)
        else:
            try:
                backend = _remote(assignment)
            except Exception as e:  # a stranger's engine, perhaps
                return _refused(assignment, e)
        return await Front(assignment, socks, backend).run(told)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def _remote(assignment: Assignment) -> Backend:
    from . import engines
    from .remote.backend import RemoteBackend

    job = EngineJob.parse(job_line(assignment, ""))
    return RemoteBackend(engines.get_remote(assignment.engine), job, assignment.runtime_dir)


def _refused(assignment: Assignment, error: Exception) -> int:
    """An engine that cannot even be asked to load."""
    failure = Failure("load_failed", repr(error))
    if isinstance(error, LoadFailed):
        failure = Failure(error.code, error.message)
    log.error("%s: %s", failure.code, failure.message)
    write_exit_record(assignment.exit_record, failure)
    return WORKER_EXIT_LOAD_FAILED


class Front:
    """One worker's life. ``run`` returns the exit code."""

    def __init__(
        self, assignment: Assignment, socks: tuple[socket.socket, ...], backend: Backend
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._assignment = assignment
        self._backend = backend
        self._memory_wanted = asyncio.Event()
        self._has_answered = False
        self._is_measured = False  # since it became ready
        self._exit: asyncio.Future[int] = self._loop.create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._terms = 0
        self._was_ready = False
        self._saves_prompts = False
        self._saves_until: float | None = None
        self._said: Failure | None = None
        self._honours: dict[str, list[str]] | None = {}
        self._stop_seconds: float | None = None
        self._is_told = False  # how far the load is, by the engine
        self._engine = EngineClient(backend.link)
        port = socks[0].getsockname()[1]
        self._worker = Worker(assignment, port, backend, self._engine, self._on_change)
        self._socks = socks
        app = App(self._worker)
        self._server = HttpServer(
            app,
            *socks,
            source="worker",
            timeouts=timeouts_of(assignment),
            keep_alive_seconds=KEEP_ALIVE_SECONDS,
            shortcut=Shortcut(self._worker, app),
        )
        self._oom = OomWatch(self._loop.time())
        self._heartbeat = Heartbeat(assignment, self._facts, self._worker.heed, self._leave)
        self._worker.lease_left = self._heartbeat.contact.lease_left
        self._worker.ask_manager = self._heartbeat.ask

    def __repr__(self) -> str:
        return repr(self._worker)

    async def run(self, told: list[int]) -> int:
        """Serve until told to stop, drained, orphaned, or until the engine is gone.

        ``told`` holds the signals that came before anybody could act on them.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._on_term, number)
        self._heartbeat.policy.begins(self._loop.time())
        await self._server.start()
        beat = self._spawn(self._heartbeat.run())
        self._spawn(self._watch_load())
        self._spawn(self._watch_memory())
        self._backend.attach(self._loop, self)
        for early in told:
            self._on_term(early)
        code = await self._exit
        beat.cancel()
        await self._finish(code)
        return code

    # What the worker, its engine and the system report.

    def _facts(self) -> Facts:
        self._oom.look(self._loop.time())
        return replace(self._worker.facts(), ended=self._worker.ended.report())

    def _on_change(self, change: Change) -> None:
        policy = self._heartbeat.policy
        if change == "phase":
            policy.phase_is(self._worker.phase)
            if self._worker.phase is Phase.READY:
                self._is_measured = False
                self._loop.call_later(UNMEASURED_SECONDS, self._measure_late)
            elif self._worker.phase is not Phase.DRAINING:
                self._memory_wanted.set()
            if self._worker.phase is Phase.DRAINING:
                self._spawn(self._drain())
            elif self._worker.phase is Phase.FALLING_ASLEEP:
                self._spawn(self._fall_asleep())
            elif self._worker.phase is Phase.LOADING:
                self._spawn(self._wake())
        elif change == "activity":
            if not self._has_answered and self._worker.activity.has_answered:
                # What it takes at work is known from then on, however soon it may have to go.
                self._has_answered = True
                self._memory_wanted.set()
            policy.activity_changed()
        else:
            policy.progress_changed()
        self._heartbeat.wake()

    def on_status(self, event: dict[str, Any]) -> None:
        """See ``Listener``."""
        kind = event.get("event")
        if kind == "begins":
            self._honours = event.get("honours")
            self._stop_seconds = event.get("stop_seconds")
        elif kind == "runs":
            self._worker.runs = str(event.get("text"))
        elif kind == "progress":
            self._is_told = True
            self._worker.load_went_on(_progress(event))
        elif kind == "ready" and self._worker.phase is Phase.LOADING:
            self._worker.context_length = event.get("context_length")
            self._worker.slots = _slots(event.get("slots"))
            self._worker.chat_error = event.get("chat_error")
            self._worker.serves = event.get("serves") or BASIC
            if (told := event.get("adapters")) is not None:
                self._worker.adapters = Adapters(told)
            if self._honours is not None:
                self._worker.support = Support(self._honours, event.get("unable"))
            self._engine.take(event)
            self._saves_prompts = bool(event.get("saves_prompts"))
            self._spawn(self._make_ready())
        elif kind == "failed":
            self._said = Failure(str(event.get("code")), str(event.get("message")))

    def on_exit(self, code: int) -> None:
        """See ``Listener``."""
        if self._worker.phase is Phase.DRAINING:
            self._cut(self._worker.last_words())
            return
        if not self._exit.done() and self._worker.phase is not Phase.FAILED:
            self._fail(self._failure(code, self._was_ready), self._was_ready)

    def _on_term(self, number: int) -> None:
        self._terms += 1
        if self._terms > 1:
            why = self._worker.drain_reason
            twice = "the worker was told twice to stop"
            text = twice if why.startswith(TOLD_TO_STOP) else f"the worker is ended: {why}"
            self._cut(WorkerFailed(text, source="worker"))
            if self._saves_until is not None:  # whoever cuts waits for the memory
                self._backend.kill()
        else:
            self._leave(f"{TOLD_TO_STOP} ({signal.Signals(number).name})")

    def _leave(self, reason: str) -> None:
        if self._worker.phase is not Phase.FAILED:
            self._worker.drain(reason=reason)

    # What it does about it.

    async def _make_ready(self) -> None:
        if await self._backend.link.accepts():
            if self._worker.phase is Phase.LOADING:
                log.info("%s is ready on port %d", self._assignment.model_id, self._worker.port)
                self._was_ready = True
                self._worker.become(Phase.READY)
        elif self._worker.phase is Phase.LOADING:
            message = "the engine said it was ready but accepts no connection"
            self._fail(
                Failure("engine_failed", message, tuple(self._backend.last_lines)), died=False
            )

    async def _watch_load(self) -> None:
        if self._backend.pid is None:
            return
        estimate = LoadEstimate(self._backend.pid, self._assignment.source)
        start = self._loop.time()
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            # What the engine itself reports is better than any estimate.
            if self._worker.phase is not Phase.LOADING or self._is_told:
                return
            sample = estimate.sample(self._loop.time() - start)
            if sample is not None:
                self._worker.load_went_on(sample)

    def _measure_late(self) -> None:
        if not self._is_measured:
            self._memory_wanted.set()

    async def _measure(self) -> None:
        self._is_measured = self._was_ready
        await self._worker.memory.measure()

    async def _watch_memory(self) -> None:
        """With every beat; when a phase begins or the first request has ended that is reported
        without waiting for it. Not when a load has just begun or is over, nor when it ends: whoever
        waits for a token, or for the room, would wait for that as well."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._assignment.beat_seconds):
                    await self._memory_wanted.wait()
            is_new = self._memory_wanted.is_set()
            self._memory_wanted.clear()
            await self._measure()
            if is_new:
                self._on_change("activity")

    async def _fall_asleep(self) -> None:
        """One that cannot is in a state that nobody knows, and ends."""
        try:
            await self._engine.fall_asleep()
        except BrokenOffError as e:
            await self._worker.explain(str(e))  # a dying engine says so itself
            self._end_instead(f"it did not fall asleep: {e}")
        except ModelPoolError as e:
            self._end_instead(f"it did not fall asleep: {e.message}")
        else:
            await self._worker.memory.measure()  # what it holds asleep is said with that it sleeps
            if self._worker.phase is Phase.FALLING_ASLEEP:
                self._worker.become(Phase.ASLEEP)

    def _end_instead(self, reason: str) -> None:
        if self._worker.phase is Phase.FALLING_ASLEEP:
            self._worker.failure = Failure("sleep_failed", reason)
            self._leave(reason)

    async def _wake(self) -> None:
        try:
            await self._engine.wake()
        except (ModelPoolError, BrokenOffError) as e:
            if isinstance(e, BrokenOffError):
                await self._worker.explain(str(e))
            if self._worker.phase is Phase.LOADING:
                text = f"it did not wake up: {e}"
                lines = tuple(self._backend.last_lines)
                self._fail(Failure("wake_failed", text, lines), died=False)
        else:
            if self._worker.phase is Phase.LOADING:
                self._worker.become(Phase.READY)

    async def _drain(self) -> None:
        log.info("draining: %s", self._worker.drain_reason)
        end = self._loop.time() + self._worker.drain_seconds
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(end):
                await self._until_idle()
                self._saves_until = end
                if self._was_ready and not self._is_measured:
                    await self._measure()
        self._cut(WorkerFailed("cut: the worker stopped before the answer ended", source="worker"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._until_idle()
        self._end(WORKER_EXIT_OK)

    def _fail(self, failure: Failure, died: bool) -> None:
        log.error("%s: %s", failure.code, failure.message)
        write_exit_record(self._assignment.exit_record, failure)
        self._worker.become(Phase.FAILED, failure)
        code = WORKER_EXIT_ENGINE_DIED if died else WORKER_EXIT_LOAD_FAILED
        self._spawn(self._say_farewell(code))

    async def _say_farewell(self, code: int) -> None:
        # Broken answers explain themselves; one that did not notice yet is told.
        self._loop.call_later(0.5, self._cut, self._worker.last_words())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._until_idle()
        self._end(code)

    async def _until_idle(self) -> None:
        while self._worker.activity.in_flight:
            await self._worker.became_idle.wait()

    def _cut(self, error: ModelPoolError) -> None:
        for call in list(self._worker.calls):
            call.stop(error)

    def _end(self, code: int) -> None:
        if not self._exit.done():
            self._exit.set_result(code)

    async def _finish(self, code: int) -> None:
        # A load that is cancelled waits for nobody; its constructor may hold the interpreter.
        own = self._stop_seconds or 0
        # It waits for what it has started, and ends itself a moment later.
        grace = max(STOP_SECONDS if self._was_ready else 0, own and own + SHUT_DOWN_SECONDS)
        stop = self._backend.stop(grace, self._save_limits())
        await asyncio.gather(stop, self._heartbeat.flush(), self._close())
        await self._worker.responses.close()
        if self._assignment.prompt_cache_dir:
            remove_unfinished(self._assignment.prompt_cache_dir, self._assignment.worker_id)
        for task in self._tasks:
            task.cancel()
        self._engine.close()
        self._heartbeat.close()
        log.info("exit %d", code)

    def _save_limits(self) -> PromptCacheLimits | None:
        """For the prompts of an engine that has ended its work in time; what is left of the drain
        time is the most that they get. None: it saves none."""
        limits = self._worker.prompt_cache_limits
        if not self._saves_prompts or self._saves_until is None or self._terms > 1:
            return None
        seconds = min(limits.seconds, self._saves_until - self._loop.time())
        return replace(limits, seconds=seconds) if limits.max_bytes and seconds > 0 else None

    async def _close(self) -> None:
        """Answer who waits in a socket's queue, then give up the port."""
        self._server.stop_accepting()
        await self._server.take_queued()
        for sock in self._socks:
            sock.close()
        await self._server.close(CLOSE_SECONDS)

    def _failure(self, code: int, died: bool) -> Failure:
        lines = tuple(self._backend.last_lines)
        end = describe_exit(code)
        if code == -signal.SIGKILL and self._oom.has_struck(self._loop.time()):
            return Failure("oom", "the kernel ended the engine for lack of memory", lines, code)
        if died:
            return diagnose.death(code, end, lines, was_killed=code == -signal.SIGKILL)
        said = self._said or Failure("load_failed", f"the engine ended while loading: {end}")
        if said.code == "load_failed":
            reason = diagnose.reason_of(lines)
            message = f"{said.message}: {reason}" if reason else said.message
            said = Failure(diagnose.code_of(lines, said.code), message)
        return Failure(said.code, said.message, lines, code)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _slots(value: object) -> int | None:
    """As an engine says it; what is no number of slots is not known."""
    return value if isinstance(value, int) and value >= 0 else None


def _progress(event: dict[str, Any]) -> Progress:
    return Progress(
        stage=str(event.get("stage", "load")),
        fraction=event.get("fraction"),
        bytes_done=event.get("bytes_done"),
        bytes_total=event.get("bytes_total"),
        eta_seconds=event.get("eta_seconds"),
        estimated=bool(event.get("estimated")),
    )
