"""Worker processes: launched and written down, asked, drained, terminated, reaped and forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from modelpool_client.wire import (
    WORKER_EXIT_OK,
    Assignment,
    DrainReply,
    DrainRequest,
    Facts,
    Failure,
    ProbeReply,
    ProbeRequest,
)

from modelpool.catalog.database import WorkerRow
from modelpool.catalog.fingerprint import files_of
from modelpool.catalog.model import Model
from modelpool.launchers import Launcher, LaunchError, Site, WorkerProcess
from modelpool.launchers.local import boot_id
from modelpool.pool import prompt_caches
from modelpool.pool.context import Settings
from modelpool.pool.exit_record import has_left_behind, read_exit_record, remove_files
from modelpool.pool.file_names import file_name
from modelpool.pool.health import ANSWER_SECONDS, HealthReport, probe_request, wants_probe
from modelpool.pool.timeouts import LATE_SECONDS, LAUNCH_SECONDS, in_time, written
from modelpool.pool.worker import ExitReport, Worker

FORGET_SECONDS = 5.0
EXIT_RECORD_SECONDS = 5.0
DRAIN_ANSWER_SECONDS = 5.0
CUT_SECONDS = 5.0
# A front that hangs is ended without hearing why.
TELL_SECONDS = 1.0
GROUP_GONE_SECONDS = 5.0
# The front ends work by itself after its drain time; only a front that hangs is killed.
FRONT_MARGIN_SECONDS = 5.0
# A second TERM too soon after the first would be merged with it by the kernel.
SECOND_TERM_SECONDS = 0.1


LastFacts = Callable[[], Facts | None]


def no_facts() -> None:
    """Nothing was ever heard of it."""


class Journal(Protocol):
    """Where workers are remembered, so that the next manager can take them over."""

    async def next_epoch(self, model_id: str) -> int: ...
    async def intend_worker(self, record: WorkerRow) -> None: ...
    async def worker_started(self, worker_id: str, pid: int, create_time: float) -> None: ...
    async def forget_worker(self, worker_id: str) -> None: ...
    async def workers(self) -> Sequence[WorkerRow]: ...


class WorkerClient(Protocol):
    """How the manager speaks to a worker."""

    async def facts(self, worker: Worker) -> Facts: ...
    async def drain(self, worker: Worker, request: DrainRequest) -> DrainReply: ...
    async def sleep(self, worker: Worker, request: DrainRequest) -> DrainReply: ...
    async def wake(self, worker: Worker) -> Facts: ...
    async def probe(self, worker: Worker, request: ProbeRequest) -> ProbeReply: ...


class Sites(Protocol):
    """From where workers run."""

    def is_common(self, model: Model) -> bool:
        """Whether it is where most do: a process that was started before will do."""
        ...

    async def of(self, model: Model) -> Site:
        """The place of the model's next worker.

        Raises:
            LaunchError: there is none; the text says what to do.
        """
        ...


@dataclass(frozen=True)
class PoolIdentity:
    """By what workers know the pool. ``manager_url`` is where they send their facts."""

    pool_id: str
    manager_url: str = ""


class Workers:
    """Carries out what is decided about worker processes. ``memory_released`` is asked when the
    processes of the worker with those last facts are gone: whether what they held is back.
    ``effective`` gives a model the options that a worker of it is started with, ``sites`` says from
    where it runs."""

    def __init__(
        self,
        identity: PoolIdentity,
        settings: Settings,
        launcher: Launcher,
        client: WorkerClient,
        journal: Journal,
        memory_released: Callable[[Facts | None], Awaitable[bool]] | None = None,
        effective: Callable[[Model], Model] = lambda model: model,
        sites: Sites | None = None,
    ) -> None:
        self._identity = identity
        self._settings = settings
        self._launcher = launcher
        self._client = client
        self._journal = journal
        self._memory_released = memory_released
        self._effective = effective
        self._sites = sites
        self._to_forget: dict[str, None] = {}  # in order
        self._late: dict[str, asyncio.Task[None]] = {}  # launches that were given up, by worker id

    @property
    def late(self) -> frozenset[str]:
        """Ids of workers whose load was given up before there was a process; it is ended when it
        comes."""
        return frozenset(self._late)

    def log_path(self, model_id: str) -> Path:
        """One log file per model, appended to by each of its workers in turn."""
        return self._settings.config.state_dir / "logs" / f"{file_name(model_id)}.log"

    def new_id(self, model: Model) -> str:
        """For the next worker of the model."""
        if self._sites is not None and not self._sites.is_common(model):
            return uuid.uuid4().hex
        return self._launcher.new_worker_id(model.engine)

    async def launch(
        self, model: Model, worker_id: str, port: int, lease_seconds: float | None
    ) -> Worker:
        """Write the intent down, start the worker, write down what came of it.

        Raises:
            LaunchError: the process could not be started, or there is no place for it.
            StoreError: it could not be written down; nothing is left running.
        """
        site = await self._sites.of(model) if self._sites is not None else Site()
        record = await self._intended(model.model_id, worker_id, port)
        assignment = replace(
            self._assignment(self._effective(model), record, lease_seconds),
            python=site.python,
            variables=site.variables,
        )
        starting = asyncio.ensure_future(self._launcher.start(assignment))
        if not await _is_over_in_time(starting):
            late = asyncio.create_task(self._end_late(starting, record))
            self._late[record.worker_id] = late
            late.add_done_callback(lambda _: self._late.pop(record.worker_id))
            raise LaunchError(f"no process was there after {LAUNCH_SECONDS:g} s")
        try:
            process = starting.result()
        except Exception:
            await self.forget(record)
            raise
        worker = replace(self._worker(record, process), options=assignment.options)
        started = self._journal.worker_started(record.worker_id, process.pid, process.create_time)
        try:
            await written(started)
        except Exception:  # nobody would know of it
            await self.reap(worker, None)
            raise
        return worker

    def read_ahead(self, model: Model) -> None:
        """A worker of it is launched as soon as there is room."""
        if os.path.isabs(model.source):
            self._launcher.read_ahead(partial(files_of, model))

    async def _intended(self, model_id: str, worker_id: str, port: int) -> WorkerRow:
        epoch = await written(self._journal.next_epoch(model_id))
        record = self._record(model_id, worker_id, port, epoch)
        try:
            await written(self._journal.intend_worker(record))
        except Exception:  # a write that was given up may be made all the same
            self._to_forget[record.worker_id] = None
            raise
        return record

    async def _end_late(self, starting: asyncio.Future[WorkerProcess], record: WorkerRow) -> None:
        """Its load was given up. Until it is gone its record stays, should the manager go first."""
        await _is_over(starting, None)
        if starting.exception() is None:
            await self.reap(self._worker(record, starting.result()), None)
        else:
            await self.forget(record)

    def _worker(self, record: WorkerRow, process: WorkerProcess) -> Worker:
        row = replace(record, pid=process.pid, create_time=process.create_time)
        return Worker(row, process, host=self._settings.config.host)

    def _record(self, model_id: str, worker_id: str, port: int, epoch: int) -> WorkerRow:
        state_dir = self._settings.config.state_dir
        return WorkerRow(
            worker_id=worker_id,
            pool_id=self._identity.pool_id,
            model_id=model_id,
            epoch=epoch,
            port=port,
            secret=secrets.token_urlsafe(24),
            boot_id=boot_id(),
            runtime_dir=str(Path(tempfile.gettempdir()) / f"modelpool-{worker_id}"),
            exit_record=str(state_dir / "exits" / f"{worker_id}.json"),
            log_path=str(self.log_path(model_id)),
            started_at=time.time(),
        )

    def _assignment(
        self, model: Model, record: WorkerRow, lease_seconds: float | None
    ) -> Assignment:
        config = self._settings.config
        return Assignment(
            worker_id=record.worker_id,
            secret=record.secret,
            pool_id=record.pool_id,
            epoch=record.epoch,
            manager_url=self._identity.manager_url,
            model_id=model.model_id,
            engine=model.engine,
            source=model.source,
            port=record.port,
            aliases=model.aliases,
            display_name=model.display_name,
            capabilities=model.capabilities,
            options=model.options,
            host=config.host,
            runtime_dir=record.runtime_dir,
            exit_record=record.exit_record,
            lease_seconds=lease_seconds,
            beat_seconds=config.beat_seconds,
            drain_seconds=config.graceful_shutdown_seconds,
            orphan_seconds=config.orphan_seconds,
            client_header_timeout_seconds=config.client_header_timeout_seconds,
            client_body_timeout_seconds=config.client_body_timeout_seconds,
            send_timeout_seconds=config.send_timeout_seconds,
            stream_ping_seconds=config.stream_ping_seconds,
            log_path=record.log_path,
            log_limits=config.log_limits,
            log_format=config.log_format,
            tracing=config.worker_tracing,
            prompt_cache_dir=str(prompt_caches.folder_of(config.prompt_cache_root, model.model_id)),
            prompt_cache_limits=config.prompt_cache_limits,
            responses_dir=str(config.responses_dir),
            responses_max_bytes=config.responses_max_bytes,
            allowlist=config.allowlist,
            engine_settings=config.engine_settings,
        )

    async def drain(self, worker: Worker, request: DrainRequest) -> DrainReply | None:
        """Ask it to stop taking work; None when it does not answer."""
        with contextlib.suppress(OSError):
            return await in_time(lambda: self._client.drain(worker, request), DRAIN_ANSWER_SECONDS)
        return None

    async def put_to_sleep(self, worker: Worker, request: DrainRequest) -> DrainReply | None:
        """Ask it to stop taking work and to let go of device memory, which it says itself when it
        has; None when it does not answer."""
        with contextlib.suppress(OSError):
            return await in_time(lambda: self._client.sleep(worker, request), DRAIN_ANSWER_SECONDS)
        return None

    async def wake(self, worker: Worker) -> Facts | None:
        """Tell it to take device memory again, which it says itself when it has; None when it does
        not answer."""
        with contextlib.suppress(OSError):
            return await in_time(lambda: self._client.wake(worker), DRAIN_ANSWER_SECONDS)
        return None

    async def check_health(self, worker: Worker, hang_seconds: float) -> HealthReport:
        """Ask a worker how it is and, where its engine seems to stand still, that for a token."""
        facts = await in_time(lambda: self._client.facts(worker), ANSWER_SECONDS)
        if facts is None or not wants_probe(facts, hang_seconds):
            return HealthReport(facts)
        request = probe_request(facts, hang_seconds)
        limit = request.timeout_seconds + ANSWER_SECONDS
        probe = await in_time(lambda: self._client.probe(worker, request), limit)
        return HealthReport(facts if probe is not None else None, probe)

    async def stop(
        self,
        worker: Worker,
        last_facts: LastFacts = no_facts,
        *,
        reason: str = "",
        cut: bool,
        grace: float,
        is_draining: bool = False,
    ) -> ExitReport:
        """TERM, then KILL to the group; returns when the group is gone.

        ``cut``: current work is ended at once and told the ``reason``, else it has ``grace``
        seconds. ``is_draining``: it drains already, and might take another TERM for the second,
        which cuts.
        """
        process = worker.process
        if not (cut or is_draining):
            process.terminate()
        limit = CUT_SECONDS if cut else grace + FRONT_MARGIN_SECONDS
        is_killed = False
        try:
            async with asyncio.timeout(limit):
                if cut:
                    await self._cut(worker, reason)
                code = await process.wait()
        except TimeoutError:
            is_killed = True
            process.kill()
            code = await _exit_code(process)
        return await self.reap(worker, code, last_facts, is_killed=is_killed)

    async def cut_work(self, worker: Worker, reason: str) -> None:
        """Its current work has no more time; whoever ends it already sees the rest through."""
        try:
            async with asyncio.timeout(CUT_SECONDS):
                await self._cut(worker, reason)
                await worker.process.wait()
        except TimeoutError:
            worker.process.kill()

    async def _cut(self, worker: Worker, reason: str) -> None:
        """Say why, if there is work to cut. Then the second TERM cuts, and it may have been
        draining without a first."""
        process, request = worker.process, DrainRequest(reason=f"unloaded by force: {reason}")
        if reason:
            with contextlib.suppress(OSError):
                await in_time(lambda: self._client.drain(worker, request), TELL_SECONDS)
        process.terminate()
        await asyncio.sleep(SECOND_TERM_SECONDS)
        process.terminate()

    async def reap(
        self,
        worker: Worker,
        exit_code: int | None,
        last_facts: LastFacts = no_facts,
        *,
        is_killed: bool = False,
    ) -> ExitReport:
        """End the rest of the group, and of one that did not end in order what it has left behind;
        read the exit record, forget the worker.

        ``exit_code`` None: its front may be alive; how that ended is said if it can be known.
        """
        worker.process.kill()
        is_gone = await worker.process.group_gone(GROUP_GONE_SECONDS)
        if exit_code is None and is_gone:
            exit_code = await _exit_code(worker.process)
        if exit_code != WORKER_EXIT_OK or is_killed or await _has_left_behind(worker.record):
            await self._launcher.sweep(worker.record)
        failure = await self._exit_record(worker.record)
        await self.forget(worker.record)
        if self._memory_released is not None:  # before anybody plans with what it held
            is_gone = await self._memory_released(last_facts()) and is_gone
        return ExitReport(exit_code, failure, is_killed, is_gone)

    async def _exit_record(self, record: WorkerRow) -> Failure:
        """A disk that hangs holds up no end."""
        try:
            async with asyncio.timeout(EXIT_RECORD_SECONDS):
                return await asyncio.to_thread(read_exit_record, record)
        except TimeoutError:
            text = f"its exit record could not be read within {EXIT_RECORD_SECONDS:g} s"
            return Failure("worker_died", text)

    async def forget(self, record: WorkerRow) -> None:
        """Remove what a worker that is gone has left on disk and in the journal."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FORGET_SECONDS):
                await asyncio.to_thread(self._remove_files, record)
        self._to_forget[record.worker_id] = None
        with contextlib.suppress(Exception):  # a full disk: at the next end it is tried again
            async with asyncio.timeout(FORGET_SECONDS):
                for worker_id in tuple(self._to_forget):
                    await self._journal.forget_worker(worker_id)
                    self._to_forget.pop(worker_id, None)

    def _remove_files(self, record: WorkerRow) -> None:
        remove_files(record)
        config = self._settings.config
        prompt_caches.remove_unfinished(config.prompt_cache_root, record.model_id, record.worker_id)
        if not config.prompt_cache_disk_mb:  # it may not have heard of it
            prompt_caches.remove(config.prompt_cache_root, record.model_id)


