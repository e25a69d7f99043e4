"""What a slot asks to be done outside: start, drain and end a worker. Holds no state of a slot."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from modelpool_client.wire import (
    Assignment,
    DrainReply,
    DrainRequest,
    Facts,
    Failure,
    ProbeReply,
    ProbeRequest,
)

from modelpool.catalog.database import WorkerRow
from modelpool.launchers import Launcher, LaunchError, LaunchSpec, WorkerProcess
from modelpool.launchers.local import boot_id
from modelpool.pool.health import ANSWER_SECONDS, Look, probe_request, wants_probe
from modelpool.pool.patience import LAUNCH_SECONDS, in_time, written
from modelpool.pool.remains import last_words, tidy

FORGET_SECONDS = 5.0
DRAIN_ANSWER_SECONDS = 5.0
CUT_SECONDS = 5.0
GROUP_GONE_SECONDS = 5.0
# The front ends work by itself after its drain time; only a front that hangs is killed.
FRONT_MARGIN_SECONDS = 5.0
# A second TERM too soon after the first would be merged with it by the kernel.
SECOND_TERM_SECONDS = 0.1


class Journal(Protocol):
    """Where workers are remembered, so that the next manager can take them over."""

    async def next_epoch(self, model_id: str) -> int: ...
    async def intend_worker(self, record: WorkerRow) -> None: ...
    async def worker_started(self, worker_id: str, pid: int, create_time: float) -> None: ...
    async def forget_worker(self, worker_id: str) -> None: ...
    async def workers(self) -> Sequence[WorkerRow]: ...


class WorkerLink(Protocol):
    """How the manager speaks to a worker."""

    async def facts(self, worker: Worker) -> Facts: ...
    async def drain(self, worker: Worker, request: DrainRequest) -> DrainReply: ...
    async def probe(self, worker: Worker, request: ProbeRequest) -> ProbeReply: ...


@dataclass(frozen=True)
class Worker:
    """A started worker: its process and what was written down of it."""

    record: WorkerRow
    process: WorkerProcess

    @property
    def worker_id(self) -> str:
        return self.record.worker_id

    @property
    def port(self) -> int:
        return self.record.port


@dataclass(frozen=True)
class Burial:
    """How a worker ended. ``back`` False: some process of its group would not go, or what it held
    of a device was not given back."""

    exit_code: int | None
    failure: Failure | None
    killed: bool = False
    back: bool = True


class Crew:
    """Carries out what slots decide. ``memory_is_back`` is asked when the processes of the worker
    with that id are gone."""

    def __init__(
        self,
        launcher: Launcher,
        link: WorkerLink,
        journal: Journal,
        state_dir: Path,
        memory_is_back: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        self._memory_is_back = memory_is_back
        self._launcher = launcher
        self._link = link
        self._journal = journal
        self._state_dir = state_dir
        self._to_forget: dict[str, None] = {}  # in order
        self._late: dict[str, asyncio.Task[None]] = {}  # launches that were given up, by worker id

    @property
    def late(self) -> frozenset[str]:
        """Ids of workers whose load was given up before there was a process; it is ended when it
        comes."""
        return frozenset(self._late)

    def log_path(self, model_id: str) -> Path:
        """One log file per model, appended to by each of its workers in turn."""
        safe = "".join(c if c.isalnum() or c in ".-_" else "_" for c in model_id)
        digest = hashlib.sha256(model_id.encode()).hexdigest()[:8]
        return self._state_dir / "logs" / f"{safe[:80]}-{digest}.log"

    async def launch(self, assignment: Assignment) -> Worker:
        """Write the intent down, start the worker, write down what came of it.

        Raises:
            LaunchError: the process could not be started.
            StoreError: it could not be written down; nothing is left running.
        """
        record = await self._intended(assignment)
        assignment = replace(
            assignment,
            epoch=record.epoch,
            secret=record.secret,
            runtime_dir=record.runtime_dir,
            exit_record=record.exit_record,
        )
        starting = asyncio.ensure_future(
            self._launcher.start(LaunchSpec(assignment, Path(record.log_path)))
        )
        if not await _is_over(starting, LAUNCH_SECONDS):
            late = asyncio.create_task(self._end_late(starting, record))
            self._late[record.worker_id] = late
            late.add_done_callback(lambda _: self._late.pop(record.worker_id))
            raise LaunchError(f"no process was there after {LAUNCH_SECONDS:g} s")
        try:
            process = starting.result()
        except Exception:
            await self.forget(record)
            raise
        worker = _worker(record, process)
        started = self._journal.worker_started(record.worker_id, process.pid, process.create_time)
        try:
            await written(started)
        except Exception:  # nobody would know of it
            await self.bury(worker, None)
            raise
        return worker

    async def _intended(self, assignment: Assignment) -> WorkerRow:
        epoch = await written(self._journal.next_epoch(assignment.model_id))
        record = self._record(assignment, epoch)
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
            await self.bury(_worker(record, starting.result()), None)
        else:
            await self.forget(record)

    def _record(self, assignment: Assignment, epoch: int) -> WorkerRow:
        runtime = Path(tempfile.gettempdir()) / f"modelpool-{assignment.worker_id}"
        return WorkerRow(
            worker_id=assignment.worker_id,
            pool_id=assignment.pool_id,
            model_id=assignment.model_id,
            epoch=epoch,
            port=assignment.port,
            secret=secrets.token_urlsafe(24),
            boot_id=boot_id(),
            runtime_dir=str(runtime),
            exit_record=str(self._state_dir / "exits" / f"{assignment.worker_id}.json"),
            log_path=str(self.log_path(assignment.model_id)),
            started_at=time.time(),
        )

    async def drain(self, worker: Worker, request: DrainRequest) -> DrainReply | None:
        """Ask it to stop taking work; None when it does not answer."""
        with contextlib.suppress(OSError):
            return await in_time(lambda: self._link.drain(worker, request), DRAIN_ANSWER_SECONDS)
        return None

    async def look(self, worker: Worker, hang_seconds: float) -> Look:
        """Ask a worker how it is and, where its engine seems to stand still, that for a token."""
        facts = await in_time(lambda: self._link.facts(worker), ANSWER_SECONDS)
        if facts is None or not wants_probe(facts, hang_seconds):
            return Look(facts)
        request = probe_request(facts, hang_seconds)
        limit = request.timeout_seconds + ANSWER_SECONDS
        probe = await in_time(lambda: self._link.probe(worker, request), limit)
        return Look(facts if probe is not None else None, probe)

    async def retire(
        self, worker: Worker, *, cut: bool, grace: float, told: bool = False
    ) -> Burial:
        """TERM, then KILL to the group; returns when the group is gone.

        ``cut``: current work is ended at once, else it has ``grace`` seconds. ``told``: it drains
        already, and might take another TERM for the second, which cuts.
        """
        process = worker.process
        if not (cut or told):
            process.terminate()
        limit = CUT_SECONDS if cut else grace + FRONT_MARGIN_SECONDS
        killed = False
        if cut:
            await self._cut_work(process)
        try:
            async with asyncio.timeout(limit):
                code = await process.wait()
        except TimeoutError:
            killed = True
            process.kill()
            code = await _ended_in_time(process)
        return await self.bury(worker, code, killed=killed)

    async def cut(self, worker: Worker) -> None:
        """Its current work has no more time; whoever ends it already sees the rest through."""
        await self._cut_work(worker.process)
        try:
            async with asyncio.timeout(CUT_SECONDS):
                await worker.process.wait()
        except TimeoutError:
            worker.process.kill()

    @staticmethod
    async def _cut_work(process: WorkerProcess) -> None:
        """The second TERM cuts, and it may have been draining without a first."""
        process.terminate()
        await asyncio.sleep(SECOND_TERM_SECONDS)
        process.terminate()

    async def bury(self, worker: Worker, code: int | None, *, killed: bool = False) -> Burial:
        """The front is dead: end the rest of its group, read its last words, forget it."""
        worker.process.kill()
        back = await worker.process.group_gone(GROUP_GONE_SECONDS)
        failure = await asyncio.to_thread(last_words, worker.record)
        await self.forget(worker.record)
        if self._memory_is_back is not None:  # before anybody plans with what it held
            back = await self._memory_is_back(worker.worker_id) and back
        return Burial(code, failure, killed, back)

    async def forget(self, record: WorkerRow) -> None:
        """Remove what a worker that is gone has left on disk and in the journal."""
        await asyncio.to_thread(tidy, record)
        self._to_forget[record.worker_id] = None
        with contextlib.suppress(Exception):  # a full disk: at the next end it is tried again
            async with asyncio.timeout(FORGET_SECONDS):
                for worker_id in tuple(self._to_forget):
                    await self._journal.forget_worker(worker_id)
                    self._to_forget.pop(worker_id, None)


def _worker(record: WorkerRow, process: WorkerProcess) -> Worker:
    return Worker(replace(record, pid=process.pid, create_time=process.create_time), process)


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


async def _ended_in_time(process: WorkerProcess) -> int | None:
    """After a KILL only a process stuck in the kernel stays; the burial will say so."""
    try:
        async with asyncio.timeout(GROUP_GONE_SECONDS):
            return await process.wait()
    except TimeoutError:
        return None
