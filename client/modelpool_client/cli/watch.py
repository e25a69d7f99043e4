"""Commands that follow what happens: logs and events."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from modelpool_client import _calls as calls
from modelpool_client.cli import render
from modelpool_client.cli.models import Model
from modelpool_client.cli.session import AT_ONCE, PATIENT, session


def add_to(app: typer.Typer) -> None:
    """Add these commands to the app."""
    for command in (logs, events):
        app.command()(command)


def logs(
    ctx: typer.Context,
    model: Model,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="And what comes.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many.")] = 100,
) -> None:
    """Show a model's log. With --json one object per line. -f outlives a restart."""
    s = session(ctx)
    with s.client(PATIENT) as pool:
        pool.fetch(calls.health(), AT_ONCE)
        for line in pool.logs(model, lines, follow):
            s.line({"model_id": model, "line": line}, line)


def events(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Option(help="Only this model's.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="ID", help="First those after this one.")
    ] = None,
    limit: Annotated[int | None, typer.Option("-n", min=1, help="Stop after so many.")] = None,
) -> None:
    """Show what happens in the pool, as it happens. With --json one event per line."""
    s = session(ctx)
    with s.client(PATIENT) as pool:
        pool.fetch(calls.health(), AT_ONCE)
        for event in islice(pool.events(model, since), limit):
            s.line({"id": event.id, "event": event.event, **event.data}, render.event_line(event))
