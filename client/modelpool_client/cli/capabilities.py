"""Commands on what models can do: what is known of it, and finding it out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from modelpool_client import _calls as calls
from modelpool_client.cli import render
from modelpool_client.cli.jobs import begin
from modelpool_client.cli.models import Model
from modelpool_client.cli.session import session
from modelpool_client.reports import CapabilityDecision, CapabilityReport, JobView


def add_to(app: typer.Typer) -> None:
    """Add these commands to the app."""
    app.command()(capabilities)
    app.command()(probe)


def capabilities(ctx: typer.Context, model: Model) -> None:
    """Show what a model can do and what it cannot, who says so, and why."""
    s, call = session(ctx), calls.capabilities(model)
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: report(call.parse(document)))


def probe(
    ctx: typer.Context,
    model: Model,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="CAPABILITY", help="Find out only this.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for it.")] = False,
) -> None:
    """Find out what a model can do by asking it; loads it if need be."""
    call = calls.create_job("probe", {"model": model, "capabilities": only or []})
    begin(session(ctx), call, detach, outcomes)


def report(found: CapabilityReport) -> Group | str:
    """What it can do, then what is ruled out, then probes that hold no more."""
    if not (found.found or found.ruled_out):
        return f"nothing is known of what {found.model_id} can do; `poolctl probe` finds it out"
    parts: list[Table | Text] = []
    for title, decisions in (("CAN", found.found), ("CANNOT", found.ruled_out)):
        if decisions:
            parts.append(render.table((title, "SURE", "BY", "WHY"), _rows(decisions)))
    stale = ", ".join(p.capability for p in found.probes if p.is_stale)
    if stale:
        parts.append(Text(f"probed before its files, options or engine changed: {stale}"))
    return Group(*parts)


def _rows(decisions: Iterable[CapabilityDecision]) -> Iterable[tuple[str, str, str, str]]:
    for d in decisions:
        others = [f for f in d.also if f.source != d.source]
        also = "; ".join(f"{f.source}: {'yes' if f.is_able else 'no'}, {f.reason}" for f in others)
        yield d.capability, d.certainty, d.source, f"{d.reason} ({also})" if also else d.reason


def outcomes(job: JobView) -> Table:
    """How a probe went, a line for each capability."""
    found = job.result.get("capabilities", {})
    rows = (
        (name, r["outcome"], f"{r['milliseconds']:,.0f} ms", r["reason"])
        for name, r in found.items()
    )
    return render.table(("CAPABILITY", "OUTCOME", "TOOK", "WHY"), rows)