async def _is_over_in_time(starting: asyncio.Future[WorkerProcess]) -> bool:
    """Within ``LAUNCH_SECONDS``; a manager that was itself suspended meanwhile waits once more."""
    now = asyncio.get_running_loop().time
    while True:
        began = now()
        if await _is_over(starting, LAUNCH_SECONDS):
            return True
        if now() - began < LAUNCH_SECONDS + LATE_SECONDS:
            return False


async def _is_over(starting: asyncio.Future[WorkerProcess], limit: float | None) -> bool:
    """Wait for it. A manager that goes meanwhile does not; its record stays, for the next one."""

    def kill(started: asyncio.Future[WorkerProcess]) -> None:
        if not started.cancelled() and started.exception() is None:
            started.result().kill()

    try:
        return bool((await asyncio.wait({starting}, timeout=limit))[0])
    except asyncio.CancelledError:
        starting.add_done_callback(kill)
        raise


async def _has_left_behind(record: WorkerRow) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(EXIT_RECORD_SECONDS):
            return await asyncio.to_thread(has_left_behind, record)
    return False


async def _exit_code(process: WorkerProcess) -> int | None:
    """After a KILL only a process stuck in the kernel stays; the exit report will say so."""
    try:
        async with asyncio.timeout(GROUP_GONE_SECONDS):
            return await process.wait()
    except TimeoutError:
        return None
