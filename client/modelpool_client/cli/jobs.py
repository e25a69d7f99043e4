"""Commands on jobs, and how every command that begins one shows it until it is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from modelpool_client import _calls as calls
from modelpool_client._sync import PoolClient
from modelpool_client.cli import render
from modelpool_client.cli.session import AT_ONCE, PATIENT, Session, session
from modelpool_client.reports import JobView

WATCH_SECONDS = 1.0

JobId = Annotated[str, typer.Argument(metavar="JOB", help="A job's id.")]

jobs_app = typer.Typer(
    invoke_without_command=True, rich_markup_mode=None, help="List and drive what takes long."
)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the app."""
    app.add_typer(jobs_app, name="jobs")


@jobs_app.callback()
def list_jobs(
    ctx: typer.Context,
    kind: Annotated[str | None, typer.Option(help="Only of this kind.")] = None,
    state: Annotated[str | None, typer.Option(help="Only in this state.")] = None,
) -> None:
    """List the jobs, newest first; or do something about one."""
    if ctx.invoked_subcommand is not None:
        return
    s, call = session(ctx), calls.jobs(kind, state)
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: jobs_table(call.parse(document)))


@jobs_app.command()
def show(ctx: typer.Context, job: JobId) -> None:
    """Show one job with its log."""
    s, call = session(ctx), calls.job(job)
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: job_details(call.parse(document)))


@jobs_app.command()
def watch(ctx: typer.Context, job: JobId) -> None:
    """Follow a job until it rests or is over (1: it has not succeeded)."""
    s = session(ctx)
    with s.client(PATIENT) as pool:
        finish(s, follow(s, pool, pool.job(job)), lambda done: f"{done.job_id} has succeeded")


@jobs_app.command()
def cancel(ctx: typer.Context, job: JobId) -> None:
    """End a job. What it has done stays for `poolctl jobs resume`."""
    _change(ctx, job, "cancel")


@jobs_app.command()
def pause(ctx: typer.Context, job: JobId) -> None:
    """Let a job rest until `poolctl jobs resume`."""
    _change(ctx, job, "pause")


@jobs_app.command()
def resume(ctx: typer.Context, job: JobId) -> None:
    """Begin a job again where it was."""
    _change(ctx, job, "resume")


@jobs_app.command()
def remove(ctx: typer.Context, job: JobId) -> None:
    """Forget a job that is over."""
    s = session(ctx)
    with s.client() as pool:
        document = pool.fetch(calls.remove_job(job))
    s.show(document, lambda: f"{job} is forgotten")


def _change(ctx: typer.Context, job: str, action: str) -> None:
    s, call = session(ctx), calls.change_job(job, action)
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: f"{job} is {call.parse(document).state}")


def begin(
    s: Session, call: calls.Call[JobView], detach: bool, done: Callable[[JobView], Any]
) -> None:
    """For every command that begins a job: follow it to its end and show what ``done`` makes of it;
    with ``detach`` only say which one it is."""
    with s.client(PATIENT) as pool:
        document = pool.fetch(call, AT_ONCE)
        job = call.parse(document)
        if detach:
            next_step = f"`poolctl jobs watch {job.job_id}` shows it"
            s.show(document, lambda: f"{job.job_id} is {job.state}; {next_step}")
            return
        finish(s, follow(s, pool, job), done)


def follow(s: Session, pool: PoolClient, job: JobView) -> JobView:
    """The job when it rests or is over. Meanwhile a terminal shows how far it is; who interrupts
    this leaves the job alone."""
    try:
        with _bar(s, job) as update:
            while job.is_active:
                update(job)
                job = pool.job(job.job_id, WATCH_SECONDS)
            update(job)
    except KeyboardInterrupt:
        s.console(stderr=True).print(
            f"{job.job_id} goes on; `poolctl jobs watch {job.job_id}` shows it,"
            f" `poolctl jobs cancel {job.job_id}` ends it"
        )
        raise
    return job


def finish(s: Session, job: JobView, done: Callable[[JobView], Any]) -> None:
    """Show the end of a job; exit with 1 where that is no success."""
    s.show(asdict(job), lambda: done(job) if job.has_succeeded else _ending(job))
    if not job.has_succeeded:
        raise typer.Exit(1)


def _ending(job: JobView) -> str:
    step = f"; `poolctl jobs resume {job.job_id}` goes on" if job.state == "paused" else ""
    return f"{job.job_id} {job.kind} {job.subject}: {job.state}: {job.reason}{step}"


@contextmanager
def _bar(s: Session, job: JobView) -> Iterator[Callable[[JobView], None]]:
    console = s.console(stderr=True)
    if not console.is_terminal or s.is_json:
        yield lambda _: None
        return
    what, is_bytes = TextColumn("{task.description}", markup=False), job.kind == "pull"
    speed = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()) if is_bytes else ()
    with Progress(BarColumn(30), *speed, what, console=console, transient=True) as bar:
        task = bar.add_task(job.kind, total=None)

        def update(now: JobView) -> None:
            text = render.clean(now.progress.text or now.reason or now.state)
            bar.update(
                task, total=now.progress.total, completed=now.progress.done, description=text
            )

        yield update


def jobs_table(jobs: list[JobView]) -> Table | str:
    """One line per job."""
    if not jobs:
        return "no jobs"
    rows = ((j.job_id, j.subject, j.state, progress_text(j)) for j in jobs)
    return render.table(("JOB", "SUBJECT", "STATE", "PROGRESS"), rows)


def progress_text(job: JobView) -> str:
    """How far it is, or why it is no farther."""
    if job.is_active or job.state == "paused":
        share = "" if job.progress.fraction is None else f"{job.progress.fraction:.0%} "
        return share + (job.progress.text or job.reason)
    return job.reason


def job_details(job: JobView) -> Table:
    """All that is known of one job, then its log."""
    facts = {
        "job": job.job_id,
        "kind": job.kind,
        "subject": job.subject,
        "state": job.state,
        "why": job.reason,
        "progress": progress_text(job) if job.is_active else "",
        "created": job.created_at,
        "started": job.started_at,
        "ended": job.ended_at,
        "attempts": job.attempts,
        **{f"asked for {key}": value for key, value in job.params.items()},
        **job.result,
        "log": "\n".join(f"{line.get('at')} {line.get('text')}" for line in job.log),
    }
    return render.pairs({key: value for key, value in facts.items() if value not in ("", None)})
