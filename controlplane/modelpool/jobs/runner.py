"""Runs the jobs, one writer for all of them; each in a task of its own."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

from modelpool_client.errors import Conflict, InvalidRequest, ModelPoolError, NotFound, QueueFull

from modelpool.catalog.errors import StoreError
from modelpool.catalog.model import did_you_mean
from modelpool.ticks import tick

from .base import Kind
from .job import ALLOWED, Action, Job, JobState, Progress, next_to_run, retry_delay
from .process import ProcessKilled

log = logging.getLogger(__name__)

# Of a run that was ended though neither a client nor the manager's end wanted that.
CANCELLED = RuntimeError("something that it waited for was cancelled")

# Jobs that are not over. A client that makes more in a loop has a bug.
MAX_UNFINISHED = 1000
MAX_OVER = 500
REPORT_SECONDS = 1.0
# A manager that dies takes no more of the progress with it.
SAVE_REPORTS = 5
ID_BYTES = 4


# Under which jobs are kept.
DOCUMENTS = "job"


class JobStore(Protocol):
    """Where jobs outlive the manager."""

    async def documents(self, kind: str) -> dict[str, Any]: ...
    async def write_documents(
        self, kind: str, put: Mapping[str, Any], drop: Collection[str] = ()
    ) -> None: ...


Publish = Callable[..., object]


class Jobs:
    """All jobs there are, oldest first.

    ``publish`` is told of each change of state, and of progress; ``now`` gives seconds since 1970.
    """

    def __init__(self, store: JobStore, publish: Publish, now: Callable[[], float]) -> None:
        self._kinds: dict[str, Kind] = {}
        self._store = store
        self._publish = publish
        self._now = now
        self._jobs: dict[str, Job] = {}
        self._runs: dict[str, asyncio.Task[Mapping[str, Any]]] = {}
        self._asked: dict[str, tuple[JobState, str]] = {}
        self._supervisors: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Jobs: {len(self._jobs)}, {len(self._runs)} running>"

    @property
    def kinds(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(sorted(self._kinds))

    async def open(self, kinds: Iterable[Kind]) -> None:
        """Learn what kinds there are, and read the jobs of former managers; those that were under
        way are begun again, where their kind can go on."""
        self._kinds = {kind.name: kind for kind in kinds}
        found = [Job.from_dict(d) for d in (await self._store.documents(DOCUMENTS)).values()]
        self._jobs = {job.job_id: job for job in sorted(found, key=lambda j: j.created_at)}
        for job in list(self._jobs.values()):
            if job.state.is_active:
                await self._recover(job)
        self._start_more()

    async def _recover(self, job: Job) -> None:
        kind = self._kinds.get(job.kind)
        if kind is not None and (kind.is_resumable or job.state is JobState.QUEUED):
            await self._put(job.queued("begun again: the manager was started anew"))
            return
        reason = "the manager ended while it ran: start it again"
        if kind is None:
            reason = f"this version has no jobs of kind {job.kind!r}"
        await self._put(job.over(JobState.FAILED, self._now(), reason, "interrupted"))

    async def close(self) -> None:
        """Jobs that run go on with the next manager."""
        self._is_closed = True
        for run in self._runs.values():
            run.cancel()
        await asyncio.gather(*self._supervisors, return_exceptions=True)

    def list(
        self, kind: str | None = None, state: str | None = None, subject: str | None = None
    ) -> list[Job]:
        """Those that meet every condition given, newest first."""
        return [
            job
            for job in reversed(self._jobs.values())
            if (kind is None or job.kind == kind)
            and (state is None or job.state == state)
            and (subject is None or job.subject == subject)
        ]

    def get(self, job_id: str) -> Job:
        """The job with that id.

        Raises:
            NotFound: there is none.
        """
        job = self._jobs.get(job_id)
        if job is None:
            near = did_you_mean(job_id, self._jobs)
            raise NotFound(f"there is no job {job_id[:100]!r}{near}", param="job_id")
        return job

    async def create(self, kind_name: str, data: Mapping[str, Any]) -> tuple[Job, bool]:
        """A new job, or the one that does just that already; and whether it is new.

        Raises:
            ModelPoolError: why it cannot be done.
        """
        kind = self._kind(kind_name)
        request = await kind.parse(data)
        params = dict(request.params)
        for job in self._jobs.values():
            is_same = (job.kind, job.subject) == (kind_name, request.subject)
            if is_same and not job.state.is_over:
                if dict(job.params) == params:
                    return job, False
                text = f"{job} is about the same and was asked for otherwise: cancel it first"
                raise Conflict(text, code="job_exists", details={"job_id": job.job_id})
        if sum(not job.state.is_over for job in self._jobs.values()) >= MAX_UNFINISHED:
            text = f"{MAX_UNFINISHED} jobs are not done yet: wait for them, or cancel some"
            raise QueueFull(text, retry_after=REPORT_SECONDS)
        job_id = f"{kind_name}-{secrets.token_hex(ID_BYTES)}"
        job = Job(
            *(job_id, kind_name, request.subject, params),
            secrets=dict(request.secrets),
            created_at=self._now(),
        )
        await self._put(job)
        self._start_more()
        return self._jobs[job_id], True

    def _kind(self, name: str) -> Kind:
        kind = self._kinds.get(name)
        if kind is None:
            known = ", ".join(self.kinds)
            raise InvalidRequest(
                f"there are no jobs of kind {name!r}; there are {known}", param="kind"
            )
        return kind

    async def cancel(self, job_id: str) -> Job:
        """End it; the job as it then is.

        Raises:
            NotFound: there is none.
            Conflict: it is over already.
        """
        return await self._end(Action.CANCEL, job_id, JobState.CANCELLED, "cancelled on request")

    async def pause(self, job_id: str) -> Job:
        """Let it rest until ``resume``, also over restarts of the manager.

        Raises:
            NotFound: there is none.
            Conflict: it does not run, or its kind could not go on where it was.
        """
        job = self.get(job_id)
        if not self._kind(job.kind).is_resumable:
            raise Conflict(f"{job} cannot go on where it was: cancel it", code="not_resumable")
        return await self._end(Action.PAUSE, job_id, JobState.PAUSED, "paused on request")

    async def resume(self, job_id: str) -> Job:
        """Begin it again where it was.

        Raises:
            NotFound: there is none.
            Conflict: it is under way, or has succeeded.
        """
        job = self._allowed(Action.RESUME, job_id)
        self._kind(job.kind)
        await self._put(job.queued("resumed on request"))
        self._start_more()
        return self._jobs[job_id]

    async def remove(self, job_id: str) -> None:
        """Forget one that is over.

        Raises:
            NotFound: there is none.
            Conflict: it is not over.
        """
        self._allowed(Action.REMOVE, job_id)
        await self._store.write_documents(DOCUMENTS, {}, (job_id,))
        self._jobs.pop(job_id, None)

    async def wait(self, job_id: str, seconds: float) -> Job:
        """The job when it rests or is over, or as it is after that time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: not self._is_active(job_id))
        return self.get(job_id)

    def _is_active(self, job_id: str) -> bool:
        job = self._jobs.get(job_id)
        return job is not None and job.state.is_active

    def _allowed(self, action: Action, job_id: str) -> Job:
        job = self.get(job_id)
        if job.state not in ALLOWED[action]:
            states = ", ".join(sorted(ALLOWED[action]))
            text = f"{job} cannot be asked to {action}; only one that is {states}"
            raise Conflict(text, code="job_state")
        return job

    async def _end(self, action: Action, job_id: str, state: JobState, reason: str) -> Job:
        job = self._allowed(action, job_id)
        if job.state is not JobState.RUNNING:
            await self._put(self._ended(job, state, reason))
            self._start_more()
            return self._jobs[job_id]
        self._asked[job_id] = (state, reason)
        if run := self._runs.get(job_id):
            run.cancel()
        async with self._changed:
            await self._changed.wait_for(lambda: not self._is_running(job_id))
        return self.get(job_id)

    def _ended(self, job: Job, state: JobState, reason: str) -> Job:
        return job.over(state, self._now(), reason) if state.is_over else job.paused(reason)

    def _is_running(self, job_id: str) -> bool:
        job = self._jobs.get(job_id)
        return job is not None and job.state is JobState.RUNNING

    def _start_more(self) -> None:
        if self._is_closed:
            return
        waiting = [j for j in self._jobs.values() if not j.state.is_over]
        lanes = {name: kind.lane for name, kind in self._kinds.items()}
        for job in list(next_to_run(waiting, lanes)):
            self._jobs[job.job_id] = running = job.running(self._now())
            task = asyncio.ensure_future(self._supervise(running))
            self._supervisors.add(task)
            task.add_done_callback(self._supervisors.discard)

    async def _supervise(self, job: Job) -> None:
        """From the job's begin to its end; it is its run that is cancelled, never this."""
        await self._put(job)
        context = RunningJob(self, job.job_id)
        if job.job_id not in self._asked and not self._is_closed:
            run = asyncio.ensure_future(self._run(context))
            self._runs[job.job_id] = run
            reporting = asyncio.ensure_future(self._report(job.job_id))
            await asyncio.wait({run})
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)
            del self._runs[job.job_id]
            outcome = self._outcome(context.job, run)
        else:
            outcome = self._outcome(context.job, None)
        if outcome.state is JobState.RUNNING:  # the next manager's
            await self._write(outcome)
            return
        await self._put(outcome)
        self._start_more()

    async def _run(self, context: RunningJob) -> Mapping[str, Any]:
        """What comes of the job, begun again where its process was killed, as its kind allows."""
        kind, failures, best = self._kinds[context.job.kind], 0, -1.0
        while True:
            try:
                return await kind.run(context)
            except ProcessKilled as e:
                done = context.job.progress.done
                failures, best = (1, done) if done > best else (failures + 1, best)
                # Kinds of other packages may know nothing of it.
                if failures > getattr(kind, "retries", 0):
                    raise
                await self._begin_again(context, e, failures)

    async def _begin_again(self, context: RunningJob, error: ProcessKilled, failures: int) -> None:
        delay = retry_delay(failures)
        context.log(f"{error.message}; begun again in {delay:g} s")
        reason = f"begun again: {error.message}"
        self._tell("job-retried", dataclasses.replace(context.job, reason=reason))
        await asyncio.sleep(delay)
        self.change(context.job.job_id, lambda j: dataclasses.replace(j, attempts=j.attempts + 1))

    def _outcome(self, job: Job, run: asyncio.Task[Mapping[str, Any]] | None) -> Job:
        """What the job is after its run, None where that was not even begun. Where the manager ends
        it is still under way: the next one goes on."""
        state, reason = self._asked.pop(job.job_id, (None, ""))
        is_ended = run is None or (run.cancelled() and (self._is_closed or state is not None))
        if run is None or is_ended:
            return job if state is None else self._ended(job, state, reason)
        now, error = self._now(), CANCELLED if run.cancelled() else run.exception()
        if error is None:
            return job.over(JobState.SUCCEEDED, now, result=run.result())
        if isinstance(error, ModelPoolError):
            return job.over(JobState.FAILED, now, error.message, error.code)
        log.error("a bug of the pool: the job %s failed", job, exc_info=error)
        reason = f"a bug in the pool, see its log: {type(error).__name__}: {error}"
        return job.over(JobState.FAILED, now, reason, "internal_error")

    async def _report(self, job_id: str) -> None:
        """Tell and write how far it is, now and then."""
        told, reports = self._jobs[job_id].progress, 0
        while True:
            await tick(REPORT_SECONDS)
            job = self._jobs[job_id]
            if job.progress == told:
                continue
            told, reports = job.progress, reports + 1
            self._tell("job-progress", job)
            if reports % SAVE_REPORTS == 0:
                await self._write(job)

    async def _put(self, job: Job) -> None:
        """The only place where a job changes its state."""
        if job.state is not JobState.RUNNING:
            job = job.logged(self._now(), f"{job.state}: {job.reason}" if job.reason else job.state)
        self._jobs[job.job_id] = job
        await self._write(job)
        self._tell(f"job-{'started' if job.state is JobState.RUNNING else job.state}", job)
        await self._forget_oldest()
        async with self._changed:
            self._changed.notify_all()

    async def _write(self, job: Job) -> None:
        try:
            await self._store.write_documents(DOCUMENTS, {job.job_id: job.as_dict()})
        except StoreError as e:
            log.warning("the job %s is not written down: %s", job, e)

    async def _forget_oldest(self) -> None:
        over = [job.job_id for job in self._jobs.values() if job.state.is_over]
        stale = over[: max(0, len(over) - MAX_OVER)]
        for job_id in stale:
            del self._jobs[job_id]
        if stale:
            with contextlib.suppress(StoreError):
                await self._store.write_documents(DOCUMENTS, {}, stale)

    def _tell(self, event: str, job: Job) -> None:
        kind = self._kinds.get(job.kind)
        about = {"model_id": job.subject} if kind is not None and kind.model_events else {}
        self._publish(
            event,
            job_id=job.job_id,
            kind=job.kind,
            subject=job.subject,
            reason=job.reason or job.progress.text,
            progress=dataclasses.asdict(job.progress),
            **about,
        )

    def change(self, job_id: str, change: Callable[[Job], Job]) -> None:
        """For a job's own run: what it says of itself."""
        self._jobs[job_id] = change(self._jobs[job_id])

    async def checkpoint(self, job_id: str, checkpoint: Mapping[str, Any]) -> None:
        """For a job's own run: what it would go on from."""
        self.change(job_id, lambda job: dataclasses.replace(job, checkpoint=dict(checkpoint)))
        await self._write(self._jobs[job_id])

    def now(self) -> float:
        """Seconds since 1970."""
        return self._now()


class RunningJob:
    """The ``Context`` of one run."""

    def __init__(self, jobs: Jobs, job_id: str) -> None:
        self._jobs = jobs
        self._job_id = job_id

    def __repr__(self) -> str:
        return f"<RunningJob {self.job}>"

    @property
    def job(self) -> Job:
        return self._jobs.get(self._job_id)

    def progress(
        self, done: float, total: float | None = None, unit: str = "", text: str = ""
    ) -> None:
        progress = Progress(done, total, unit, text)
        self._jobs.change(self._job_id, lambda job: dataclasses.replace(job, progress=progress))

    def log(self, text: str) -> None:
        now = self._jobs.now()
        self._jobs.change(self._job_id, lambda job: job.logged(now, text))

    async def save(self, checkpoint: Mapping[str, Any]) -> None:
        await self._jobs.checkpoint(self._job_id, checkpoint)
