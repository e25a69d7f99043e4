"""Commands on breakers: who fails, and gets no requests for it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import RenderableType

from modelpool_client import _calls as calls
from modelpool_client.cli import render
from modelpool_client.cli.session import session
from modelpool_client.reports import Breaker

BreakerId = Annotated[
    str, typer.Argument(metavar="ID", help="As the list shows it: worker:MODEL, upstream:NAME.")
]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the app."""
    breakers = typer.Typer(help="Who fails, and gets no requests for it.")
    breakers.command("list")(list_)
    breakers.command("reset")(reset)
    app.add_typer(breakers, name="breakers", no_args_is_help=True)


def list_(ctx: typer.Context) -> None:
    """List the breakers of workers and servers elsewhere that something failed at lately."""
    _show(ctx, calls.breakers())


def reset(ctx: typer.Context, breaker: BreakerId) -> None:
    """Close a breaker: whoever is behind it is asked again."""
    _show(ctx, calls.reset_breaker(breaker))


def _show(ctx: typer.Context, call: calls.Call[list[Breaker]]) -> None:
    s = session(ctx)
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: _table(call.parse(document)))


def _table(breakers: list[Breaker]) -> RenderableType:
    if not breakers:
        return "all breakers are closed: nothing failed lately"
    rows = [(b.breaker, b.state, "yes" if b.is_shut_out else "no", b.reason) for b in breakers]
    return render.table(("BREAKER", "STATE", "SHUT OUT", "WHY"), rows)
