"""Look for models on the pool's disk."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Group, RenderableType

from modelpool_client import _calls as calls
from modelpool_client._calls import Call
from modelpool_client.cli import render
from modelpool_client.cli.jobs import begin
from modelpool_client.cli.session import session
from modelpool_client.reports import FindingView, Found, JobView, RootView

SHOWN = 1000
COUNTED = ("models", "companions", "broken", "unsettled", "duplicates")


def add_to(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(discover)


def discover(
    ctx: typer.Context,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATH]...", help="Folders or files; none: all that are known."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Their layout, where it cannot be told by looking.")
    ] = None,
    restore: Annotated[
        bool, typer.Option("--restore", help="Bring back models that were deleted.")
    ] = False,
    broken: Annotated[
        bool, typer.Option("--broken", help="Do not look: show what is broken, and why.")
    ] = False,
    known: Annotated[
        bool, typer.Option("--list", help="Do not look: show where, and what was found.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Only begin: do not wait for its end.")
    ] = False,
) -> None:
    """Look for models on the disk; they are in the catalog afterwards."""
    if broken or known:
        s, call = session(ctx), calls.found("broken" if broken else None, SHOWN)
        with s.client() as pool:
            document = pool.fetch(call)
        s.show(document, lambda: _found(call, document, broken))
        return
    begin(session(ctx), calls.discover(paths or (), source, restore), detach, looked)


def looked(job: JobView) -> str:
    """What came of a look."""
    result = job.result
    news = ", ".join(
        f"{result.get(name, 0)} {name}" for name in ("discovered", "changed", "vanished")
    )
    there = ", ".join(f"{result[name]} {name}" for name in COUNTED if result.get(name))
    failed = [f"{path} {reason}" for path, reason in dict(result.get("failed", {})).items()]
    more = ["`poolctl discover --broken` shows why"] if result.get("broken") else []
    return "\n".join([f"{news}; there: {there or 'nothing'}", *failed, *more])


def _found(call: Call[Found], document: object, only_broken: bool) -> RenderableType:
    found = call.parse(document)
    if only_broken:
        return broken_table(found.findings)
    return Group(roots_table(found.roots), findings_table(found.findings))


def roots_table(roots: tuple[RootView, ...]) -> RenderableType:
    """One line per folder that is looked through."""
    rows = ((r.path, r.source or "", r.state, r.looked_at or "", r.reason) for r in roots)
    return render.table(("PATH", "LAYOUT", "STATE", "LOOKED AT", "WHY"), rows)


def findings_table(findings: tuple[FindingView, ...]) -> RenderableType:
    """One line per path."""
    rows = ((f.model_id or f.companion or f.kind, f.format or "", f.path) for f in findings)
    return render.table(("MODEL", "FORMAT", "PATH"), rows)


def broken_table(findings: tuple[FindingView, ...]) -> RenderableType:
    """One line per path that is no model."""
    if not findings:
        return "nothing is broken"
    return render.table(("PATH", "WHY"), ((f.path, f.reason) for f in findings))
