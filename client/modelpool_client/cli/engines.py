"""Commands on engines: what this machine can use, and installing what it lacks."""

from __future__ import annotations

from typing import Annotated

import typer

from modelpool_client import _calls as calls
from modelpool_client.cli import render
from modelpool_client.cli.jobs import begin
from modelpool_client.cli.session import session
from modelpool_client.reports import JobView

engines_app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    help="List the engines, and install what they need.",
)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the app."""
    app.add_typer(engines_app, name="engines")


@engines_app.callback()
def list_engines(
    ctx: typer.Context,
    all_: Annotated[bool, typer.Option("--all", help="Those for tests and trials, too.")] = False,
    refresh: Annotated[bool, typer.Option("--refresh", help="Let the pool look again.")] = False,
) -> None:
    """List the engines, and what to do for those that are not usable; or install one."""
    if ctx.invoked_subcommand is not None:
        return
    s, call = session(ctx), calls.engines(all_, refresh)
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: render.engines_table(call.parse(document)))


@engines_app.command()
def install(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of an engine or an environment.")],
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for it.")] = False,
) -> None:
    """Make the virtual environment of an engine, or one of the configuration, on the pool's
    machine. What was begun and ended is gone on with."""
    begin(session(ctx), calls.create_job("install", {"name": name}), detach, installed_text)


def installed_text(job: JobView) -> str:
    """What an install has made."""
    usable = ", ".join(job.result.get("usable", ())) or "none: `poolctl engines` says why"
    return f"environment {job.subject} is there; engines that can be used in it: {usable}"
