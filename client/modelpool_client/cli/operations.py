"""Commands for those who run the pool: plan, history, restart."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from modelpool_client import _calls as calls
from modelpool_client.cli import render
from modelpool_client.cli.models import Model, Models
from modelpool_client.cli.session import Session, session

plan_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Show what would happen, without doing it."
)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the app."""
    app.add_typer(plan_app, name="plan")
    for command in (history, restart):
        app.command()(command)


@plan_app.command("load")
def plan_load(ctx: typer.Context, models: Models) -> None:
    """Show what loading a model, or several as one, would do: evictions, bytes, or why it would
    wait."""
    s = session(ctx)
    if len(models) > 1:
        _plan_set(s, models)
        return
    call = calls.plan(models[0])
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: render.plan_text(call.parse(document)))


def _plan_set(s: Session, models: list[str]) -> None:
    call = calls.plan_set(models)
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: render.set_plan(call.parse(document)))


def history(
    ctx: typer.Context,
    model: Model,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=1000, help="How many.")] = 50,
    before: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Older ones: see next_before in --json.")
    ] = None,
) -> None:
    """Show what happened to a model, newest first, also before the last restarts."""
    s, call = session(ctx), calls.history(model, limit, before)
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: render.history_table(call.parse(document).events))


def restart(
    ctx: typer.Context,
    wait: Annotated[
        float | None,
        typer.Option(min=0, max=3600, help="Seconds for requests under way to end, then cut."),
    ] = None,
) -> None:
    """Replace the manager by a fresh one; workers go on and are adopted (1: one is lost)."""
    s = session(ctx)
    with s.client() as pool:
        done = pool.restart(wait)
    s.show(asdict(done), lambda: render.restart_text(done))
    if done.lost:
        raise typer.Exit(1)
