"""Commands about what passed: usage and cost, and the last requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.table import Table

from modelpool_client import _calls as calls
from modelpool_client.cli import render
from modelpool_client.cli.session import refuse, session
from modelpool_client.reports import (
    CapturedMessage,
    CaptureView,
    RequestDetails,
    RequestPage,
    RequestView,
    UsageReport,
    UsageView,
)

requests_app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    help="Show the last requests that are over; capture what is said in them.",
)
TIME_HELP = "A day (2026-05-31), a time as ISO 8601, in UTC, or seconds since 1970."


def add_to(app: typer.Typer) -> None:
    """Add these commands to the app."""
    app.command()(usage)
    app.add_typer(requests_app, name="requests")


def usage(
    ctx: typer.Context,
    by: Annotated[str, typer.Option(help="Any of model, day and hour, with commas.")] = "model,day",
    since: Annotated[str | None, typer.Option(help=TIME_HELP)] = None,
    until: Annotated[str | None, typer.Option(help=TIME_HELP)] = None,
    model: Annotated[str | None, typer.Option(help="Only of this one.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Show requests, tokens (of prompts, of them cached, of answers) and cost, newest first."""
    s = session(ctx)
    if as_csv:
        with s.client() as pool:
            typer.echo(pool.fetch(calls.usage_csv(by, since, until, model)), nl=False)
        return
    call = calls.usage(by, since, until, model)
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: usage_table(call.parse(document)))


@requests_app.callback()
def requests(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Option(help="Only of this model, or by this name.")] = None,
    status: Annotated[str | None, typer.Option(help="As 404, or a kind: 4xx.")] = None,
    errors: Annotated[bool, typer.Option("--errors", help="Only what failed.")] = False,
    since: Annotated[str | None, typer.Option(help=TIME_HELP)] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=1000, help="How many.")] = 50,
) -> None:
    """Show the last requests that are over, newest first: times, tokens, errors; or more of one."""
    if ctx.invoked_subcommand is not None:
        return
    conditions: dict[str, Any] = {"model": model, "status": status, "since": since, "limit": limit}
    s, call = session(ctx), calls.requests({**conditions, "errors": "true" if errors else None})
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: requests_table(call.parse(document)))


@requests_app.command()
def show(
    ctx: typer.Context,
    number: Annotated[int, typer.Argument(metavar="NUMBER", min=1, help="From the list.")],
    curl: Annotated[
        bool, typer.Option("--curl", help="Only the command that asks the same again.")
    ] = False,
) -> None:
    """Show one request; what was said in it, where that was captured."""
    s, call = session(ctx), calls.request(number)
    with s.client() as pool:
        document = pool.fetch(call)
    found = call.parse(document)
    if curl:
        command = found.content.curl if found.content is not None else None
        if command is None:
            raise refuse(f"request {number} cannot be asked again: {_why_no_curl(found)}")
        s.show({"curl": command}, lambda: command)
    else:
        s.show(document, lambda: request_text(found))


@requests_app.command()
def capture(
    ctx: typer.Context,
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="Only of these.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="It ends by itself after that.")] = 10.0,
    body_bytes: Annotated[
        int | None, typer.Option(min=256, max=65_536, help="Kept of each body, at most.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="End it, and forget what it kept.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Only say whether it is on.")] = False,
) -> None:
    """Keep what is said in requests for some minutes, without keys; only in the pool's memory."""
    s = session(ctx)
    if off:
        call = calls.stop_capture()
    elif status:
        call = calls.capture()
    else:
        call = calls.start_capture(minutes, models or None, body_bytes)
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: capture_text(call.parse(document)))


def capture_text(capture: CaptureView) -> str:
    """Whether it is on, and what there is."""
    known = f"what was said in {capture.captured:,} requests is known"
    if not capture.on:
        return f"nothing is captured; {known}"
    whose = "all models" if capture.models is None else ", ".join(capture.models)
    left = f"{capture.seconds_left / 60:.1f} min"
    return f"what is said to {whose} is captured for {left} more; {known}"


def request_text(request: RequestDetails) -> str:
    """Its facts, and request and answer as they were."""
    facts = " ".join(_request(request))
    content = request.content
    if content is None:
        return f"{facts}\nwhat was said was not captured (`poolctl requests capture`)"
    parts = [facts, f"{content.method} {content.target}", *_message(content.request)]
    parts += ["", f"answered {request.status}", *_message(content.answer)]
    return "\n".join(parts)


def _message(message: CapturedMessage) -> list[str]:
    heads = [f"{name}: {value}" for name, value in message.headers.items()]
    note = [] if message.is_whole else [f"(not all of {message.size_bytes:,} bytes)"]
    return [*heads, "", message.body, *note]


def _why_no_curl(request: RequestDetails) -> str:
    if request.content is None:
        return "it was not captured (`poolctl requests capture`)"
    return (
        "not all of it was kept (`poolctl requests capture --body-bytes 65536`), or keys were cut"
    )


def usage_table(report: UsageReport) -> Table | str:
    """A line for each row, and one for all of them in each currency."""
    if not report.rows:
        return "nothing was used in that time"
    head = [part.upper() for part in report.by]
    figures = ("REQUESTS", "ERRORS", "IN", "CACHED", "OUT", "COST")
    rows = [[*_named(row, report.by), *_figures(row)] for row in report.rows]
    if len(report.rows) > 1 and head:
        blank = [""] * (len(head) - 1)
        rows += [["in all", *blank, *_figures(row)] for row in report.totals]
    return render.table((*head, *figures), rows)


def requests_table(page: RequestPage) -> Table | str:
    """A line for each."""
    if page.log == "off":
        return "no requests are logged: request_log is off"
    if not page.requests:
        return "no such request is in the log"
    head = ("TIME", "MODEL", "STATUS", "FIRST", "TOTAL", "TOKENS", "NO", "SURFACE")
    table = render.table(head, [_line(each) for each in page.requests])
    # Date and time below each other, each whole, as codes of errors are.
    table.columns[0].min_width = 8
    return table


def _named(row: UsageView, by: Sequence[str]) -> list[str]:
    return [str(getattr(row, part) or "-") for part in by]


def _figures(row: UsageView) -> list[str]:
    about = "~" if row.estimated_requests else ""
    tokens = (row.prompt_tokens, row.cached_tokens, row.completion_tokens)
    cost = f"{row.cost:,.4f} {row.currency}" if row.cost else "-"
    return [f"{row.requests:,}", f"{row.errors:,}", *(f"{about}{n:,}" for n in tokens), cost]


def _line(request: RequestView) -> tuple[str, ...]:
    *facts, surface = _request(request)
    facts[2] = facts[2].replace(" ", "\n")
    mark = "*" if request.captured else ""
    return (*facts, f"{request.number}{mark}", surface.removeprefix("/v1/"))


def _request(request: RequestView) -> tuple[str, ...]:
    first = request.first_token_seconds
    about = "~" if request.tokens_estimated else ""
    return (
        render.local_time(request.at),
        request.model_id or request.model,
        " ".join(filter(None, (str(request.status), request.code))),
        "-" if first is None else f"{first:.2f}s",
        f"{request.seconds:.2f}s",
        f"{about}{request.prompt_tokens:,} + {request.completion_tokens:,}",
        request.surface,
    )
