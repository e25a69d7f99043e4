"""Commands that measure models, find options for them by trying, and show and set options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from modelpool_client import _calls as calls
from modelpool_client.cli import render
from modelpool_client.cli.files import assignments
from modelpool_client.cli.jobs import begin
from modelpool_client.cli.models import Model
from modelpool_client.cli.session import session
from modelpool_client.reports import JobView, ModelOptions

Detach = Annotated[bool, typer.Option("--detach", help="Do not wait for the end of the job.")]
Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait until nobody else is at work.")]

# What people read, in their order.
FIGURES = {
    "first_token_ms": "first token, ms",
    "prompt_per_second": "prompt, tokens/s",
    "output_per_second": "output, tokens/s",
    "texts_per_second": "texts/s",
    "tokens_per_second": "tokens/s",
    "latency_ms": "latency, ms",
}


class Goal(StrEnum):
    """What is to be faster."""

    FIRST_TOKEN = "first-token"
    ONE_STREAM = "one-stream"
    MANY_STREAMS = "many-streams"


def add_to(app: typer.Typer) -> None:
    """Add these commands to the app."""
    for command in (bench, tune, options):
        app.command()(command)


def bench(
    ctx: typer.Context,
    model: Model,
    runs: Annotated[int, typer.Option(min=1, max=50, help="Runs at each number of streams.")] = 3,
    streams: Annotated[
        list[int] | None, typer.Option(min=1, max=64, help="At a time; repeatable. [1, 4, 8]")
    ] = None,
    texts: Annotated[
        list[int] | None,
        typer.Option(min=1, max=256, help="In a request to embed or rank; repeatable. [1, 8, 32]"),
    ] = None,
    wait: Wait = 60.0,
    detach: Detach = False,
) -> None:
    """Measure how fast a model is here, and compare with the last time."""
    body: dict[str, Any] = {"testCount": runs, "wait_seconds": wait}
    body |= {"streams": streams} if streams else {}
    body |= {"texts": texts} if texts else {}
    begin(session(ctx), calls.profile(model, body), detach, bench_report)


def tune(
    ctx: typer.Context,
    model: Model,
    goal: Annotated[Goal, typer.Option(help="What is to be faster.")] = Goal.MANY_STREAMS,
    budget: Annotated[float, typer.Option(min=1, help="Seconds to try options for.")] = 600.0,
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Try none but this; repeatable.")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Forget what was found.")] = False,
    wait: Wait = 60.0,
    detach: Detach = False,
) -> None:
    """Find better load options by trying them; they count from the next load on."""
    s = session(ctx)
    if undo:
        with s.client() as pool:
            document = pool.fetch(calls.untune(model))
        s.show(document, lambda: _undone(model, document))
        return
    body: dict[str, Any] = {"goal": str(goal), "budget_seconds": budget, "wait_seconds": wait}
    body |= {"options": option} if option else {}
    begin(s, calls.tune(model, body), detach, tune_report)


def options(
    ctx: typer.Context,
    model: Model,
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="Options to save.")
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Remove a saved one; repeatable.")
    ] = None,
) -> None:
    """Show a model's load options and where each comes from; or save some."""
    s = session(ctx)
    asked = {**assignments(changes or []), **dict.fromkeys(unset or [])}
    call = calls.options(model, asked or None)
    with s.client() as pool:
        document = pool.fetch(call)
    s.show(document, lambda: options_table(call.parse(document)))


def _undone(model: str, document: Mapping[str, Any]) -> str:
    former = document.get("undone")
    if not former:
        return f"{model} was not tuned"
    return f"{model} is loaded without {_assigned(former['options'])} from the next load on"


def _assigned(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items()) or "the defaults"


def bench_report(job: JobView) -> Group:
    """The figures of a job that has measured, beside those of the time before."""
    profile = job.result["profile"]
    rows = list(_rows(profile["levels"], job.result.get("changes", ())))
    of_texts = ("TEXTS",) if any(level.get("texts") for level in profile["levels"]) else ()
    head = ("STREAMS", *of_texts, "FIGURE", "MEDIAN", "LOW", "HIGH", "SINCE THE LAST TIME")
    memory = sum(profile["memory_bytes"].values()) / 1e6
    load = profile["load_seconds"]
    loaded = f", loaded in {load:.1f} s" if load is not None else ""
    about = profile["conditions"]
    line = (
        f"{job.subject}: {memory:,.0f} MB{loaded}; {profile['requests']} requests,"
        f" {profile['failed']} failed; {about['engine']} {about['engine_version']},"
        f" {profile['prompt_tokens']} tokens"
        + (" a text" if of_texts else f" in, {profile['output_tokens']} out")
    )
    return Group(render.table(head, rows), Text(render.clean(line)))


def _rows(levels: Any, changes: Any) -> Iterator[tuple[str, ...]]:
    known = {(row["streams"], row.get("texts", 0), row["figure"]): row for row in changes}
    for level in levels:
        for name, title in FIGURES.items():
            if (found := level.get(name)) is not None:
                figures = (f"{found[key]:,.1f}" for key in ("median", "low", "high"))
                texts = level.get("texts", 0)
                change = known.get((level["streams"], texts, name))
                at = (str(level["streams"]), *((str(texts),) if texts else ()))
                yield (*at, title, *figures, _change(change))


def _change(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    return f"{row['change']:+.1%}" + (" (noise)" if row["is_noise"] else "")


def tune_report(job: JobView) -> str:
    """What a job that has tried options found."""
    found = job.result
    lines = [f"{job.subject}, {found['goal']}: {found['reason']} ({found['pairs']} pairs)"]
    if found["is_better"]:
        lines.append(
            f"{_assigned(found['options'])}: {found['gain']:.3f} x the defaults"
            f" ({found['low']:.3f} to {found['high']:.3f}), from the next load on;"
            f" `poolctl tune {job.subject} --undo` takes it back"
        )
    lines += [
        f"not tried: {_assigned(each['options'])}: {each['not_tried']}"
        for each in found["tried"]
        if "not_tried" in each
    ]
    return "\n".join(lines)


def options_table(found: ModelOptions) -> Group | Table:
    """One line per option."""
    head = ("OPTION", "DEFAULT", "TUNED", "SAVED", "IN FORCE", "FROM")
    rows = (
        (o.name, *map(_shown, (o.default, o.tuned, o.saved, o.effective)), o.source)
        for o in found.options
    )
    notes = [found.message]
    if found.tuned is not None:
        gain, goal = found.tuned.get("gain", 1.0), found.tuned.get("goal", "")
        why = found.tuned_unused or found.tuned_doubtful
        notes.append(f"tuned for {goal}: {gain:.3f} x the defaults" + (f"; {why}" if why else ""))
    text = "\n".join(note for note in notes if note)
    table = render.table(head, rows)
    return Group(table, Text(render.clean(text))) if text else table


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)
