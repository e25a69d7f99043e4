"""Commands on outcomes: how good answers were that ``auto`` chose a model for."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import RenderableType

from modelpool_client import _calls as calls
from modelpool_client.cli import render
from modelpool_client.cli.session import refuse, session
from modelpool_client.reports import OutcomeReport

DecisionId = Annotated[
    str,
    typer.Argument(metavar="ID", help="As the answer's header x-modelpool-decision-id tells it."),
]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the app."""
    outcomes = typer.Typer(help="How good the answers of auto were, and what that has taught.")
    outcomes.command("report")(report)
    outcomes.command("list")(list_)
    outcomes.command("forget")(forget)
    app.add_typer(outcomes, name="outcomes", no_args_is_help=True)


def report(
    ctx: typer.Context,
    decision_id: DecisionId,
    good: Annotated[
        bool | None,
        typer.Option("--good/--bad", help="Whether the answer was.", show_default=False),
    ] = None,
    score: Annotated[
        float | None, typer.Option("--score", min=0, max=1, help="How good it was, 0 to 1.")
    ] = None,
) -> None:
    """Say how good an answer was; each decision's counts once."""
    if (good is None) == (score is None):
        raise refuse("say --good, --bad or --score N, one of them")
    s, call = session(ctx), calls.report_outcome(decision_id, score, good)
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: call.parse(document).message)


def list_(ctx: typer.Context) -> None:
    """List what outcomes have taught of models at kinds of work."""
    s, call = session(ctx), calls.outcomes()
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: _table(call.parse(document)))


def forget(
    ctx: typer.Context,
    model: Annotated[
        str | None, typer.Option("--model", help="Of this one only; left out: of all.")
    ] = None,
) -> None:
    """Forget what outcomes have taught."""
    s, call = session(ctx), calls.forget_outcomes(model)
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: f"forgotten: {call.parse(document)}")


def _table(found: OutcomeReport) -> RenderableType:
    if not found.is_on:
        return "outcomes do not count here; `poolctl config set learn_from_outcomes=true` lets them"
    if not found.learned:
        return "nothing was learned yet"
    rows = [(t.model, t.task_type, f"{t.offset:+.4f}", str(t.outcomes)) for t in found.learned]
    return render.table(("MODEL", "TASK", "SKILL", "OUTCOMES"), rows)
